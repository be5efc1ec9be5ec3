"""Programs from Debian's packages: where they are, and how they are installed when they are not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from processes import Failed

# The package that brings each program.
PACKAGES = {"nginx": "nginx-light", "chromium": "chromium", "prometheus-blackbox-exporter": "prometheus-blackbox-exporter"}


def find(program: str) -> str | None:
    """The program's path. Debian puts servers where only root's PATH looks."""
    if program == "chromium":
        chosen = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        return chosen if Path(chosen).exists() else None
    return shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def install(programs: list[str], run: Callable[[list[str], dict[str, str]], None]) -> None:
    """Installs what is missing. `run` carries a command out, with variables added to its environment. Raises Failed."""
    missing = [PACKAGES[program] for program in programs if not find(program)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Failed(f"missing: sudo apt-get install {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], quiet)
    # Wanted as programs, not as the services that their packages start. Debian's way to say so:
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], quiet)
    finally:
        if ours:
            policy.unlink()
