"""One event in a process of its own, which can be killed at any instant."""

import os
import signal
import threading
from pathlib import Path

from lambda_process import LambdaProcess


class KillableInvocation:
    """One event in a fresh process. Use as a context manager: leaving it kills the process if it still runs."""

    def __init__(self, binary: Path, environment: dict[str, str], event: dict, log: Path):
        self.killed = threading.Event()
        self.host = LambdaProcess(binary, environment, log)
        self.invocation = self.host.start(event)

    def __enter__(self) -> "KillableInvocation":
        return self

    def __exit__(self, *_: object) -> None:
        self.host.__exit__()

    @property
    def error(self) -> str | None:
        return self.invocation.error

    def kill(self) -> None:
        """SIGKILL, now. Has no effect once the function has answered."""
        if self.invocation.settled.is_set():
            return
        self.killed.set()
        os.kill(self.host.process.pid, signal.SIGKILL)
        self.host.process.wait()

    def wait(self, seconds: float) -> bool:
        """Whether the invocation is over by then: answered, failed or killed."""
        return self.invocation.settled.wait(seconds)

    def answer(self, seconds: float = 60) -> object:
        """What the function returned. Raises FunctionFailed."""
        return self.invocation.answer(seconds)
