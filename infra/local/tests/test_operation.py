"""What an operator does to a running system, and what survives it. Runs after the services of test_end_to_end exist."""

import json
import time
from datetime import UTC, datetime

import pytest

from aws import STACK
from stack import Stack
from watch import tick_event


def eventually(what: str, seconds: float, action):
    """The first true result of `action`."""
    deadline = time.monotonic() + seconds
    while not (result := action()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


def test_registrations_and_their_callbacks_are_counted(stack: Stack):
    accepted = {("Registrations", "accepted"): [1, 1], ("Callbacks", "accepted"): [1, 1]}
    assert stack.metrics("AddServiceLogGroup") == accepted

    stack.site.fault("UNAUTHORIZED")
    status, answer = stack.register("Not trusted", f"{stack.nginx.http_url}/not-trusted")
    assert (status, "does not trust this backend" in answer) == (502, True), answer
    refused = {("Registrations", "failed"): [1], ("Callbacks", "refused"): [1]}
    assert stack.metrics("AddServiceLogGroup") == accepted | refused


def test_rounds_of_checks_are_counted(stack: Stack):
    rounds = stack.metrics("CheckServicesLogGroup")
    # Seconds after the slot; the tests' own ticks may be a minute off either way.
    assert all(-60 <= lateness <= 120 for lateness in rounds[("TickLateness",)])
    assert sum(rounds[("Checks", "alive")]) >= 4
    assert sum(rounds[("Checks", "down")]) >= 2
    assert sum(rounds[("Callbacks", "accepted")]) >= 3
    assert ("Callbacks", "refused") not in rounds


def test_an_update_in_place_keeps_tenants_and_changes_what_it_says(stack: Stack):
    before = stack.outputs
    services = stack.statuses()
    after = stack.deploy(ServicesPerOwner=str(len(services)))
    assert after == before

    status, answer = stack.register("One too many", f"{stack.nginx.http_url}/more")
    assert status == 409, answer
    assert stack.statuses() == services


def test_an_event_that_cannot_be_handled_ends_in_the_dead_letters_and_the_next_one_makes_up_for_it(stack: Stack):
    functions = stack.aws.client("lambda")
    queue = stack.aws.client("sqs")
    name = stack.outputs["CheckServicesFunctionName"]
    configured = functions.get_function_configuration(FunctionName=name)["Environment"]
    without_table = configured["Variables"] | {"TABLE_NAME": "gone"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": without_table})
    lost = tick_event(datetime.now(UTC))
    # As EventBridge invokes it: not waiting for a result.
    functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(lost).encode())

    def received() -> list[dict]:
        return queue.receive_message(QueueUrl=stack.outputs["DeadLettersUrl"]).get("Messages", [])

    (letter,) = eventually("a dead letter", 60, received)
    body = json.loads(letter["Body"])
    assert body["requestPayload"] == lost
    assert body["requestContext"]["condition"] == "RetriesExhausted"

    functions.update_function_configuration(FunctionName=name, Environment=configured)
    services = stack.statuses()
    accepted = len(stack.callbacks())
    stack.tick()
    assert len(stack.callbacks()) == accepted + 1
    assert stack.callbacks()[-1]["code"] == "ACCEPTED"
    assert stack.statuses() == services
    queue.purge_queue(QueueUrl=stack.outputs["DeadLettersUrl"])


def test_a_deleted_stack_leaves_table_and_keys(stack: Stack):
    stack.aws.delete()

    formation = stack.aws.client("cloudformation")
    with pytest.raises(formation.exceptions.ClientError, match="does not exist"):
        formation.describe_stacks(StackName=STACK)
    assert stack.aws.client("lambda").list_functions()["Functions"] == []
    table = stack.aws.client("dynamodb")
    kinds = {item["sk"]["S"].split("#")[0] for item in table.scan(TableName=stack.outputs["TableName"])["Items"]}
    assert {"TENANT", "SERVICE", "STATE"} <= kinds
    for key in ("DeploymentKeyId", "WrappingKeyId"):
        metadata = stack.aws.client("kms").describe_key(KeyId=stack.outputs[key])["KeyMetadata"]
        assert metadata["KeyState"] == "Enabled"
