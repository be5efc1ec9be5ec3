"""`make bench-peers`: the same targets checked by check-services and by Debian's prometheus-blackbox-exporter, side by side.

Rounds alternate. Each checker has one core to itself; targets, local AWS, apps and the program that asks the exporter have the other.
check-services does its whole work (table, signatures, callbacks); the exporter only probes.
"""

import asyncio
import os
import random
import statistics
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import debian
import settings
from bench import plot
from bench.behaviour import Kind
from bench.check_path import ADDRESSES, SERVICES, TENANTS, run_round
from bench.report import Progress, measured_on, publish, table
from bench.stage import Stage, check_services, empty_folder, judge, require
from bench.targets import Targets, install
from bench.tenants import Tenant
from bench.ticks import Fleet, Slots
from lambda_process import cpu_seconds
from processes import Failed, Processes, free_port

# Issue 6: at least so many times less CPU.
AIMS = {Kind.HTTP: 5.0, Kind.HTTPS: 3.5}
EXPORTER = "prometheus-blackbox-exporter"
# Probes at once that the exporter is asked for.
CONCURRENCY = 50
TIMEOUT_S = 5
CHECKER_CORE, OTHER_CORE = 0, 1
HANGING_PERCENT = 5
# A new connection for each probe, HTTP/1.1 and the certificate verified: as check-services does.
MODULES = """modules:
  probe:
    prober: http
    timeout: {timeout}s
    http:
      preferred_ip_protocol: ip4
      enable_http2: false
      tls_config:
        ca_file: {authority}
"""


class Exporter:
    """The exporter, running on its core."""

    def __init__(self, processes: Processes, folder: Path, authority: Path):
        self.port = free_port()
        configuration = folder / "blackbox.yml"
        configuration.write_text(MODULES.format(timeout=TIMEOUT_S, authority=authority))
        command = ["taskset", "-c", CHECKER_CORE, debian.find(EXPORTER), f"--config.file={configuration}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--timeout-offset=0"]
        self.process = processes.start(EXPORTER, command, settings.function_environment(), folder / "blackbox.log")
        processes.wait_for(EXPORTER, f"http://127.0.0.1:{self.port}/-/healthy")

    def run(self, urls: list[str]) -> tuple[float, float, int]:
        """Probes every URL once. Returns CPU seconds, wall seconds and how many succeeded."""
        cpu, began = cpu_seconds(self.process.pid), time.monotonic()
        good = asyncio.run(self.ask_all(urls))
        return cpu_seconds(self.process.pid) - cpu, time.monotonic() - began, good

    async def ask_all(self, urls: list[str]) -> int:
        waiting = iter(urls)
        return sum(await asyncio.gather(*(self.ask_in_turn(waiting) for _ in range(CONCURRENCY))))

    async def ask_in_turn(self, waiting) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        good = 0
        for url in waiting:
            query = urllib.parse.urlencode({"target": url, "module": "probe"})
            writer.write(f"GET /probe?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            good += b"probe_success 1" in await read_answer(reader)
        writer.close()
        return good


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """The body of one answer, with its length told in either way."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length:" in head:
        return await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


@dataclass
class Results:
    """CPU seconds per 1,000 checks by kind, and the seconds until the last healthy endpoint had been asked."""

    ours: dict[Kind, list[float]] = field(default_factory=lambda: {kind: [] for kind in AIMS})
    peer: dict[Kind, list[float]] = field(default_factory=lambda: {kind: [] for kind in AIMS})
    # By (checker, whether some hang).
    last_healthy_s: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    # Until the last report of a tenant without hanging services, when one tenant has all of them.
    last_report_s: dict[bool, list[float]] = field(default_factory=dict)


class Comparison:
    """Both checkers and their targets."""

    def __init__(self, processes: Processes, rounds: int):
        # Everything that is started from here on inherits it.
        os.sched_setaffinity(0, {OTHER_CORE})
        folder = empty_folder("bench-peers")
        self.rounds = rounds
        self.targets = Targets(processes, folder, ADDRESSES, ADDRESSES // 2, access_log=True)
        self.stage = Stage(processes, folder, check_services(processes), self.targets)
        self.exporter = Exporter(processes, folder, self.targets.authority.file)
        self.results = Results()
        self.progress = Progress(rounds * (2 * len(AIMS) + 5))
        self.slots = Slots()

    def fleet(self, table_name: str) -> Fleet:
        return self.stage.fleet(table_name, prefix=("taskset", "-c", str(CHECKER_CORE)))

    def run(self) -> Results:
        self.compare_cpu()
        self.compare_hanging()
        self.progress.end()
        return self.results

    def compare_cpu(self) -> None:
        count = TENANTS * SERVICES
        tenants = {kind: self.stage.register(f"cpu-{kind}", [kind] * count, SERVICES) for kind in AIMS}
        with self.fleet("cpu-http") as http, self.fleet("cpu-https") as https:
            fleets = {Kind.HTTP: http, Kind.HTTPS: https}
            for number in range(self.rounds + 1):
                tick = self.slots.next(self.progress.waiting)
                for kind, fleet in fleets.items():
                    done = run_round(self.stage, fleet, tenants[kind], tick, number == 0)
                    cpu, _, good = self.exporter.run([self.targets.url(kind, n) for n in range(count)])
                    if good != count:
                        raise Failed(f"the exporter found {good} of {count} healthy targets alive")
                    # The first round is cold for both.
                    if number:
                        self.results.ours[kind].append(done.cpu_s / count * 1000)
                        self.results.peer[kind].append(cpu / count * 1000)
                        self.progress.say(f"{kind}: check-services {done.cpu_s:.2f}", is_step=True)
                        self.progress.say(f"{kind}: exporter {cpu:.2f} CPU-s", is_step=True)

    def compare_hanging(self) -> None:
        """With and without hanging targets: spread over all tenants, and all of them one tenant's."""
        count = TENANTS * SERVICES
        every = 100 // HANGING_PERCENT
        kinds = {
            "none": [Kind.HTTP] * count,
            "spread": [Kind.HANGING if n % every == 0 else Kind.HTTP for n in range(count)],
            "one-tenant": [Kind.HANGING] * SERVICES + [Kind.HTTP] * (count - SERVICES),
        }
        tenants = {name: self.stage.register(f"hanging-{name}", of, SERVICES) for name, of in kinds.items()}
        slots = Slots()
        fleets = {name: self.fleet(f"hanging-{name}") for name in kinds}
        try:
            for number in range(self.rounds + 1):
                tick = slots.next(self.progress.waiting)
                for name, fleet in fleets.items():
                    self.compare_once(name, fleet, tenants[name], tick, number > 0)
        finally:
            for fleet in fleets.values():
                fleet.__exit__()

    def compare_once(self, name: str, fleet: Fleet, tenants: list[Tenant], tick: int, is_counted: bool) -> None:
        hangs = name != "none"
        began = time.time()
        done = fleet.run(tick)
        ours = self.last_request_s(began)
        received = self.stage.receivers.received()
        require(judge(tenants, received, tick))
        healthy = {t.id for t in tenants if not any(s.kind is Kind.HANGING for s in t.services)}
        reports = [(call["at"] - done.began_ms) / 1000 for call in received["calls"] if call["tenantId"] in healthy]
        if not is_counted:
            return
        self.progress.say(f"hanging {name}: check-services asked the last healthy one after {ours:.2f} s", is_step=True)
        if name == "one-tenant":
            self.results.last_report_s.setdefault(True, []).append(max(reports))
            return
        if name == "none":
            self.results.last_report_s.setdefault(False, []).append(max(reports))
        self.results.last_healthy_s.setdefault(("check-services", hangs), []).append(ours)
        urls = [service.url for tenant in tenants for service in tenant.services]
        # No order of ours: hanging ones come as they come.
        random.Random(tick).shuffle(urls)
        began = time.time()
        self.exporter.run(urls)
        peer = self.last_request_s(began)
        self.results.last_healthy_s.setdefault((EXPORTER, hangs), []).append(peer)
        self.progress.say(f"hanging {name}: exporter after {peer:.2f} s", is_step=True)

    def last_request_s(self, began: float) -> float:
        """When nginx answered the last request since then, in seconds after it."""
        with self.targets.requests.open("rb") as log:
            log.seek(-200, os.SEEK_END)
            return float(log.read().splitlines()[-1].split()[0]) - began


def markdown(results: Results) -> str:
    count = len(results.ours[Kind.HTTP])
    return "\n\n".join(
        [
            measured_on(),
            f"Median and range of {count} rounds of {TENANTS * SERVICES:,} checks, alternating.",
            table(["CPU-s per 1,000 checks", "check-services", EXPORTER, "times less", "aim"], cpu_rows(results)),
            table(["seconds until", "none hang", f"{HANGING_PERCENT} % hang"], hanging_rows(results)),
        ]
    )


def cpu_rows(results: Results) -> list[list[str]]:
    rows = []
    for kind, aim in AIMS.items():
        ours, peer = results.ours[kind], results.peer[kind]
        ratios = [theirs / own for own, theirs in zip(ours, peer)]
        verdict = "reached" if statistics.median(ratios) >= aim else "missed"
        rows.append([kind.upper(), spread(ours), spread(peer), f"**{spread(ratios, 1)}**", f"{aim:g}: {verdict}"])
    return rows


def hanging_rows(results: Results) -> list[list[str]]:
    rows = [
        [f"{name} has asked every healthy target", *[spread(results.last_healthy_s[(name, hangs)]) for hangs in (False, True)]]
        for name in ("check-services", EXPORTER)
    ]
    reports = [spread(results.last_report_s[hangs]) for hangs in (False, True)]
    return [*rows, ["check-services has reported to all tenants but the one that has all that hang", *reports]]


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def main() -> None:
    with Processes() as processes:
        install(processes, "nginx", EXPORTER)
        results = Comparison(processes, int(os.environ.get("ROUNDS", "5"))).run()
    publish("peers", markdown(results))
    plot.cpu_beside_peers([(kind.upper(), results.ours[kind], results.peer[kind]) for kind in AIMS])
