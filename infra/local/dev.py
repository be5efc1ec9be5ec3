"""`make dev`: the template deployed into a local AWS, with the emulator of a Forge site beside it."""

import sys
import time

import settings
from aws import LocalAws
from emulator import Emulator
from logs import FunctionLogs
from processes import Failed, Processes, port_is_free

FOLDER = settings.STATE / "dev"


def main() -> None:
    ports = {"AWS_PORT": settings.AWS_PORT, "EMULATOR_PORT": settings.EMULATOR_PORT}
    if taken := [f"{port} (choose another: make dev {name}=...)" for name, port in ports.items() if not port_is_free(port)]:
        raise Failed(f"port in use: {', '.join(taken)}")

    with Processes() as processes:
        started = time.monotonic()

        def step(text: str) -> None:
            print(f"==> [{time.monotonic() - started:5.1f} s] {text}", flush=True)

        aws = LocalAws(processes, FOLDER, settings.AWS_PORT, keep_state=True)
        emulator = Emulator(processes, FOLDER, settings.EMULATOR_PORT, backend_url=aws.api_url)
        step("Building the emulator")
        emulator.build()
        step(f"Starting the local AWS on 127.0.0.1:{aws.port}")
        aws.start()
        step("Building and deploying the functions (the first time takes minutes)")
        outputs = aws.deploy(
            {
                "BackendUrl": aws.api_url,
                "ForgeAppPublicKey": emulator.public_keys(),
                "CheckEveryMinutes": "1",
                "AllowLoopback": "true",
                # Up whenever this stack is.
                "ControlUrls": f"{emulator.url}/",
            }
        )
        step(f"Starting the emulator on 127.0.0.1:{emulator.port}")
        emulator.start()
        logs = FunctionLogs(aws, FOLDER / "functions.log")
        step("Ready")
        print(f"""
    Open   {emulator.url}/
    or     {emulator.registration_link()}
           (valid for ten minutes; {emulator.url}/add-service makes a new one)

    Checks run at every full minute. Logs of the functions: {logs.file.relative_to(settings.ROOT)}
    Table {outputs["TableName"]}, endpoint AWS_ENDPOINT_URL={aws.url}
    Ctrl-C ends everything; `make clean-local` forgets what is stored.
""", flush=True)
        while True:
            processes.check()
            logs.copy()
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"make dev: {error}")
    except KeyboardInterrupt:
        print("\nEnded.")
