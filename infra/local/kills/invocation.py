"""Runs a function's binary as Lambda does, for one invocation: a process of its own that asks a Runtime API for its event.

Our own Runtime API rather than the local AWS's: only whoever starts the process can kill it at a chosen instant.
Deliberately absent: warm starts, retries, and everything that the API has for extensions.
"""

import http.server
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

API = "/2018-06-01/runtime"


class FunctionFailed(Exception):
    """The function reported an error, or ended by itself."""


class Invocation:
    """One event in a fresh process. Use as a context manager: leaving it kills the process if it still runs."""

    def __init__(self, binary: Path, environment: dict[str, str], event: dict, log: Path, timeout_s: int = 300):
        self.id = str(uuid.uuid4())
        self.event = json.dumps(event).encode()
        self.deadline_ms = int((time.time() + timeout_s) * 1000)
        self.result: object = None
        self.error: object = None
        self.settled = threading.Event()
        self.killed = threading.Event()
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
                [binary], env=environment | about, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        threading.Thread(target=self.reap, daemon=True).start()

    def __enter__(self) -> "Invocation":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.api.shutdown()
        self.api.server_close()

    def handler(self) -> type:
        invocation = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            asked = False

            def do_GET(self) -> None:
                if self.path != f"{API}/invocation/next":
                    return self.reply(404)
                if invocation.event is None:
                    # There is no second event: the process waits for one until it is killed.
                    invocation.process.wait()
                    return None
                event, invocation.event = invocation.event, None
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": invocation.id,
                    "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:local",
                    "Content-Type": "application/json",
                }
                return self.reply(200, event, headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == f"{API}/invocation/{invocation.id}/response":
                    invocation.result = json.loads(body or b"null")
                elif self.path in (f"{API}/invocation/{invocation.id}/error", f"{API}/init/error"):
                    invocation.error = body.decode(errors="replace")
                else:
                    return self.reply(404)
                invocation.settled.set()
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

    def reap(self) -> None:
        code = self.process.wait()
        if not self.killed.is_set() and not self.settled.is_set():
            self.error = f"ended by itself with exit code {code}"
        self.settled.set()

    def kill(self) -> None:
        """SIGKILL, now. Has no effect once the function has answered."""
        if self.settled.is_set():
            return
        self.killed.set()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds: float) -> bool:
        """Whether the invocation is over by then: answered, failed or killed."""
        return self.settled.wait(seconds)

    def answer(self, seconds: float = 60) -> object:
        """What the function returned. Raises FunctionFailed."""
        if not self.wait(seconds):
            raise FunctionFailed(f"no answer within {seconds:.0f} s")
        if self.error is not None:
            raise FunctionFailed(str(self.error))
        return self.result
