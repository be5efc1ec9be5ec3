"""`make dev`: the template deployed into a local AWS, with a stand-in for a Forge site beside it."""

import sys
import time

import settings
from aws import LocalAws
from forge_site import ForgeSite
from logs import FunctionLogs
from processes import Failed, Processes, port_is_free

FOLDER = settings.STATE / "dev"


def main() -> None:
    ports = {"AWS_PORT": settings.AWS_PORT, "SITE_PORT": settings.SITE_PORT}
    if taken := [f"{port} (choose another: make dev {name}=...)" for name, port in ports.items() if not port_is_free(port)]:
        raise Failed(f"port in use: {', '.join(taken)}")

    with Processes() as processes:
        started = time.monotonic()

        def step(text: str) -> None:
            print(f"==> [{time.monotonic() - started:5.1f} s] {text}", flush=True)

        aws = LocalAws(processes, FOLDER, settings.AWS_PORT, keep_state=True)
        site = ForgeSite(processes, FOLDER, settings.SITE_PORT, backend_url=aws.api_url)
        step("Building the Forge site's stand-in")
        site.build()
        step(f"Starting the local AWS on 127.0.0.1:{aws.port}")
        aws.start()
        step("Building and deploying the functions (the first time takes minutes)")
        outputs = aws.deploy(
            {
                "BackendUrl": aws.api_url,
                "ForgeAppPublicKey": site.public_keys(),
                "CheckEveryMinutes": "1",
                "AllowLoopback": "true",
                # Up whenever this stack is.
                "ControlUrls": f"{site.url}/",
            }
        )
        step(f"Starting the Forge site's stand-in on 127.0.0.1:{site.port}")
        site.start()
        logs = FunctionLogs(aws, FOLDER / "functions.log")
        step("Ready")
        print(f"""
    Open   {site.url}/
    or     {site.registration_link()}
           (valid for ten minutes; {site.url}/add-service makes a new one)

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
