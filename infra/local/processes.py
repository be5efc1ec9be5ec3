"""Starts child processes, and ends every one of them however this program ends.

Each child is the leader of a session of its own, so that its own children end with it, and a Ctrl-C in the terminal
reaches this program alone, which then ends them in order.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

GRACE_SECONDS = 10


class Failed(Exception):
    """A step failed; the text is for the user."""


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What a server does: otherwise connections in TIME_WAIT from the last run look like a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """The children of this run. Use as a context manager; leaving it ends them, the last started first."""

    def __init__(self) -> None:
        self.running: list[tuple[str, subprocess.Popen]] = []
        self.ended = False

    def __enter__(self) -> "Processes":
        # SIGINT too: a shell starts background jobs with it ignored, and Python then leaves it so.
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, self.interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave half of them running; each is given up on after GRACE_SECONDS anyway.
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        self.end_all()

    def end_all(self) -> None:
        """Ends every child. From now on none can be started, by this thread or another."""
        self.ended = True
        while self.running:
            self.stop(*self.running.pop())

    @staticmethod
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def start(
        self,
        name: str,
        command: list,
        environment: dict[str, str],
        log: Path | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen:
        """Starts a server. Its output goes to `log`, or to this terminal without one."""
        if self.ended:
            raise Failed(f"{name} is not started any more")
        output = None
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            output = log.open("ab")
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        if output:
            output.close()
        self.running.append((name, process))
        return process

    def run(
        self,
        name: str,
        command: list,
        environment: dict[str, str],
        cwd: Path | None = None,
        log: Path | None = None,
    ) -> None:
        """Runs a step to its end; its output goes to this terminal, or to the end of `log`. Raises Failed when it fails."""
        if self.ended:
            raise Failed(f"{name} is not started any more")
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("ab")) if log else None
            process = subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        self.running.append((name, process))
        code = process.wait()
        if (name, process) in self.running:
            self.running.remove((name, process))
        if code:
            raise Failed(f"{name} failed with exit code {code}: {' '.join(map(str, command))}")

    @staticmethod
    def stop(name: str, process: subprocess.Popen) -> None:
        """Ends a child and everything it started."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                break
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{name} did not end within {GRACE_SECONDS} s; killed", file=sys.stderr)
        # The leader may be gone while a child of it lives on.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def end(self, process: subprocess.Popen) -> None:
        """Ends one server before the others."""
        for entry in self.running:
            if entry[1] is process:
                self.running.remove(entry)
                self.stop(*entry)
                return

    def check(self) -> None:
        """Raises Failed when a server has ended by itself."""
        for name, process in self.running:
            if process.poll() is not None:
                raise Failed(f"{name} ended with exit code {process.returncode}")

    def wait_for(self, name: str, url: str, seconds: float = 60) -> None:
        """Waits until `url` answers anything at all over HTTP."""
        parts = urlsplit(url)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
            try:
                connection.request("GET", parts.path or "/")
                connection.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()
        raise Failed(f"{name} did not answer at {url} within {seconds:.0f} s")
