"""The deployed system and its surroundings, with the verbs of the tests."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta

import settings
from aws import STACK, LocalAws
from emulator import Emulator
from form import fetch, read_form, readable
from nginx import Nginx, certificate_authority
from processes import Processes, free_port
from watch import tick_event

PERIOD = timedelta(minutes=1)


def eventually(what: str, seconds: float, action):
    """The first true result of `action`."""
    deadline = time.monotonic() + seconds
    while not (result := action()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


class Stack:
    """Everything that `make dev` starts, on ports of its own, and an nginx to watch."""

    def __init__(self, processes: Processes, name: str):
        self.folder = settings.STATE / "test" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        authority = certificate_authority(self.folder / "nginx")
        self.nginx = Nginx(processes, self.folder / "nginx", free_port(), free_port())
        # Functions inherit this: the probe trusts the test's certificate authority, and no other.
        trust = {"SSL_CERT_FILE": str(authority)}
        self.aws = LocalAws(processes, self.folder, free_port(), keep_state=False, environment=trust)
        self.emulator = Emulator(processes, self.folder, free_port(), self.aws.api_url)
        self.emulator.build()
        self.nginx.start()
        self.aws.start()
        self.outputs = self.deploy()
        self.last_tick = datetime.min.replace(tzinfo=UTC)
        # Ticks come from the tests, one at a time, until a test wants the schedule's own.
        self.schedule = self.aws.client("cloudformation").describe_stack_resource(
            StackName=STACK, LogicalResourceId="TickRule"
        )["StackResourceDetail"]["PhysicalResourceId"]
        self.rules = self.aws.client("events")
        self.rules.disable_rule(Name=self.schedule)
        self.emulator.start()

    def deploy(self, **changes: str) -> dict[str, str]:
        """Deploys the template, at first or over what is there. Returns the stack's outputs."""
        parameters = {
            "BackendUrl": self.aws.api_url,
            "ForgeAppPublicKey": self.emulator.public_keys(),
            "CheckEveryMinutes": "1",
            "AllowLoopback": "true",
            "ControlUrls": f"{self.emulator.url}/",
        }
        return self.aws.deploy(parameters | changes)

    def register(self, name: str, url: str) -> tuple[int, str]:
        """Adds a service as a person does. Returns the status and the text of the page that answers."""
        link = self.emulator.registration_link()
        status, page = fetch(link)
        assert status == 200, readable(page)
        form = read_form(link, page)
        status, answer = form.submit(name=name, url=url)
        return status, readable(answer)

    def change(self, name: str, change: str) -> tuple[int, str]:
        """Removes, pauses or resumes a service as its owner does. Returns the status and the text of the page that answers."""
        (service,) = [service for service in self.emulator.get("/log.json")["services"] if service["name"] == name]
        link = self.emulator.management_link(service["id"], change)
        status, page = fetch(link)
        assert (status, name in readable(page)) == (200, True), readable(page)
        status, answer = read_form(link, page).submit()
        return status, readable(answer)

    def next_slot(self) -> datetime:
        """The start of the oldest slot that is still accepted and that nobody has used; waits for one if need be."""
        now = datetime.now(UTC)
        self.last_tick = max(self.last_tick + PERIOD, now.replace(second=0, microsecond=0) - PERIOD)
        # A slot is accepted from a minute before it begins.
        time.sleep(max(0, (self.last_tick - now).total_seconds() - 59))
        return self.last_tick

    def tick(self) -> None:
        """Runs the next round of checks now, as the rule would at the start of its slot."""
        answer = self.aws.client("lambda").invoke(
            FunctionName=self.outputs["CheckServicesFunctionName"],
            Payload=json.dumps(tick_event(self.next_slot())).encode(),
        )
        body = answer["Payload"].read()
        assert "FunctionError" not in answer, body

    def statuses(self) -> dict[str, str]:
        """Status by name, as the companion app knows them."""
        return {service["name"]: service["status"] for service in self.emulator.get("/log.json")["services"]}

    def tenant(self) -> dict[str, str]:
        """The one tenant's `cloudId` and `tenantId`, as stored."""
        items = self.aws.client("dynamodb").scan(TableName=self.outputs["TableName"])["Items"]
        (item,) = [item for item in items if item["sk"]["S"] == "TENANT"]
        return {"cloudId": item["cloudId"]["S"], "tenantId": item["pk"]["S"].removeprefix("TENANT#")}

    def callbacks(self) -> list[dict]:
        """What reached the web trigger, oldest first."""
        return list(reversed(self.emulator.get("/log.json")["callbacks"]))

    def log_lines(self, log_group: str, pattern: str = "") -> list[str]:
        """What was written into a log group, an output of the stack; all of it, or the lines that hold a text."""
        pages = self.aws.client("logs").get_paginator("filter_log_events").paginate(
            logGroupName=self.outputs[log_group], filterPattern=f'"{pattern}"' if pattern else ""
        )
        return [event["message"] for page in pages for event in page["events"]]

    def metrics(self, log_group: str) -> dict[tuple[str, ...], list[float]]:
        """Values by (metric, dimension values...) that the functions wrote into a log group, an output of the stack."""
        found: dict[tuple[str, ...], list[float]] = {}
        for text in self.log_lines(log_group, "CloudWatchMetrics"):
            line = json.loads(text)
            for definition in line["_aws"]["CloudWatchMetrics"]:
                assert definition["Namespace"] == STACK
                for metric in definition["Metrics"]:
                    for names in definition["Dimensions"]:
                        key = (metric["Name"], *(line[name] for name in names))
                        found.setdefault(key, []).append(line[metric["Name"]])
        return found
