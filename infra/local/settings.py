"""Paths, ports and the environment of every build: the one place where they are decided."""

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "infra" / "template.yaml"
FORGE_APP = ROOT / "forge-app"
EMULATOR = FORGE_APP / "emulator"
# Everything a run leaves behind; ignored by git, `make clean-local` removes it.
STATE = ROOT / ".local"

AWS_PORT = int(os.environ.get("AWS_PORT", "4566"))
EMULATOR_PORT = int(os.environ.get("EMULATOR_PORT", "8900"))
WATCH_PORT = int(os.environ.get("PORT", "8080"))

REGION = "us-east-1"
# The local AWS checks no signature; the SDKs insist on some credentials. Never the user's own.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}

# A public key of a Forge app whose private half is printed in RFC 8037: functions that read hand-offs do not start without one.
EXAMPLE_APP_KEY = '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'


@cache
def host_triple() -> str:
    """The target of the installed Rust compiler, like x86_64-unknown-linux-gnu."""
    text = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return next(line.removeprefix("host: ") for line in text.splitlines() if line.startswith("host: "))


def build_environment() -> dict[str, str]:
    """The environment of cargo, `sam build` and `cargo lambda`.

    With the same target, profile and linker everywhere, what `cargo test` compiled is what `sam build` packs: the second
    one takes seconds. For AWS none of these is set; cargo-lambda then links with zig against an old enough glibc.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= CREDENTIALS
    environment |= {
        "CARGO_BUILD_TARGET": host_triple(),
        "CARGO_LAMBDA_COMPILER": "cargo",
        "SAM_BUILD_MODE": "debug",
        "SAM_CLI_TELEMETRY": "0",
        "PATH": f"{ROOT / '.venv-sam' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return environment


def function_environment() -> dict[str, str]:
    """What the local functions inherit: nothing of the developer's shell, as in AWS."""
    names = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "RUST_BACKTRACE")
    return {name: os.environ[name] for name in names if name in os.environ} | CREDENTIALS
