"""How much is to be done, and what came of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    folder: Path
    worlds: int
    seed: int
    # Kills that are tried at a tick, at least and at most.
    kills_per_tick: tuple[int, int]
    # Whether enough has been done; asked before each tick.
    enough: Callable[["Figures", int], bool]
    tenants: int = 2
    services: int = 4


@dataclass
class Figures:
    """What all worlds together did and found."""

    kills: Counter = field(default_factory=Counter)
    ticks: int = 0
    runs: int = 0
    changes: int = 0
    applied: int = 0
    told_again: int = 0
    problems: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    def print(self) -> None:
        rows = [
            ("kills", sum(self.kills.values())),
            ("  between commit and send", self.kills["between commit and send"]),
            ("  between acceptance and acknowledgement", self.kills["between acceptance and acknowledgement"]),
            ("  at random moments", self.kills["random"]),
            ("ticks", self.ticks),
            ("runs of check-services", self.runs),
            ("transitions that happened", self.changes),
            ("transitions that the app stored", self.applied),
            ("transitions told again and stored once", self.told_again),
            ("lost", len(self.lost)),
            ("doubled", len(self.doubled)),
            ("other problems", len(self.problems)),
        ]
        for name, number in rows:
            print(f"{name:<45} {number:>6}", flush=True)
        for line in self.lost + self.doubled + self.problems:
            print(f"  {line}", flush=True)
