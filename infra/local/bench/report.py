"""What a measurement prints: a bar while it runs, markdown when it is done, which it also puts into docs/performance.md."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import settings

DOCUMENT = settings.ROOT / "docs" / "performance.md"
BAR = 30


class Progress:
    """One line that grows on a terminal; elsewhere a line for each step."""

    def __init__(self, steps: int):
        self.steps = steps
        self.done = 0

    def say(self, text: str, is_step: bool = False) -> None:
        self.done += is_step
        if sys.stdout.isatty():
            full = BAR * self.done // self.steps
            print(f"\r\033[K[{'#' * full}{'.' * (BAR - full)}] {self.done}/{self.steps} {text}", end="", flush=True)
        elif is_step:
            print(f"[{self.done}/{self.steps}] {text}", flush=True)

    def waiting(self, seconds: float) -> None:
        self.say(f"waiting {seconds:.0f} s for the next slot")

    def end(self) -> None:
        if sys.stdout.isatty():
            print()


def table(head: list[str], rows: list[list]) -> str:
    """A markdown table; everything but the first column is aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def measured_on() -> str:
    """When, which code, and on what."""
    processors = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.+)", processors)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=settings.ROOT, capture_output=True, text=True).stdout.strip() or "unknown"
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    kind = model.group(1) if model else "an unknown processor"
    which = "a given binary" if os.environ.get("CHECK_SERVICES_BINARY") else f"commit {commit}"
    return f"Measured on {day}, {which}, {os.cpu_count()} cores of {kind}."


def publish(section: str, markdown: str) -> None:
    """Prints, and replaces what docs/performance.md has between this section's markers."""
    print(f"\n{markdown}\n", flush=True)
    begin, end = f"<!-- {section}: written by the command -->", f"<!-- end of {section} -->"
    text = DOCUMENT.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise LookupError(f"docs/performance.md has no place for {section}")
    DOCUMENT.write_text(pattern.sub(lambda _: f"{begin}\n{markdown}\n{end}", text))


def thousands(number: float) -> str:
    return f"{number:,.0f}"
