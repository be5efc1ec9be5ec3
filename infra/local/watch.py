"""`make watch`: the four functions under `cargo lambda watch`, rebuilt at every save, for a tunnel to point at.

    BACKEND_URL=https://... FORGE_APP_PUBLIC_KEY='{"keys":[...]}' make watch

Without BACKEND_URL nobody outside is expected: loopback is allowed and the emulator of a Forge site runs as well.
"""

import json
import os
import sys
import time
import uuid
from datetime import UTC, datetime

import settings
from aws import LocalAws
from emulator import Emulator
from processes import Failed, Processes, port_is_free

FOLDER = settings.STATE / "watch"
CHECK_EVERY_MINUTES = int(os.environ.get("CHECK_EVERY_MINUTES", "1"))


def tick_event(now: datetime) -> dict:
    """The event that the rule would send at `now`."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": settings.REGION,
        "resources": [f"arn:aws:events:{settings.REGION}:000000000000:rule/watch"],
        "detail": {},
    }


def main() -> None:
    port = settings.WATCH_PORT
    tunnel = os.environ.get("BACKEND_URL", "")
    app_key = os.environ.get("FORGE_APP_PUBLIC_KEY", "")
    if tunnel and not app_key:
        raise Failed('FORGE_APP_PUBLIC_KEY is not set: `npm run keygen` in the Forge app prints it, a line {"keys":[...]}')
    ports = {"PORT": port, "AWS_PORT": settings.AWS_PORT}
    if not tunnel:
        ports["EMULATOR_PORT"] = settings.EMULATOR_PORT
    if taken := [f"{port} (choose another: make watch {name}=...)" for name, port in ports.items() if not port_is_free(port)]:
        raise Failed(f"port in use: {', '.join(taken)}")

    with Processes() as processes:
        local_url = f"http://127.0.0.1:{port}"
        backend_url = tunnel or local_url
        aws = LocalAws(processes, FOLDER, settings.AWS_PORT, keep_state=True)
        print(f"==> Starting the local AWS on 127.0.0.1:{aws.port}", flush=True)
        aws.start()
        environment = aws.environment() | aws.create_state()
        environment |= {
            "BACKEND_URL": backend_url,
            # Behind a tunnel, anybody could have this machine's own services probed.
            "ALLOW_LOOPBACK": os.environ.get("ALLOW_LOOPBACK", "false" if tunnel else "true"),
            "CHECK_EVERY_MINUTES": str(CHECK_EVERY_MINUTES),
            "FORGE_APP_PUBLIC_KEY": app_key,
            "TRIGGER_HOSTS": os.environ.get("TRIGGER_HOSTS", ""),
            "RETURN_HOSTS": os.environ.get("RETURN_HOSTS", ""),
            "MAX_SERVICES_PER_TENANT": "50",
            "MAX_SERVICES_PER_OWNER": "10",
            "AWS_LAMBDA_LOG_FORMAT": "Text",
            "AWS_LAMBDA_LOG_LEVEL": os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO"),
        }
        emulator = None
        if not tunnel:
            emulator = Emulator(processes, FOLDER, settings.EMULATOR_PORT, backend_url)
            emulator.build()
            environment["FORGE_APP_PUBLIC_KEY"] = emulator.public_keys()
            emulator.start()
        print("==> Building the functions (the first time takes minutes)", flush=True)
        processes.run("cargo build", ["cargo", "build", "--workspace", "--bins"], environment, settings.ROOT)
        processes.start(
            "cargo lambda watch",
            # Its default address is every interface. No CORS headers: API Gateway adds none either.
            ["cargo", "lambda", "watch", "--disable-cors", "--timeout", "300", "-A", "127.0.0.1", "-P", port],
            environment,
            cwd=settings.ROOT,
        )
        processes.wait_for("cargo lambda watch", f"{local_url}/register", seconds=300)
        print(f"\n    {local_url} serves the functions as {backend_url}", flush=True)
        if emulator:
            print(f"    Open {emulator.url}/ or {emulator.registration_link()}", flush=True)
        print(f"    check-services runs every {CHECK_EVERY_MINUTES} min. Ctrl-C ends everything.\n", flush=True)

        period = CHECK_EVERY_MINUTES * 60
        while True:
            next_slot = (int(time.time()) // period + 1) * period
            while time.time() < next_slot:
                processes.check()
                time.sleep(0.5)
            event = tick_event(datetime.fromtimestamp(next_slot, UTC))
            try:
                processes.run(
                    "the tick",
                    ["cargo", "lambda", "invoke", "check-services", "-A", "127.0.0.1", "-P", port]
                    + ["--data-ascii", json.dumps(event)],
                    environment,
                    settings.ROOT,
                )
            except Failed as error:
                # A handler that fails, or does not compile at this moment, must not end the development server.
                print(f"    {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make watch: {error}")
    except KeyboardInterrupt:
        print("\nEnded.")
