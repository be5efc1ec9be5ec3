"""Runs a function's binary as Lambda does: a process that asks a Runtime API for its events, and stays warm between them.

Our own Runtime API rather than the local AWS's: only the program that starts the process can measure it, or kill it at a chosen
instant. Not here: retries, and everything that the API has for extensions.
"""

import http.server
import json
import os
import queue
import re
import subprocess
import threading
import time
import uuid
from pathlib import Path

import settings

API = "/2018-06-01/runtime"


class FunctionFailed(Exception):
    """The function reported an error, or ended by itself."""


class Invocation:
    """One event and what became of it."""

    def __init__(self, event: dict, timeout_s: float):
        self.id = str(uuid.uuid4())
        self.event = json.dumps(event).encode()
        self.deadline_ms = int((time.time() + timeout_s) * 1000)
        self.result: object = None
        self.error: str | None = None
        self.settled = threading.Event()

    def settle(self, result: object = None, error: str | None = None) -> None:
        self.result, self.error = result, error
        self.settled.set()

    def answer(self, seconds: float = 60) -> object:
        """What the function returned. Raises FunctionFailed."""
        if not self.settled.wait(seconds):
            raise FunctionFailed(f"no answer within {seconds:.0f} s")
        if self.error is not None:
            raise FunctionFailed(self.error)
        return self.result


class LambdaProcess:
    """One process of a function, one event at a time. Use as a context manager: leaving it kills the process."""

    def __init__(self, binary: Path, environment: dict[str, str], log: Path, prefix: tuple[str, ...] = ()):
        """`prefix` is put before the command, like ("taskset", "-c", "0"); it must replace itself by the binary."""
        self.events: queue.Queue[Invocation | None] = queue.Queue()
        self.current: Invocation | None = None
        self.api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.api.daemon_threads = True
        threading.Thread(target=self.api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        about = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": binary.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{binary.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*prefix, binary], env=environment | about, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        threading.Thread(target=self.reap, daemon=True).start()

    def __enter__(self) -> "LambdaProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.events.put(None)
        self.api.shutdown()
        self.api.server_close()

    def start(self, event: dict, timeout_s: float = 300) -> Invocation:
        """Hands an event out as soon as the process asks for one."""
        invocation = self.current = Invocation(event, timeout_s)
        self.events.put(invocation)
        if self.process.poll() is not None:
            invocation.settle(error=f"had ended with exit code {self.process.returncode}")
        return invocation

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, in steps of 0.01."""
        return cpu_seconds(self.process.pid)

    def peak_mib(self) -> float:
        """The most memory that was resident at once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024

    def reap(self) -> None:
        code = self.process.wait()
        if self.current and not self.current.settled.is_set():
            self.current.settle(error=f"ended by itself with exit code {code}")
        self.events.put(None)

    def handler(self) -> type:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it each answer waits for the acknowledgement of its head.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if self.path != f"{API}/invocation/next":
                    return self.reply(404)
                invocation = host.events.get()
                if invocation is None:
                    self.close_connection = True
                    return None
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": invocation.id,
                    "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:local",
                    "Content-Type": "application/json",
                }
                return self.reply(200, invocation.event, headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                invocation = host.current
                if invocation and self.path == f"{API}/invocation/{invocation.id}/response":
                    invocation.settle(result=json.loads(body or b"null"))
                elif invocation and self.path in (f"{API}/invocation/{invocation.id}/error", f"{API}/init/error"):
                    invocation.settle(error=body.decode(errors="replace"))
                else:
                    return self.reply(404)
                return self.reply(202)

            def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    # The process was killed in the middle of a request.
                    pass

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far, in seconds."""
    # The name in parentheses may hold anything; the numbers follow the last one.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def built_binary(environment: dict[str, str], name: str, profile: str) -> Path:
    """Where cargo puts a binary of the workspace. `environment` as settings.build_environment() makes it."""
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    text = subprocess.run(metadata, env=environment, cwd=settings.ROOT, check=True, capture_output=True, text=True).stdout
    return Path(json.loads(text)["target_directory"]) / environment["CARGO_BUILD_TARGET"] / profile / name
