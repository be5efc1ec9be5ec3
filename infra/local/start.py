"""Entry point of `make dev`, `make watch`, `make test` and others: installs the pinned tools into `.venv-*`, then hands over.

Runs on the system's Python with its standard library alone. Not here: anything that talks to the local AWS.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "infra" / "local"

# What each command runs, and the environments it needs. SAM, ministack and checkov pin different botocore versions: kept
# apart.
COMMANDS = {
    "aws": (["serve_aws.py"], ["local"]),
    "dev": (["dev.py"], ["local", "sam"]),
    "watch": (["watch.py"], ["local", "sam"]),
    "test": (["verify.py"], ["local", "sam", "lint"]),
    "chaos": (["chaos.py"], ["local"]),
    "bench": (["measure.py", "bench"], ["local"]),
    "bench-peers": (["measure.py", "bench-peers"], ["local"]),
    "load": (["measure.py", "load"], ["local"]),
    "release": (["release.py"], ["local", "sam"]),
    "bench-start": (["release.py", "bench"], ["local", "sam"]),
}


def missing_prerequisites() -> list[str]:
    """One line for each thing that a user has to install, with the command that does it."""
    lines = []
    if sys.version_info < (3, 11):
        lines.append(f"Python 3.11 or newer (this is {sys.version.split()[0]})")
    if not shutil.which("cargo"):
        lines.append("cargo: install Rust from https://rustup.rs")
    if not shutil.which("cc"):
        lines.append("a C compiler: sudo apt-get install gcc")
    if subprocess.run([sys.executable, "-c", "import venv, ensurepip"], capture_output=True).returncode:
        lines.append("Python's venv: sudo apt-get install python3-venv")
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        lines.append("node 20 or newer with npm: https://nodejs.org")
    else:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
        if int(version.lstrip("v").split(".")[0]) < 20:
            lines.append(f"node 20 or newer (this is {version}): https://nodejs.org")
    return lines


def ensure_venv(name: str) -> None:
    """Makes `.venv-<name>` hold exactly requirements-<name>.txt; does nothing when it does already."""
    requirements = HERE / f"requirements-{name}.txt"
    venv = ROOT / f".venv-{name}"
    stamp = venv / "installed"
    wanted = f"{sys.version} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"==> Installing tools into {venv.name} (once)", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    # --no-deps: the file is complete, and anything it does not name must not be installed.
    subprocess.run(
        [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        + ["-r", requirements],
        check=True,
    )
    stamp.write_text(wanted)


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: start.py {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    (script, *arguments), venvs = COMMANDS[sys.argv[1]]
    if lines := missing_prerequisites():
        for line in lines:
            print(f"Missing: {line}", file=sys.stderr)
        return 1
    try:
        for name in venvs:
            ensure_venv(name)
    except subprocess.CalledProcessError as error:
        print(f"Could not install the tools: {error}", file=sys.stderr)
        return 1
    python = ROOT / ".venv-local" / "bin" / "python"
    os.execv(python, [str(python), str(HERE / script), *arguments])


if __name__ == "__main__":
    sys.exit(main())
