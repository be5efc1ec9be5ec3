"""`make aws`: the local AWS alone, for single Rust tests, and a file with the environment that they need."""

import shlex
import sys
import time

import settings
from aws import LocalAws
from processes import Failed, Processes, port_is_free

FOLDER = settings.STATE / "aws"
ENVIRONMENT = settings.STATE / "aws.env"


def main() -> None:
    if not port_is_free(settings.AWS_PORT):
        raise Failed(f"port in use: {settings.AWS_PORT} (choose another: make aws AWS_PORT=...)")
    with Processes() as processes:
        aws = LocalAws(processes, FOLDER, settings.AWS_PORT, keep_state=False)
        aws.start()
        # The same target as make test, so that neither compiles what the other has compiled.
        variables = {"CARGO_BUILD_TARGET": settings.host_triple()} | settings.CREDENTIALS | {"AWS_ENDPOINT_URL": aws.url}
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        ENVIRONMENT.write_text("".join(lines))
        file = ENVIRONMENT.relative_to(settings.ROOT)
        print(f"""
    The local AWS is on {aws.url}. In another terminal:

    . {file}
    cargo test -p check-services verdicts

    Ctrl-C ends it.
""", flush=True)
        try:
            while True:
                processes.check()
                time.sleep(1)
        finally:
            ENVIRONMENT.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make aws: {error}")
    except KeyboardInterrupt:
        print("\nEnded.")
