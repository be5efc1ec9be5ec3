"""Runs ticks: waits for their slots, hands events to warm processes, and counts what each tick took."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import settings
from bench.calls import CountedAws
from lambda_process import FunctionFailed, Invocation, LambdaProcess
from processes import Failed
from watch import tick_event

PERIOD_S = 60
# A tick may be run from a minute before it begins until two periods after (shared/domain/src/tick.rs), and so may each range that
# it hands on: the last one is left for ranges that wait for a process.
EARLY_S, LATE_S = 59, PERIOD_S
POLL_S = 0.005
# No round takes so long that this would cut it off; a program that hangs does.
ROUND_S = 300


class Slots:
    """Ticks one after the other, each as soon as it may be run."""

    def __init__(self) -> None:
        self.last = 0

    def next(self, waiting: Callable[[float], None]) -> int:
        """The start of the next slot, in seconds since 1970. `waiting` is told every second how long it still takes."""
        now = time.time()
        oldest = int(now - LATE_S) // PERIOD_S * PERIOD_S + PERIOD_S
        self.last = max(self.last + PERIOD_S, oldest)
        while (left := self.last - EARLY_S - time.time()) > 0:
            waiting(left)
            time.sleep(min(1, left))
        return self.last


@dataclass
class Round:
    """What one tick took."""

    tick: int
    # Milliseconds since 1970.
    began_ms: int
    wall_s: float
    cpu_s: float
    # From the event to the answer, for every invocation.
    invocations_s: list[float]
    calls: Counter
    log_bytes: int
    peak_mib: float
    # Filled in from what the receivers say.
    received: list[dict] = field(default_factory=list)

    def lateness_s(self) -> list[float]:
        """From the start of the round to the arrival of each tenant's UPDATE, ascending."""
        return sorted((call["at"] - self.began_ms) / 1000 for call in self.received)


class Fleet:
    """Warm processes of check-services. Ranges that one hands on go to whichever is free, as Lambda would have it."""

    def __init__(
        self, binary: Path, environment: dict[str, str], calls: CountedAws, log: Path, most: int = 1, prefix: tuple = ()
    ):
        self.binary, self.environment, self.prefix = binary, environment, prefix
        self.calls, self.log, self.most = calls, log, most
        self.idle: list[LambdaProcess] = []
        self.busy: dict[LambdaProcess, tuple[Invocation, float]] = {}
        log.touch()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.idle, *self.busy]:
            process.__exit__()

    def run(self, tick: int) -> Round:
        """One tick with everything that it hands on. Raises Failed when an invocation fails."""
        self.calls.take()
        log_bytes = self.log.stat().st_size
        before = {process: process.cpu_seconds() for process in self.idle}
        waiting = deque([tick_event(datetime.fromtimestamp(tick, UTC))])
        took = []
        began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
        while waiting or self.busy:
            while waiting and (process := self.free()):
                self.busy[process] = (process.start(waiting.popleft()), time.monotonic())
            time.sleep(POLL_S)
            took += self.collect()
            while not self.calls.ranges.empty():
                waiting.append(range_event(self.calls.ranges.get()))
            if time.monotonic() - began > ROUND_S:
                raise Failed(f"a round took more than {ROUND_S} s; see {self.log}")
        wall_s = time.monotonic() - began
        cpu_s = sum(process.cpu_seconds() - before.get(process, 0.0) for process in self.idle)
        peak = max(process.peak_mib() for process in self.idle)
        log_bytes = self.log.stat().st_size - log_bytes
        return Round(tick, began_ms, wall_s, cpu_s, took, self.calls.take(), log_bytes, peak)

    def free(self) -> LambdaProcess | None:
        if self.idle:
            return self.idle.pop()
        if len(self.busy) < self.most:
            return LambdaProcess(self.binary, self.environment, self.log, self.prefix)
        return None

    def collect(self) -> list[float]:
        done = [(process, *entry) for process, entry in self.busy.items() if entry[0].settled.is_set()]
        for process, invocation, _ in done:
            del self.busy[process]
            self.idle.append(process)
            try:
                invocation.answer()
            except FunctionFailed as error:
                raise Failed(f"check-services failed: {error}; see {self.log}") from error
        return [time.monotonic() - start for _, _, start in done]


def range_event(detail: dict) -> dict:
    """The event that the rule on the bus would send."""
    event = tick_event(datetime.now(UTC))
    return event | {"detail-type": "CheckRange", "source": "forge-health", "region": settings.REGION, "detail": detail}
