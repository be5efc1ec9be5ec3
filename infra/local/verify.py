"""`make test`: every stage that must pass. Nothing is skipped."""

import json
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import debian
import settings
from aws import LocalAws
from emulator import ensure_packages
from processes import Failed, Processes, free_port

FOLDER = settings.STATE / "test"
LOCAL = settings.ROOT / "infra" / "local"
PYTHON = settings.ROOT / ".venv-local" / "bin" / "python"
SAM = settings.ROOT / ".venv-sam" / "bin"
LINT = settings.ROOT / ".venv-lint" / "bin"


class Verification:
    """The stages. The first failure ends the run."""

    def __init__(self, processes: Processes):
        self.processes = processes
        self.environment = settings.build_environment()
        self.took: list[tuple[str, float]] = []
        self.printing = threading.Lock()
        # Where the output of the stage of this thread goes; to the terminal in the main thread.
        self.output = threading.local()

    def stage(self, title: str, action) -> None:
        print(f"\n=== {title}", flush=True)
        started = time.monotonic()
        try:
            action()
        except Failed as error:
            raise Failed(f"{title}: {error}") from error
        finally:
            self.took.append((title, time.monotonic() - started))
            with self.printing:
                if log := getattr(self.output, "log", None):
                    print(f"\n=== {title}, output:\n{log.read_text(errors='replace')}", end="")
                print(f"--- {title}: {self.took[-1][1]:.1f} s", flush=True)

    def lane(self, *stages: tuple) -> None:
        """Stages one after the other beside other lanes; what they print is shown when each ends."""
        for title, action in stages:
            self.output.log = FOLDER / f"{title.lower().replace(' ', '-')}.log"
            self.output.log.parent.mkdir(parents=True, exist_ok=True)
            self.output.log.touch()
            self.stage(title, action)

    def run(self, *command: object, cwd=settings.ROOT, environment=None) -> None:
        name = " ".join(Path(str(part)).name for part in command[:2])
        log = getattr(self.output, "log", None)
        self.processes.run(name, list(command), environment or self.environment, cwd, log)

    def debian_packages(self) -> None:
        # The end-to-end tests watch a real nginx, and walk through a real browser.
        debian.install(["nginx", "chromium"], lambda command, more: self.run(*command, environment=self.environment | more))

    def npm_packages(self) -> None:
        ensure_packages(self.processes)

    def rust_lints(self) -> None:
        self.run("cargo", "fmt", "--all", "--check")
        self.run("cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings")

    def rust_build(self) -> None:
        self.run("cargo", "test", "--workspace", "--no-run")
        self.run("cargo", "build", "--workspace", "--bins")

    def rust_tests(self) -> None:
        # The wire tests talk to a DynamoDB, KMS and EventBridge of their own.
        aws = LocalAws(self.processes, FOLDER / "wire", free_port(), keep_state=False)
        server = aws.start()
        try:
            # More than there are processors: most of the tests wait, one of them for minutes.
            self.run("cargo", "test", "--workspace", environment=aws.environment() | {"RUST_TEST_THREADS": "6"})
        finally:
            self.processes.end(server)

    def npm(self, folder: Path, *scripts: str) -> None:
        for script in scripts:
            self.run("npm", "run", script, "--silent", cwd=folder)

    def template(self) -> None:
        self.run(SAM / "sam", "validate", "--lint")
        self.run(LINT / "cfn-lint", "--config-file", "infra/cfn-lint.yaml")
        self.checkov()
        self.pytest("not system and not browser and not kills and not load")

    def checkov(self) -> None:
        report = FOLDER / "checkov.json"
        outputs = ["--output", "cli", "--output", "json", "--output-file-path", f"console,{report}"]
        self.run(LINT / "checkov", "--config-file", "infra/checkov.yaml", "--file", "infra/template.yaml", *outputs)
        # A template that it cannot parse has no findings, and it exits with 0.
        summary = json.loads(report.read_text()).get("summary", {})
        if summary.get("parsing_errors") != 0 or not summary.get("passed"):
            raise Failed(f"checkov checked nothing: {summary}")

    def pytest(self, marks: str) -> None:
        self.run(PYTHON, "-m", "pytest", "-m", marks, cwd=LOCAL)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    started = time.monotonic()
    with Processes() as processes:
        verification = Verification(processes)
        stage, npm, pytest = verification.stage, verification.npm, verification.pytest
        passed = False
        try:
            stage("Debian packages", verification.debian_packages)
            stage("npm packages", verification.npm_packages)
            stage("Rust format and lints", verification.rust_lints)
            stage("Rust build", verification.rust_build)
            # The rest mostly waits: for minutes to begin, for timeouts, for a browser. Beside each other it takes half.
            lanes = [
                [("End to end", lambda: pytest("system"))],
                [
                    ("Rust tests", verification.rust_tests),
                    ("Template and files", verification.template),
                    ("Kill tests", lambda: pytest("kills")),
                ],
                [
                    ("Forge app", lambda: npm(settings.FORGE_APP, "typecheck", "lint", "test", "test:node-versions")),
                    ("Page in a browser", lambda: npm(settings.EMULATOR, "test:page")),
                    ("Load test", lambda: pytest("load")),
                    ("Journey in a browser", lambda: pytest("browser")),
                ],
            ]
            with ThreadPoolExecutor(len(lanes)) as executor:
                running = [executor.submit(verification.lane, *lane) for lane in lanes]
                try:
                    for finished in as_completed(running):
                        finished.result()
                except BaseException:
                    # Without their children the other lanes end as well.
                    processes.end_all()
                    raise
            passed = True
        finally:
            print("\nstage                          seconds")
            for title, seconds in verification.took:
                print(f"{title:<30} {seconds:7.1f}")
            print(f"{'all':<30} {time.monotonic() - started:7.1f}")
            print("PASSED" if passed else "FAILED", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make test: {error}")
    except KeyboardInterrupt:
        sys.exit("make test: interrupted")
