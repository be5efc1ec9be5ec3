"""`make release` and `make bench-start`: what AWS would get, checked and measured.

Builds with SAM as a deployment does (release profile, zig as linker), then refuses a binary that needs a newer glibc than
the runtime has. `bench` also starts each function against a Runtime API of its own and prints what a cold start costs.
"""

import http.server
import io
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import settings
from processes import Failed, Processes

BUILT = settings.ROOT / ".aws-sam" / "build"
# provided.al2023 is Amazon Linux 2023, whose glibc is 2.34.
NEWEST_GLIBC = (2, 34)
# What one function may cost at a cold start; the reasons are in docs/operations.md.
LIMITS = {"ready_ms": 15.0, "peak_mb": 12.0, "zipped_mb": 5.0}
MB = 1_000_000
STARTS = 30


def build(processes: Processes) -> dict[str, Path]:
    """Runs `sam build` for AWS. Returns the binary of each function."""
    environment = settings.build_environment()
    # These make the local stack quick and a binary that AWS cannot run.
    for name in ("CARGO_BUILD_TARGET", "CARGO_LAMBDA_COMPILER", "SAM_BUILD_MODE"):
        environment.pop(name, None)
    processes.run("sam build", [settings.ROOT / ".venv-sam" / "bin" / "sam", "build"], environment, settings.ROOT)
    return {folder.name: folder / "bootstrap" for folder in sorted(BUILT.iterdir()) if (folder / "bootstrap").exists()}


def newest_glibc(versions: str) -> tuple[int, int] | None:
    """The oldest glibc that can load a binary, from what `readelf --version-info` says of it; None if it names none."""
    found = [(int(major), int(minor)) for major, minor in re.findall(r"\bGLIBC_(\d+)\.(\d+)", versions)]
    # Marks without a number, for relocations of a new kind. The first of them, GLIBC_ABI_DT_RELR, came with 2.36.
    if re.search(r"\bGLIBC_ABI_", versions):
        found.append((2, 36))
    return max(found, default=None)


def needed_glibc(binary: Path) -> tuple[int, int]:
    text = subprocess.run(
        ["readelf", "--version-info", "--wide", str(binary)], check=True, capture_output=True, text=True
    ).stdout
    if not (version := newest_glibc(text)):
        raise Failed(f"{binary} names no glibc version: is it the dynamically linked binary of a function?")
    return version


def zipped_bytes(binary: Path) -> int:
    """Size of the deployment package with this binary alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(binary, "bootstrap")
    return len(buffer.getvalue())


class RuntimeApi(http.server.ThreadingHTTPServer):
    """As much of Lambda's Runtime API as a function needs to become ready; no event ever comes."""

    daemon_threads = True

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.failure = ""
        super().__init__(("127.0.0.1", 0), RuntimeApiHandler)


class RuntimeApiHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("/runtime/invocation/next"):
            self.server.ready.set()
            # Held until the function is ended; answering would start an invocation.
            self.rfile.read(1)

    def do_POST(self) -> None:
        self.server.failure = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode(errors="replace")
        self.server.ready.set()

    def log_message(self, *_: object) -> None:
        pass


def start_once(binary: Path) -> tuple[float, float]:
    """Starts a function. Returns milliseconds from spawn to its first request for an event, and its peak memory in MB."""
    with RuntimeApi() as api, tempfile.TemporaryFile() as output:
        threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        environment = settings.CREDENTIALS | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "BACKEND_URL": "https://backend.example",
            "BUS_NAME": "bench",
            "CHECK_EVERY_MINUTES": "5",
            "DEPLOYMENT_KEY_ID": "bench",
            "FORGE_APP_PUBLIC_KEY": settings.EXAMPLE_APP_KEY,
            "TABLE_NAME": "bench",
            "WRAPPING_KEY_ID": "bench",
        }
        started = time.perf_counter()
        process = subprocess.Popen([str(binary)], env=environment, stdout=output, stderr=output)
        try:
            ready = api.ready.wait(10)
            took = (time.perf_counter() - started) * 1000
            if not ready or api.failure:
                output.seek(0)
                raise Failed(f"{binary} did not become ready: {api.failure or output.read().decode(errors='replace')}")
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 / MB
        finally:
            process.kill()
            process.wait()
            api.shutdown()
    return took, peak


def main() -> None:
    bench = sys.argv[1:] == ["bench"]
    with Processes() as processes:
        binaries = build(processes)
        if len(binaries) != 4:
            raise Failed(f"expected four functions in {BUILT}, found {sorted(binaries)}")
        problems = []
        print(f"\n{'function':<24}{'glibc':>7}{'zipped MB':>12}" + (f"{'ready ms':>10}{'p95':>7}{'peak MB':>10}" if bench else ""))
        for name, binary in binaries.items():
            glibc = needed_glibc(binary)
            measured = {"zipped_mb": zipped_bytes(binary) / MB}
            line = f"{name:<24}{glibc[0]}.{glibc[1]:<4}{measured['zipped_mb']:>12.2f}"
            if glibc > NEWEST_GLIBC:
                problems.append(f"{name} needs glibc {glibc[0]}.{glibc[1]}, AWS has {NEWEST_GLIBC[0]}.{NEWEST_GLIBC[1]}")
            if bench:
                runs = [start_once(binary) for _ in range(STARTS)]
                times = sorted(took for took, _ in runs)
                measured["ready_ms"] = statistics.median(times)
                measured["peak_mb"] = max(peak for _, peak in runs)
                line += f"{measured['ready_ms']:>10.1f}{times[int(STARTS * 0.95)]:>7.1f}{measured['peak_mb']:>10.1f}"
            print(line, flush=True)
            problems += [
                f"{name}: {value:.1f} exceeds {key} of {LIMITS[key]}" for key, value in measured.items() if value > LIMITS[key]
            ]
        if problems:
            raise Failed("; ".join(problems))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make release: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
