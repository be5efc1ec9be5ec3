"""Builds and starts the emulator of a Forge site (forge-app/emulator, TypeScript), and calls its HTTP interface."""

import hashlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import settings
from processes import Failed, Processes


def ensure_packages(processes: Processes) -> None:
    """`npm ci` in forge-app/, unless node_modules is what the lock file says already."""
    stamp = settings.FORGE_APP / "node_modules" / ".installed"
    wanted = hashlib.sha256((settings.FORGE_APP / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    command = ["npm", "ci", "--no-audit", "--no-fund"]
    processes.run("npm ci in forge-app", command, settings.build_environment(), settings.FORGE_APP)
    stamp.write_text(wanted)


class Emulator:
    """The emulator on 127.0.0.1, with its keys and its store in `folder`."""

    def __init__(self, processes: Processes, folder: Path, port: int, backend_url: str):
        self.processes = processes
        self.port = port
        self.backend_url = backend_url
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "emulator.log"
        self.state = folder / "emulator"
        self.program = ["node", settings.EMULATOR / "dist" / "emulator.mjs"]
        self.environment = settings.build_environment() | {
            "BACKEND_URL": backend_url,
            "EMULATOR_PORT": str(port),
            "STATE_DIR": str(self.state),
        }

    def build(self) -> None:
        ensure_packages(self.processes)
        command = ["npm", "run", "build", "--silent"]
        self.processes.run("the build of the emulator", command, settings.build_environment(), settings.EMULATOR)

    def public_keys(self) -> str:
        """The JWKS that the deploy parameter ForgeAppPublicKey takes."""
        command = [str(part) for part in self.program] + ["keys"]
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def start(self) -> None:
        self.processes.start("the emulator", self.program, self.environment, self.log)
        self.processes.wait_for("the emulator", f"{self.url}/")

    def registration_link(self, seconds: float = 60) -> str:
        """A link to the registration page with a fresh hand-off, valid for ten minutes.

        Waits until the emulator has fetched the backend's public key: before, it signs none.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.processes.check()
            try:
                return f"{self.backend_url}/register?{urllib.parse.urlencode(self.get('/handoff.json'))}"
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > deadline:
                    raise Failed(f"the emulator made no hand-off (HTTP {error.code}); see {self.log}") from error
                time.sleep(0.2)

    def management_link(self, service_id: str, change: str) -> str:
        """The link behind a button of the page, with a fresh hand-off to `change` the service."""
        call = {"functionKey": "manageService", "payload": {"serviceId": service_id, "change": change}}
        with urllib.request.urlopen(f"{self.url}/platform/invoke", json.dumps(call).encode(), timeout=30) as response:
            result = json.load(response)
        if not result["ok"]:
            raise Failed(f"the Forge app made no hand-off: {result['problem']}")
        return result["url"]

    def fault(self, code: str) -> None:
        """Replaces the trigger's response to the next callback."""
        body = json.dumps({"response": code, "times": 1}).encode()
        urllib.request.urlopen(f"{self.url}/faults", body, timeout=30).close()

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as response:
            return json.load(response)
