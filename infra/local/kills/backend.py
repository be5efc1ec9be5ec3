"""The functions' binaries, the local AWS that they use, and what they watch."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import settings
from aws import LocalAws
from kills.invocation import KillableInvocation
from lambda_process import built_binary
from processes import Processes, free_port

EVENTS = settings.ROOT / "events"
# Not the address of the backend, which a backend refuses to watch.
TARGET_HOST = "127.0.0.2"
PERIOD_S = 60


class Targets:
    """The watched endpoints: one server, and the paths that are down."""

    def __init__(self) -> None:
        down = self.down = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if self.path in down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.url = serve(TARGET_HOST, Handler)


def serve(host: str, handler: type) -> str:
    """Serves on a free port until this program ends."""
    server = http.server.ThreadingHTTPServer((host, 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{host}:{server.server_port}"


class Backend:
    """The binaries, the local AWS they use, and the address that they have."""

    def __init__(self, processes: Processes, folder: Path):
        self.folder = folder
        environment = settings.build_environment()
        processes.run("cargo build", ["cargo", "build", "--workspace", "--bins"], environment, settings.ROOT)
        # Copies, so that a build meanwhile changes nothing.
        self.binaries = folder / "functions"
        self.binaries.mkdir()
        for function in ("register", "add-service", "check-services", "rotate-keys"):
            shutil.copy2(built_binary(environment, function, "debug"), self.binaries)
        self.aws = LocalAws(processes, folder, free_port(), keep_state=False)
        self.aws.start()
        state = self.aws.create_state()
        self.tables = self.aws.client("dynamodb")
        jwks = b""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(jwks)))
                self.end_headers()
                self.wfile.write(jwks)

            def log_message(self, *_: object) -> None:
                pass

        # Nothing is routed here: the app asks for the key set, and everything else takes its name alone.
        self.url = serve("127.0.0.1", Handler)
        self.environment = settings.function_environment() | {
            "AWS_ENDPOINT_URL": self.aws.url,
            "BACKEND_URL": self.url,
            "ALLOW_LOOPBACK": "true",
            "CHECK_EVERY_MINUTES": str(PERIOD_S // 60),
            "BUS_NAME": state["BUS_NAME"],
            "DEPLOYMENT_KEY_ID": state["DEPLOYMENT_KEY_ID"],
            # For the key set alone; to register, a world names the keys of its own apps.
            "FORGE_APP_PUBLIC_KEY": settings.EXAMPLE_APP_KEY,
            "WRAPPING_KEY_ID": state["WRAPPING_KEY_ID"],
        }
        jwks = self.ask("register", json.loads((EVENTS / "register" / "jwks.json").read_text()), {})["body"].encode()

    def start(self, function: str, event: dict, changes: dict[str, str]) -> KillableInvocation:
        log = self.folder / f"{function}.log"
        return KillableInvocation(self.binaries / function, self.environment | changes, event, log)

    def ask(self, function: str, event: dict, changes: dict[str, str]) -> dict:
        with self.start(function, event, changes) as invocation:
            return invocation.answer()

    def state(self, table: str, tenant: str) -> dict:
        """The tenant's STATE item as plain text values."""
        key = {"pk": {"S": f"TENANT#{tenant}"}, "sk": {"S": "STATE"}}
        item = self.tables.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
        return {name: next(iter(value.values())) for name, value in item.items()}
