"""`make test`: every stage that must pass, in an order that fails early. Nothing is skipped."""

import os
import shutil
import sys
import time
from pathlib import Path

import settings
from aws import LocalAws
from forge_site import ensure_packages
from processes import Failed, Processes, free_port

FOLDER = settings.STATE / "test"
LOCAL = settings.ROOT / "infra" / "local"
PYTHON = settings.ROOT / ".venv-local" / "bin" / "python"
SAM = settings.ROOT / ".venv-sam" / "bin"
LINT = settings.ROOT / ".venv-lint" / "bin"


class Verification:
    """The stages, run one after the other; the first failure ends the run."""

    def __init__(self, processes: Processes):
        self.processes = processes
        self.environment = settings.build_environment()
        self.took: list[tuple[str, float]] = []

    def stage(self, title: str, action) -> None:
        print(f"\n=== {title}", flush=True)
        started = time.monotonic()
        try:
            action()
        finally:
            self.took.append((title, time.monotonic() - started))
            print(f"--- {title}: {self.took[-1][1]:.1f} s", flush=True)

    def run(self, *command: object, cwd=settings.ROOT, environment=None) -> None:
        name = " ".join(str(part) for part in command[:2])
        self.processes.run(name, list(command), environment or self.environment, cwd)

    def debian_packages(self) -> None:
        # The end-to-end test watches a real nginx.
        if find_nginx():
            return
        if os.geteuid() != 0:
            raise Failed("nginx is missing: sudo apt-get install nginx-light")
        quiet = self.environment | {"DEBIAN_FRONTEND": "noninteractive"}
        self.run("apt-get", "update", "-qq", environment=quiet)
        # The program is wanted, not the service on port 80 that the package would start. Debian's way to say so.
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light", environment=quiet)
        finally:
            if ours:
                policy.unlink()

    def rust_lints(self) -> None:
        self.run("cargo", "fmt", "--all", "--check")
        self.run("cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings")

    def rust_tests(self) -> None:
        # The wire tests talk to a DynamoDB, KMS and EventBridge of their own.
        aws = LocalAws(self.processes, FOLDER / "wire", free_port(), keep_state=False)
        server = aws.start()
        try:
            self.run("cargo", "test", "--workspace", environment=aws.environment())
        finally:
            self.processes.end(server)

    def typescript(self, folder) -> None:
        ensure_packages(self.processes, folder)
        for script in ("typecheck", "lint", "test"):
            self.run("npm", "run", script, "--silent", cwd=folder)

    def template(self) -> None:
        self.run(SAM / "sam", "validate", "--lint")
        self.run(LINT / "cfn-lint", "--config-file", "infra/cfn-lint.yaml")
        self.run(LINT / "checkov", "--config-file", "infra/checkov.yaml", "--file", "infra/template.yaml")
        self.run(PYTHON, "-m", "pytest", "tests/test_template.py", cwd=LOCAL)

    def end_to_end(self) -> None:
        self.run(PYTHON, "-m", "pytest", "tests", "--ignore=tests/test_template.py", cwd=LOCAL)


def find_nginx() -> str | None:
    """The nginx program; Debian puts it where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    started = time.monotonic()
    with Processes() as processes:
        verification = Verification(processes)
        passed = False
        try:
            verification.stage("Debian packages", verification.debian_packages)
            verification.stage("Template", verification.template)
            verification.stage("Forge app", lambda: verification.typescript(settings.FORGE_APP))
            verification.stage("Forge site stand-in", lambda: verification.typescript(settings.FORGE_SITE))
            verification.stage("Rust format and lints", verification.rust_lints)
            verification.stage("Rust tests", verification.rust_tests)
            verification.stage("End to end", verification.end_to_end)
            passed = True
        finally:
            print("\nstage                          seconds")
            for title, seconds in verification.took:
                print(f"{title:<30} {seconds:7.1f}")
            print(f"{'all':<30} {time.monotonic() - started:7.1f}")
            print("PASSED" if passed else f"FAILED: {verification.took[-1][0]}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make test: {error}")
    except KeyboardInterrupt:
        sys.exit("make test: interrupted")
