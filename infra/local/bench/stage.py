"""Everything around the process that is measured: binary, local AWS behind a counter, targets, and the tenants' apps."""

import os
import shutil
from pathlib import Path

import settings
from aws import LocalAws
from bench.behaviour import Kind
from bench.calls import CountedAws
from bench.receivers import Receivers
from bench.targets import Targets, raise_file_limit
from bench.tenants import Tenant, make_keys, unpadded, write
from bench.ticks import PERIOD_S, Fleet
from emulator import Emulator
from lambda_process import built_binary
from processes import Failed, Processes, free_port


def check_services(processes: Processes, profile: str = "release") -> Path:
    """The binary to measure: CHECK_SERVICES_BINARY, or one that is built now."""
    if given := os.environ.get("CHECK_SERVICES_BINARY"):
        return Path(given)
    environment = settings.build_environment()
    # In a debug build the same packages as `make test` builds, so that it has nothing to do there.
    which = ["--release", "-p", "check-services"] if profile == "release" else ["--workspace", "--bins"]
    processes.run("cargo build", ["cargo", "build", *which], environment, settings.ROOT)
    return built_binary(environment, "check-services", profile)


class Stage:
    """One local AWS with one table for each group of tenants, one set of targets, one process of apps."""

    def __init__(self, processes: Processes, folder: Path, binary: Path, targets: Targets):
        self.processes = processes
        self.folder = folder
        # A copy, so that a build meanwhile changes nothing.
        self.binary = Path(shutil.copy2(binary, folder / "check-services"))
        self.targets = targets
        self.aws = LocalAws(processes, folder / "aws", free_port(), keep_state=False)
        self.aws.start()
        self.calls = CountedAws(self.aws.port)
        self.names = self.aws.create_state()
        self.backend_url = f"http://127.0.0.1:{free_port()}"
        targets.start()
        emulator = Emulator(processes, folder, free_port(), self.backend_url)
        emulator.build()
        public = self.aws.client("kms").get_public_key(KeyId=self.names["DEPLOYMENT_KEY_ID"])["PublicKey"]
        self.receivers = Receivers(processes, folder, self.backend_url, unpadded(public[-32:]))

    def register(self, table: str, kinds: list[Kind], per_tenant: int) -> list[Tenant]:
        """Tenants with services of these kinds in turn, in a table of their own."""
        tenants: list[Tenant] = []
        numbers: dict[Kind, int] = {}
        for index, kind in enumerate(kinds):
            if index % per_tenant == 0:
                tenants.append(Tenant.new(self.receivers.url))
            number = numbers[kind] = numbers.get(kind, -1) + 1
            tenants[-1].add(self.targets.url(kind, number), kind, number)
        self.aws.create_table(table)
        make_keys(self.aws.client("kms"), self.names["WRAPPING_KEY_ID"], tenants)
        write(self.aws.client("dynamodb"), table, tenants)
        self.receivers.add(tenants)
        return tenants

    def fleet(self, table: str, most: int = 1, prefix: tuple = (), **changes: str) -> Fleet:
        """Processes of check-services on this table."""
        environment = settings.function_environment() | {
            "AWS_ENDPOINT_URL": self.calls.url,
            "BACKEND_URL": self.backend_url,
            "ALLOW_LOOPBACK": "true",
            # A healthy target stands for the internet.
            "CONTROL_URLS": self.targets.url(Kind.HTTP, 0),
            "CHECK_EVERY_MINUTES": str(PERIOD_S // 60),
            "BUS_NAME": self.names["BUS_NAME"],
            "WRAPPING_KEY_ID": self.names["WRAPPING_KEY_ID"],
            "TABLE_NAME": table,
            # With metrics, as in AWS: their lines are among the log bytes.
            "METRICS_NAMESPACE": "forge-health",
            "SSL_CERT_FILE": str(self.targets.authority.file),
        }
        return Fleet(self.binary, environment | changes, self.calls, self.folder / f"{table}.log", most, prefix)


def empty_folder(name: str) -> Path:
    """A fresh folder for what a measurement leaves behind."""
    raise_file_limit()
    folder = settings.STATE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def judge(tenants: list[Tenant], received: dict, tick: int) -> list[str]:
    """What is wrong with the callbacks of a tick: each tenant must have sent one UPDATE, and its app have accepted it."""
    calls: dict[str, list[str]] = {}
    for call in received["calls"]:
        calls.setdefault(call["tenantId"], []).append(call["code"])
    ticks = {entry["tenantId"]: entry.get("tick") for entry in received["stored"]}
    problems = []
    for tenant in tenants:
        if (codes := calls.get(tenant.id, [])) != ["ACCEPTED"]:
            problems.append(f"tenant {tenant.id}: callbacks {codes}")
        elif ticks[tenant.id] != tick:
            problems.append(f"tenant {tenant.id}: its app is at tick {ticks[tenant.id]} instead of {tick}")
    return problems


def require(problems: list[str]) -> None:
    """Raises Failed with the first few problems."""
    if problems:
        shown = "\n  ".join(problems[:10])
        raise Failed(f"{len(problems)} problems:\n  {shown}")
