"""The whole system as a person meets it: the deployed stack, a browser's form, a real web server that comes and goes.

Every callback is verified by the companion app's own code; the tests read what it accepted.
"""

import json
import re
import time
from collections import Counter
from datetime import UTC, datetime

import settings
from form import fetch, readable
from stack import Stack, eventually

OPERATIONS = (settings.ROOT / "docs" / "operations.md").read_text()


class Listener:
    """Somebody else's queue behind a rule on the stack's bus, with the event pattern of docs/operations.md."""

    def __init__(self, stack: Stack):
        self.bus = stack.outputs["BusName"]
        self.rules = stack.rules
        self.queues = stack.aws.client("sqs")
        self.queue = self.queues.create_queue(QueueName="status-changes")["QueueUrl"]
        arn = self.queues.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        (pattern,) = re.findall(r"--event-pattern '(.*)'", OPERATIONS)
        self.rules.put_rule(Name="status-changes", EventBusName=self.bus, EventPattern=pattern)
        target = {"Id": "queue", "Arn": arn}
        self.rules.put_targets(Rule="status-changes", EventBusName=self.bus, Targets=[target])

    def received(self) -> list[dict]:
        answer = self.queues.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def remove(self) -> None:
        """As docs/operations.md does: a bus with another owner's rule cannot be deleted with the stack."""
        self.rules.remove_targets(Rule="status-changes", EventBusName=self.bus, Ids=["queue"])
        self.rules.delete_rule(Name="status-changes", EventBusName=self.bus)


def test_a_service_goes_down_and_comes_back_and_forge_hears_of_it(stack: Stack):
    names = ("Shop", "Shop over TLS")
    for name, url in zip(names, (stack.nginx.http_url, stack.nginx.https_url)):
        status, answer = stack.register(name, url)
        assert status == 201, answer
    assert [entry["action"] for entry in stack.callbacks()] == ["REGISTER", "REGISTER"]

    stack.tick()
    assert stack.statuses() == dict.fromkeys(names, "ALIVE")

    listener = Listener(stack)
    stack.nginx.stop()
    stack.tick()
    assert stack.statuses() == dict.fromkeys(names, "DOWN")
    down = stack.callbacks()[-1]
    assert sorted((change["from"], change["to"]) for change in down["transitions"]) == [("ALIVE", "DOWN")] * 2

    events = []
    eventually("two events", 30, lambda: events.extend(listener.received()) or len(events) >= 2)
    (documented,) = re.findall(r"Its `detail` has ((?:`\w+`(?:,\s| and\s)?)+)", OPERATIONS)
    tenant = stack.tenant()
    for event in events:
        assert (event["source"], event["detail-type"]) == ("forge-health", "ServiceStatusChanged")
        detail = event["detail"]
        assert set(detail) == set(re.findall(r"`(\w+)`", documented))
        (told,) = [change for change in down["transitions"] if change["serviceId"] == detail["serviceId"]]
        assert detail == told | tenant | {"serviceName": detail["serviceName"]}
    assert sorted(event["detail"]["serviceName"] for event in events) == sorted(names)
    listener.remove()

    stack.nginx.start()
    # This one comes from the rule: at the latest when the next minute begins after the last tick.
    rounds = Counter(stack.metrics("CheckServicesLogGroup")[("TickLateness",)])
    stack.rules.enable_rule(Name=stack.schedule)
    deadline = time.monotonic() + 150
    while stack.statuses() != dict.fromkeys(names, "ALIVE"):
        assert time.monotonic() < deadline, stack.callbacks()
        time.sleep(1)
    stack.rules.disable_rule(Name=stack.schedule)
    stack.last_tick = datetime.now(UTC).replace(second=0, microsecond=0)
    by_the_rule = Counter(stack.metrics("CheckServicesLogGroup")[("TickLateness",)]) - rounds
    assert by_the_rule and max(by_the_rule) < 60, "the rule's own rounds begin in their slot"
    up = next(entry for entry in reversed(stack.callbacks()) if entry["transitions"])
    assert sorted((change["from"], change["to"]) for change in up["transitions"]) == [("DOWN", "ALIVE")] * 2

    for entry in stack.callbacks():
        assert entry["code"] in ("ACCEPTED", "DUPLICATE"), entry


def test_a_service_is_paused_and_removed_and_forge_hears_of_it(stack: Stack):
    others = stack.statuses()
    status, answer = stack.register("Mistyped", f"{stack.nginx.http_url}?mistyped")
    assert status == 201, answer
    for change, answered, shown in (
        ("pause", "Mistyped is paused", {"Mistyped": "PAUSED"}),
        ("remove", "Mistyped is removed", {}),
    ):
        status, answer = stack.change("Mistyped", change)
        assert (status, answered in answer, "in about a minute" in answer) == (200, True, True), answer
        stack.tick()
        assert stack.statuses() == others | shown


def test_what_is_no_route_gets_an_answer_of_ours(stack: Stack):
    for path in ("/elsewhere", "/register/", "/addedMonitorService", "/managedMonitorService", "/manage/"):
        status, page = fetch(stack.aws.api_url + path)
        assert (status, "There is nothing here" in readable(page)) == (404, True), path
