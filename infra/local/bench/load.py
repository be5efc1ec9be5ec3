"""`make load`: whole rounds of many tenants, a fifth of whose services misbehave, and whether each was told the truth.

Without parameters 100, 1,000 and 10,000 services one after the other, the straight lines through what they took, and what a
hundred times as many would cost. TENANTS, SERVICES (per tenant) and TICKS make it one size, which is only printed.

A false or missed DOWN, a lost or doubled transition, or a wrong number of calls fails the command.
"""

import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench import behaviour, cost, plot
from bench.behaviour import Kind, mixture
from bench.fit import Line, percentile, straight_line
from bench.report import Progress, measured_on, publish, table, thousands
from bench.stage import Stage, check_services, empty_folder, judge
from bench.targets import Targets, install
from bench.tenants import Tenant, table_units
from bench.ticks import Round, Slots
from processes import Failed, Processes

SIZES = (100, 1_000, 10_000)
SERVICES_PER_TENANT = 10
HOSTILE_PERCENT = 20
# From so many tenants on the ranges are cut, so that the fan-out is part of what is measured.
FAN_OUT_FROM_TENANTS, FAN_OUT_SIZE = 1_000, 500
# One for each core of the smallest machine that this is meant for.
PROCESSES = 2
HEALTHY_ADDRESSES, HOSTILE_ADDRESSES = 512, 256
LARGE = (100_000, 1_000_000)


@dataclass
class Truth:
    """What was true at every tick, and what the apps have stored of it."""

    tenants: list[Tenant]
    ticks: list[int] = field(default_factory=list)
    # (tick, service, from, to)
    stored: set[tuple[str, int, str, str, str]] = field(default_factory=set)
    false_down: list[str] = field(default_factory=list)
    missed_down: list[str] = field(default_factory=list)
    # How long healthy services waited for their connection, in whole seconds, over all ticks.
    waits_s: list[float] = field(default_factory=list)
    # Services behind the one shared address that were shown as DOWN after each tick.
    shared_down: list[int] = field(default_factory=list)

    def compare(self, received: dict, tick: int) -> None:
        """Takes in what the apps say after a tick."""
        index = len(self.ticks)
        self.ticks.append(tick)
        shared = {s.id for tenant in self.tenants for s in tenant.services if s.kind is Kind.SHARED}
        statuses = [entry for report in received["stored"] for entry in report["statuses"]]
        self.shared_down.append(sum(service in shared and status == "DOWN" for service, status, *_ in statuses))
        reports = {entry["tenantId"]: entry for entry in received["stored"]}
        for tenant in self.tenants:
            report = reports[tenant.id]
            self.stored |= {(tenant.id, *transition) for transition in report["transitions"]}
            shown = {service: status for service, status, *_ in report["statuses"]}
            self.waits_s += waits_of_healthy(tenant, report["statuses"])
            for service in tenant.services:
                true = behaviour.status(service.kind, service.number, index)
                found = shown.get(service.id)
                at_first = behaviour.status(service.kind, service.number, -1)
                if found == true or (found == at_first and not behaviour.is_due(service.kind, index)):
                    continue
                which = self.missed_down if true == "DOWN" else self.false_down
                which.append(f"{service.kind} {service.number} at tick {index} shown as {found}")

    def expected(self) -> set[tuple[str, int, str, str, str]]:
        return {
            (tenant.id, self.ticks[index], service.id, old, new)
            for tenant in self.tenants
            for service in tenant.services
            for index, old, new in behaviour.transitions(service.kind, service.number, len(self.ticks))
        }

    def lost(self) -> set:
        return self.expected() - self.in_time()

    def doubled(self) -> set:
        return self.in_time() - self.expected()

    def in_time(self) -> set[tuple[str, int, str, str, str]]:
        """What was stored; what may be told a tick later, and was, as if it had been told at once."""
        kinds = {service.id: service.kind for tenant in self.tenants for service in tenant.services}

        def at(tick: int, service: str) -> int:
            earlier = self.ticks.index(tick) - behaviour.FOUND_WITHIN.get(kinds[service], 1) + 1
            return self.ticks[max(0, earlier)]

        return {(tenant, at(tick, service), service, old, new) for tenant, tick, service, old, new in self.stored}

    def changed_tenants(self, index: int) -> int:
        """How many apps were told of a change at this tick."""
        return len({tenant for tenant, tick, *_ in self.stored if tick == self.ticks[index]})


@dataclass
class Size:
    """One size and what came of it."""

    tenants: int
    services: int
    rounds: list[Round]
    truth: Truth
    problems: list[str]
    read_units: float = 0.0
    write_units: float = 0.0
    state_bytes: float = 0.0

    @property
    def total(self) -> int:
        return self.tenants * self.services

    @property
    def shared(self) -> int:
        return sum(service.kind is Kind.SHARED for tenant in self.truth.tenants for service in tenant.services)

    @property
    def later(self) -> list[Round]:
        """Without the first round, in which keys are unwrapped and everything that is down is found out."""
        return self.rounds[1:] or self.rounds

    def median(self, of) -> float:
        return statistics.median(of(done) for done in self.later)

    def lateness(self, percent: float) -> float:
        return percentile(sorted(late for done in self.later for late in done.lateness_s()), percent)

    def failures(self) -> list[str]:
        truth = self.truth
        lines = [f"lost: {entry}" for entry in truth.lost()] + [f"doubled: {entry}" for entry in truth.doubled()]
        lines += [f"false DOWN: {line}" for line in truth.false_down] + [f"missed DOWN: {line}" for line in truth.missed_down]
        return lines + self.problems


def waits_of_healthy(tenant: Tenant, statuses: list[list]) -> list[float]:
    """How much later than the tenant's first check each of its healthy services was asked, in seconds.

    All checks of a tenant begin at once; what lies between is waiting for a connection.
    """
    healthy = {service.id for service in tenant.services if service.kind in (Kind.HTTP, Kind.HTTPS)}
    asked = [(service, at) for service, _, _, at in statuses if at]
    first = min((at for _, at in asked), default=0)
    return [(at - first) / 1000 for service, at in asked if service in healthy]


def expected_calls(truth: Truth, index: int, ranges: int, tenants: int) -> Counter:
    """DynamoDB calls of a round: a second write only where a change was acknowledged."""
    return Counter(
        {"Query of the index": 1 + ranges, "Query": tenants, "UpdateItem": tenants + truth.changed_tenants(index)}
    )


def run_size(
    stage: Stage, tenants: int, services: int, ticks: int, fan_out: int | None, hostile_percent: int, progress: Progress
) -> Size:
    """So many ticks of one size. `fan_out`: at most so many tenants per invocation."""
    name = f"load-{tenants}x{services}"
    progress.say(f"{name}: seeding")
    truth = Truth(stage.register(name, mixture(tenants * services, hostile_percent), services))
    size = Size(tenants, services, [], truth, [])
    changes = {"TENANTS_PER_INVOCATION": str(fan_out)} if fan_out else {}
    slots = Slots()
    with stage.fleet(name, PROCESSES, **changes) as fleet:
        for index in range(ticks):
            tick = slots.next(progress.waiting)
            stage.targets.at_tick(index)
            progress.say(f"{name}: round {index + 1}")
            done = fleet.run(tick)
            received = stage.receivers.received()
            done.received = received["calls"]
            truth.compare(received, tick)
            size.problems += judge(truth.tenants, received, tick)
            ranges = done.calls["event CheckRange"]
            expected = expected_calls(truth, index, ranges, tenants)
            found = Counter({call: done.calls[call] for call in expected})
            if found != expected:
                size.problems.append(f"round {index + 1}: calls {dict(found)} instead of {dict(expected)}")
            if bool(ranges) != bool(fan_out):
                size.problems.append(f"round {index + 1}: {ranges} ranges")
            size.rounds.append(done)
            progress.say(f"{name}: round {index + 1} took {done.wall_s:.1f} s, {done.cpu_s:.2f} CPU-s", is_step=True)
    size.read_units, size.write_units, size.state_bytes = table_units(stage.aws.client("dynamodb"), name)
    return size


def run(
    sizes: list[tuple[int, int, int, int | None]], folder: Path, profile: str = "release", hostile_percent: int = HOSTILE_PERCENT
) -> list[Size]:
    """Sizes as (tenants, services of each, ticks, tenants per invocation)."""
    with Processes() as processes:
        install(processes, "nginx")
        binary = check_services(processes, profile)
        stage = Stage(processes, folder, binary, Targets(processes, folder, HEALTHY_ADDRESSES, HOSTILE_ADDRESSES))
        progress = Progress(sum(ticks for _, _, ticks, _ in sizes))
        try:
            return [run_size(stage, *size, hostile_percent, progress) for size in sizes]
        finally:
            progress.end()


def results_table(sizes: list[Size]) -> str:
    rows: list[list] = []

    def row(title: str, text) -> None:
        rows.append([title, *[text(size) for size in sizes]])

    row("tenants", lambda s: thousands(s.tenants))
    row("seconds a round takes", lambda s: f"{s.median(lambda d: d.wall_s):.1f}")
    row("the first one, which finds out all that is down", lambda s: f"{s.rounds[0].wall_s:.1f}")
    row("CPU seconds per round", lambda s: f"{s.median(lambda d: d.cpu_s):.2f}")
    row("CPU seconds per 1,000 checks", lambda s: f"{s.median(lambda d: d.cpu_s) / s.total * 1000:.3f}")
    row("lateness of a tenant's report, p50, seconds", lambda s: f"{s.lateness(50):.1f}")
    row("p99", lambda s: f"{s.lateness(99):.1f}")
    row("peak MiB of one process", lambda s: f"{max(d.peak_mib for d in s.rounds):.1f}")
    row("invocations per round", lambda s: f"{s.median(lambda d: len(d.invocations_s)):.0f}")
    row("Query per tenant and round", lambda s: f"{s.median(lambda d: d.calls['Query']) / s.tenants:.2f}")
    row("UpdateItem per tenant and round", lambda s: f"{s.median(lambda d: d.calls['UpdateItem']) / s.tenants:.2f}")
    row("callbacks per tenant and round", lambda s: f"{s.median(lambda d: len(d.received)) / s.tenants:.2f}")
    row("Decrypt per tenant in the first round", lambda s: f"{s.rounds[0].calls['Decrypt'] / s.tenants:.2f}")
    row("in the last one", lambda s: f"{s.rounds[-1].calls['Decrypt'] / s.tenants:.2f}")
    row("PutEvents per round", lambda s: f"{s.median(lambda d: d.calls['PutEvents']):.0f}")
    row("log bytes per tenant and round", lambda s: thousands(s.median(lambda d: d.log_bytes) / s.tenants))
    row("STATE bytes per service", lambda s: f"{s.state_bytes:.0f}")
    row("healthy services wait for a connection, p99, seconds", lambda s: f"{percentile(sorted(s.truth.waits_s), 99):.0f}")
    row("services behind one hanging address", lambda s: s.shared)
    row("of them DOWN after one tick", lambda s: s.truth.shared_down[0])
    row("after two", lambda s: s.truth.shared_down[min(1, len(s.rounds) - 1)])
    row("transitions that happened", lambda s: thousands(len(s.truth.expected())))
    row("false DOWNs", lambda s: len(s.truth.false_down))
    row("missed DOWNs", lambda s: len(s.truth.missed_down))
    row("transitions lost", lambda s: len(s.truth.lost()))
    row("transitions doubled", lambda s: len(s.truth.doubled()))
    return table(["services", *[thousands(size.total) for size in sizes]], rows)


def lines_of(sizes: list[Size]) -> cost.Measured:
    def line(of) -> Line:
        return straight_line([(size.total, of(size)) for size in sizes])

    return cost.Measured(
        cpu_s=line(lambda s: s.median(lambda d: d.cpu_s)),
        log_bytes=line(lambda s: s.median(lambda d: d.log_bytes)),
        read_units=line(lambda s: s.read_units),
        write_units=line(lambda s: s.write_units),
    )


def fit_table(measured: cost.Measured) -> str:
    rows = [
        [title, f"{line.fixed:,.3f}", f"{line.each * 1000:,.3f}", f"{line.r2:.5f}"]
        for title, line in [
            ("CPU seconds", measured.cpu_s),
            ("log bytes", measured.log_bytes),
            ("DynamoDB read units", measured.read_units),
            ("DynamoDB write units", measured.write_units),
        ]
    ]
    return table(["per round", "fixed", "per 1,000 services", "R²"], rows)


def cost_table(estimates: list[cost.Estimate]) -> str:
    rows: list[list] = []

    def row(title: str, text) -> None:
        rows.append([title, *[text(e) for e in estimates]])

    row("invocations per round", lambda e: e.invocations_per_round)
    row("CPU seconds per round", lambda e: f"{e.cpu_s_per_round:,.1f}")
    row("billed seconds per invocation", lambda e: f"{e.billed_s_per_invocation:.0f}")
    row("Lambda GB-s a month", lambda e: thousands(e.gb_s))
    row("DynamoDB read units a month, million", lambda e: f"{e.read_units / 1e6:,.1f}")
    row("DynamoDB write units a month, million", lambda e: f"{e.write_units / 1e6:,.1f}")
    row("KMS requests a month, million, at most", lambda e: f"{e.kms_requests / 1e6:,.2f}")
    row("log GB a month", lambda e: f"{e.log_gb:,.1f}")
    row("EventBridge events a month, million", lambda e: f"{e.events / 1e6:,.2f}")
    for name in estimates[0].usd:
        row(f"{name}, USD a month", lambda e, name=name: f"{e.usd[name]:,.2f}")
    row("all, USD a month", lambda e: f"**{e.total_usd:,.2f}**")
    row("USD per million checks (aim: under 0.50)", lambda e: f"**{e.usd_per_million_checks:.3f}**")
    return table(["services", *[thousands(e.services) for e in estimates]], rows)


def main() -> None:
    ticks = int(os.environ.get("TICKS", "4"))
    given = {name: int(os.environ[name]) for name in ("TENANTS", "SERVICES") if name in os.environ}
    if given:
        chosen = [(given.get("TENANTS", 100), given.get("SERVICES", SERVICES_PER_TENANT))]
    else:
        chosen = [(total // SERVICES_PER_TENANT, SERVICES_PER_TENANT) for total in SIZES]
    began = time.monotonic()
    plan = [(tenants, each, ticks, FAN_OUT_SIZE if tenants >= FAN_OUT_FROM_TENANTS else None) for tenants, each in chosen]
    sizes = run(plan, empty_folder("load"))
    results = results_table(sizes)
    if given:
        print(f"\n{results}\n")
    else:
        measured = lines_of(sizes)
        estimates = [cost.estimate(services, measured) for services in (*SIZES, *LARGE)]
        minutes = f"{ticks} rounds of each size, {(time.monotonic() - began) / 60:.0f} minutes in all."
        parts = [f"{measured_on()} {minutes}", results, "The lines through these points:", fit_table(measured)]
        parts += ["What follows for a month of checks every five minutes:", cost_table(estimates)]
        publish("load", "\n\n".join(parts))
        points = [(size.total, done.cpu_s) for size in sizes for done in size.later]
        plot.cpu_over_services(points, measured.cpu_s, LARGE)
    if failures := [line for size in sizes for line in size.failures()]:
        shown = "\n  ".join(failures[:20])
        raise Failed(f"{len(failures)} failures:\n  {shown}")
    print("PASSED")

