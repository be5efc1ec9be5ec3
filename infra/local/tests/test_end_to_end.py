"""The whole system as a person meets it: the deployed stack, a browser's form, a real web server that comes and goes.

Every callback is verified by the companion app's own code; the tests read what it accepted.
"""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

import settings
from aws import STACK, LocalAws
from forge_site import ForgeSite
from form import fetch, read_form
from nginx import Nginx, certificate_authority
from processes import Processes, free_port
from watch import tick_event

FOLDER = settings.STATE / "test" / "end-to-end"
PERIOD = timedelta(minutes=1)


class Stack:
    """The deployed system and its surroundings, with the verbs of the tests."""

    def __init__(self, processes: Processes):
        FOLDER.mkdir(parents=True)
        authority = certificate_authority(FOLDER / "nginx")
        self.nginx = Nginx(processes, FOLDER / "nginx", free_port(), free_port())
        # Functions inherit this: the probe trusts the test's certificate authority, and no other.
        trust = {"SSL_CERT_FILE": str(authority)}
        self.aws = LocalAws(processes, FOLDER, free_port(), keep_state=False, environment=trust)
        self.site = ForgeSite(processes, FOLDER, free_port(), self.aws.api_url)
        self.site.build()
        self.nginx.start()
        self.aws.start()
        self.outputs = self.aws.deploy(
            {
                "BackendUrl": self.aws.api_url,
                "ForgeAppPublicKey": self.site.public_keys(),
                "CheckEveryMinutes": "1",
                "AllowLoopback": "true",
            }
        )
        self.last_tick = datetime.min.replace(tzinfo=UTC)
        # Ticks come from the tests, one at a time, until a test wants the schedule's own.
        self.schedule = self.aws.client("cloudformation").describe_stack_resource(
            StackName=STACK, LogicalResourceId="TickRule"
        )["StackResourceDetail"]["PhysicalResourceId"]
        self.rules = self.aws.client("events")
        self.rules.disable_rule(Name=self.schedule)
        self.site.start()

    def register(self, name: str, url: str) -> str:
        """Adds a service as a person does. Returns the page that answers."""
        link = self.site.registration_link()
        status, page = fetch(link)
        assert status == 200, page
        form = read_form(link, page)
        status, answer = form.submit(name=name, url=url)
        assert status == 201, answer
        return answer

    def tick(self) -> None:
        """Runs the next round of checks now, as the rule would at the start of its slot."""
        now = datetime.now(UTC)
        slot = max(self.last_tick + PERIOD, now.replace(second=0, microsecond=0) - PERIOD)
        self.last_tick = slot
        answer = self.aws.client("lambda").invoke(
            FunctionName=self.outputs["CheckServicesFunctionName"],
            Payload=json.dumps(tick_event(slot)).encode(),
        )
        body = answer["Payload"].read()
        assert "FunctionError" not in answer, body

    def statuses(self) -> dict[str, str]:
        """Status by name, as the companion app knows them."""
        return {service["name"]: service["status"] for service in self.site.get("/log.json")["services"]}

    def callbacks(self) -> list[dict]:
        """What reached the web trigger, oldest first."""
        return list(reversed(self.site.get("/log.json")["callbacks"]))


@pytest.fixture(scope="module")
def stack():
    with Processes() as processes:
        yield Stack(processes)


def test_a_service_goes_down_and_comes_back_and_forge_hears_of_it(stack: Stack):
    stack.register("Shop", stack.nginx.http_url)
    stack.register("Shop over TLS", stack.nginx.https_url)
    names = ("Shop", "Shop over TLS")
    assert [entry["action"] for entry in stack.callbacks()] == ["REGISTER", "REGISTER"]

    stack.tick()
    assert stack.statuses() == dict.fromkeys(names, "ALIVE")

    stack.nginx.stop()
    stack.tick()
    assert stack.statuses() == dict.fromkeys(names, "DOWN")
    down = stack.callbacks()[-1]
    assert sorted((change["from"], change["to"]) for change in down["transitions"]) == [("ALIVE", "DOWN")] * 2

    stack.nginx.start()
    # This one comes from the rule: at the latest when the next minute begins after the last tick.
    stack.rules.enable_rule(Name=stack.schedule)
    deadline = time.monotonic() + 150
    while stack.statuses() != dict.fromkeys(names, "ALIVE"):
        assert time.monotonic() < deadline, stack.callbacks()
        time.sleep(1)
    stack.rules.disable_rule(Name=stack.schedule)
    up = next(entry for entry in reversed(stack.callbacks()) if entry["transitions"])
    assert sorted((change["from"], change["to"]) for change in up["transitions"]) == [("DOWN", "ALIVE")] * 2

    for entry in stack.callbacks():
        assert entry["code"] in ("ACCEPTED", "DUPLICATE"), entry
