"""`make bench`: what a thousand checks cost on their whole way, from the table to the app's acceptance.

20 tenants with 50 services each on a healthy nginx, over HTTP and over HTTPS: one cold round and warm ones. Counts that are
not as they must be fail the command; processor time never does, since machines differ.
"""

import os
import statistics
from collections import Counter

from bench.behaviour import Kind
from bench.report import Progress, measured_on, publish, table
from bench.stage import Stage, check_services, empty_folder, judge, require
from bench.targets import Targets, install
from bench.ticks import Fleet, Round, Slots
from processes import Processes

TENANTS, SERVICES = 20, 50
# Issue 6: CPU seconds per 1,000 checks, and MiB.
AIMS = {Kind.HTTP: 0.12, Kind.HTTPS: 0.42}
PEAK_AIM_MIB = 40
ADDRESSES = 128


def expected_calls(tenants: int, is_cold: bool) -> Counter:
    """What a round in which nothing changes may ask of AWS."""
    calls = Counter({"Query of the index": 1, "Query": tenants, "UpdateItem": tenants})
    if is_cold:
        calls["Decrypt"] = tenants
    return calls


def run_round(stage: Stage, fleet: Fleet, tenants: list, tick: int, is_cold: bool) -> Round:
    """One round, judged. Raises Failed when a count is wrong."""
    done = fleet.run(tick)
    received = stage.receivers.received()
    own = {tenant.id for tenant in tenants}
    done.received = [call for call in received["calls"] if call["tenantId"] in own]
    problems = judge(tenants, received, tick)
    expected = expected_calls(len(tenants), is_cold)
    if done.calls != expected:
        problems.append(f"calls {dict(done.calls)} instead of {dict(expected)}")
    by_tenant = {entry["tenantId"]: entry["statuses"] for entry in received["stored"]}
    for tenant in tenants:
        alive = sum(status == "ALIVE" and not held for _, status, held, _ in by_tenant[tenant.id])
        if alive != len(tenant.services):
            problems.append(f"tenant {tenant.id}: {alive} of {len(tenant.services)} services alive")
    require(problems)
    return done


def measure(rounds: int) -> dict[Kind, list[Round]]:
    """One cold round and so many warm ones of each kind, in turn."""
    folder = empty_folder("bench")
    with Processes() as processes:
        install(processes, "nginx")
        stage = Stage(processes, folder, check_services(processes), Targets(processes, folder, ADDRESSES, 0))
        kinds = list(AIMS)
        tenants = {kind: stage.register(kind.value, [kind] * TENANTS * SERVICES, SERVICES) for kind in kinds}
        progress = Progress((rounds + 1) * len(kinds))
        slots = Slots()
        results: dict[Kind, list[Round]] = {kind: [] for kind in kinds}
        with stage.fleet(kinds[0].value) as first, stage.fleet(kinds[1].value) as second:
            for number in range(rounds + 1):
                tick = slots.next(progress.waiting)
                for kind, fleet in zip(kinds, (first, second)):
                    done = run_round(stage, fleet, tenants[kind], tick, number == 0)
                    results[kind].append(done)
                    progress.say(f"{kind}: {done.cpu_s:.2f} CPU-s, {done.wall_s:.1f} s", is_step=True)
        progress.end()
    return results


def markdown(results: dict[Kind, list[Round]]) -> str:
    head = ["", "CPU-s per 1,000 checks, warm", "aim", "cold", "peak MiB", "aim", "seconds a round takes"]
    http = results[Kind.HTTP]
    return "\n\n".join(
        [
            measured_on(),
            f"{TENANTS} tenants with {SERVICES} services each; median and range of {len(http) - 1} warm rounds.",
            table(head, [cpu_row(kind, *rounds) for kind, rounds in results.items()]),
            calls_table(cold=http[0], warm=http[-1]),
        ]
    )


def cpu_row(kind: Kind, cold: Round, *warm: Round) -> list[str]:
    thousands_of_checks = TENANTS * SERVICES / 1000
    cpu = sorted(done.cpu_s / thousands_of_checks for done in warm)
    median = statistics.median(cpu)
    peak = max(done.peak_mib for done in (cold, *warm))
    return [
        kind.upper(),
        f"**{median:.3f}** ({cpu[0]:.3f} to {cpu[-1]:.3f})",
        f"{AIMS[kind]:.2f}: {'reached' if median <= AIMS[kind] else 'missed'}",
        f"{cold.cpu_s / thousands_of_checks:.3f}",
        f"{peak:.1f}",
        f"{PEAK_AIM_MIB}: {'reached' if peak <= PEAK_AIM_MIB else 'missed'}",
        f"{statistics.median(done.wall_s for done in warm):.1f}",
    ]


def calls_table(cold: Round, warm: Round) -> str:
    """What was counted; the same for HTTP and HTTPS, or the command has failed."""
    rows = [["Query of the index, per round", cold.calls["Query of the index"], warm.calls["Query of the index"]]]
    for title, call in [
        ("Query", "Query"),
        ("UpdateItem", "UpdateItem"),
        ("Decrypt (KMS)", "Decrypt"),
        ("PutEvents (EventBridge)", "PutEvents"),
    ]:
        rows.append([title, *[f"{done.calls[call] / TENANTS:g}" for done in (cold, warm)]])
    rows.append(["callbacks", *[f"{len(done.received) / TENANTS:g}" for done in (cold, warm)]])
    return table(["calls per tenant and round", "cold", "warm"], rows)


def main() -> None:
    publish("bench", markdown(measure(int(os.environ.get("ROUNDS", "5")))))

