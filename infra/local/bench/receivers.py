"""The companion apps of all tenants, in one process: the real verifier and receiver of forge-app judge every callback."""

import json
import urllib.request
from pathlib import Path

import settings
from bench.tenants import Tenant
from processes import Processes, free_port

PROGRAM = settings.EMULATOR / "dist" / "installations.mjs"


class Receivers:
    """emulator/src/installations.ts, running."""

    def __init__(self, processes: Processes, folder: Path, backend_url: str, backend_key: str):
        """`backend_key`: the deployment key's public half, base64url of its 32 bytes."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        jwks = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": backend_key}]}
        environment = settings.build_environment() | {
            "BACKEND_URL": backend_url,
            "BACKEND_PUBLIC_KEY": json.dumps(jwks),
            "PORT": str(self.port),
        }
        self.log = folder / "receivers.log"
        processes.start("the receivers", ["node", PROGRAM], environment, self.log)
        processes.wait_for("the receivers", f"{self.url}/")

    def add(self, tenants: list[Tenant]) -> None:
        """Each tenant's app as its registration left it."""
        seeds = [{"cloudId": t.cloud_id, "triggerId": t.trigger_id, "x": t.public_key} for t in tenants]
        request = urllib.request.Request(f"{self.url}/installations", json.dumps(seeds).encode())
        urllib.request.urlopen(request, timeout=60).close()

    def received(self) -> dict:
        """The calls since the last time, and what every app has stored."""
        with urllib.request.urlopen(f"{self.url}/received.json", timeout=60) as answer:
            return json.load(answer)
