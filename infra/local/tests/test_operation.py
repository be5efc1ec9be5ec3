"""What an operator does to a running system, and what survives it. Runs after the services of test_end_to_end exist."""

import base64
import json
import re
import time
from datetime import UTC, datetime

import pytest

from aws import STACK
from stack import Stack, eventually
from watch import tick_event


def test_registrations_and_their_callbacks_are_counted(stack: Stack):
    # A pause and a removal were none.
    accepted = {("Registrations", "accepted"): [1, 1, 1], ("Callbacks", "accepted"): [1, 1, 1]}
    assert stack.metrics("AddServiceLogGroup") == accepted

    stack.emulator.fault("UNAUTHORIZED")
    status, answer = stack.register("Not trusted", f"{stack.nginx.http_url}/not-trusted")
    assert (status, "does not trust this backend" in answer) == (502, True), answer
    refused = {("Registrations", "failed"): [1], ("Callbacks", "refused"): [1]}
    assert stack.metrics("AddServiceLogGroup") == accepted | refused


def test_rounds_of_checks_are_counted(stack: Stack):
    rounds = stack.metrics("CheckServicesLogGroup")
    # Seconds after the slot; the tests' own ticks may be two minutes behind it.
    assert all(lateness <= 120 for lateness in rounds[("TickLateness",)])
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


def rotate(stack: Stack, event: dict) -> dict:
    """One run of rotate-keys; what it says it did, without the counts that are zero."""
    name = stack.outputs["RotateKeysFunctionName"]
    answer = stack.aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
    body = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, body
    return {key: count for key, count in body.items() if count}


def test_a_tenant_key_is_replaced_and_no_report_is_lost(stack: Stack):
    """The key is replaced for the operator who asks, and the companion app's own receiver trusts the next one."""
    table, tenant = stack.aws.client("dynamodb"), stack.tenant()
    key = {"pk": {"S": f"TENANT#{tenant['tenantId']}"}, "sk": {"S": "TENANT"}}

    def record() -> dict:
        return table.get_item(TableName=stack.outputs["TableName"], Key=key, ConsistentRead=True)["Item"]

    def trusted() -> list:
        """The keys that the app trusts, as its receiver has stored them: public half, and its last second."""
        stored = json.loads((stack.emulator.state / "kvs.json").read_text())["trust"]["json"]
        return json.loads(stored)["trust"]["keys"]

    old = record()["publicKey"]["S"]
    assert trusted() == [[old, None]]
    assert rotate(stack, tick_event(datetime.now(UTC))) == {"tenants": 1}, "nothing is 90 days old"
    asked = {"madeBefore": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "tenantId": tenant["tenantId"]}
    assert rotate(stack, asked) == {"tenants": 1, "started": 1}
    assert rotate(stack, asked) == {"tenants": 1, "underWay": 1}

    # The private half is only there as KMS wrapped it, under the tenant's own context.
    offered = record()["nextKey"]["M"]
    new, wrapped = offered["publicKey"]["S"], offered["wrappedKey"]["S"]
    names = {"publicKey", "wrappedKey", "madeAt", "introduction", "introducedUntil", "accepted", "refusedAt"}
    assert set(offered) == names
    keys = stack.aws.client("kms")
    blob = base64.urlsafe_b64decode(wrapped + "=" * (-len(wrapped) % 4))
    context = {"purpose": "tenant-key"} | tenant
    private = keys.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"]
    assert len(private) == 48 and private not in blob
    with pytest.raises(keys.exceptions.InvalidCiphertextException):
        keys.decrypt(CiphertextBlob=blob, EncryptionContext=context | {"tenantId": "another"})

    services, told = stack.statuses(), len(stack.callbacks())
    for number in (1, 2):
        stack.tick()
        assert len(stack.callbacks()) == told + number
        assert stack.callbacks()[-1]["code"] == "ACCEPTED"
        # The old key has an hour; the receiver's own tests say what is then.
        (first, second) = trusted()
        assert (first, second[0]) == ([new, None], old)
        assert time.time() + 3000 < second[1] <= time.time() + 3600
    assert stack.statuses() == services
    after = record()
    assert (after["publicKey"]["S"], after["wrappedKey"]["S"], "nextKey" in after) == (new, wrapped, False)
    # The ticks of the tests below are signed with it.
    assert rotate(stack, asked) == {"tenants": 1}


def test_a_second_stage_with_its_own_domain_stands_beside_the_first(stack: Stack):
    """The stage `prod` of samconfig.toml, as it is, with the four parameters that no other test sets."""
    certificate = stack.aws.client("acm").request_certificate(DomainName="health.example.com")["CertificateArn"]
    own = {"DomainName": "health.example.com", "CertificateArn": certificate, "AlarmAddress": "operator@example.com"}
    own |= {"CreateDashboard": "false", "ForgeAppPublicKey": stack.emulator.public_keys()}
    dashboards = stack.aws.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert len(dashboards) == 1 and dashboards[0]["DashboardName"] in stack.outputs["DashboardUrl"]
    services = stack.statuses()
    prod = stack.aws.deploy(own, stage="prod")

    assert prod["BackendUrl"] == "https://health.example.com"
    domain = stack.aws.client("apigatewayv2").get_domain_name(DomainName="health.example.com")
    assert prod["DomainTarget"] == domain["DomainNameConfigurations"][0]["ApiGatewayDomainName"]
    subscribed = stack.aws.client("sns").list_subscriptions_by_topic(TopicArn=prod["AlarmTopicArn"])["Subscriptions"]
    assert [(entry["Protocol"], entry["Endpoint"]) for entry in subscribed] == [("email", "operator@example.com")]
    assert stack.aws.client("cloudwatch").list_dashboards()["DashboardEntries"] == dashboards
    assert "DashboardUrl" not in prod
    # Nothing of the two is the same, and the first one works on.
    assert not set(prod.values()) & set(stack.outputs.values())
    assert stack.aws.outputs() == stack.outputs
    accepted = len(stack.callbacks())
    stack.tick()
    assert (len(stack.callbacks()), stack.statuses()) == (accepted + 1, services)

    stack.aws.delete(stage="prod")
    assert stack.aws.outputs() == stack.outputs


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

    url = stack.outputs["DeadLettersUrl"]

    def received() -> list[dict]:
        return queue.receive_message(QueueUrl=url, VisibilityTimeout=0, MessageAttributeNames=["All"]).get("Messages", [])

    def waiting() -> str:
        names = ["ApproximateNumberOfMessages"]
        return queue.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"][names[0]]

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
    assert waiting() == "1"
    queue.purge_queue(QueueUrl=url)
    assert waiting() == "0"


def test_no_line_of_any_log_holds_what_it_must_not(stack: Stack):
    """All that was logged in every test before this one."""
    for group in ("RegisterLogGroup", "AddServiceLogGroup", "CheckServicesLogGroup", "RotateKeysLogGroup", "ApiLogGroup"):
        lines = stack.log_lines(group)
        # The local API Gateway writes no access log: test_template looks at its format.
        assert lines or group == "ApiLogGroup", group
        for line in lines:
            # The local Lambda's own lines are text; AWS writes them as JSON, since the template asks for it.
            if not re.match(r"(START|END|REPORT) RequestId: ", line):
                assert isinstance(json.loads(line), dict), f"{group}: {line}"
            for forbidden in ("eyJ", "Bearer", "/x1/", "handoff=", "cloudId=", "User-Agent", "user-agent"):
                assert forbidden not in line, f"{group}: {line}"


def test_a_deleted_stack_leaves_table_keys_and_dead_letters(stack: Stack):
    stack.aws.delete()

    formation = stack.aws.client("cloudformation")
    with pytest.raises(formation.exceptions.ClientError, match="does not exist"):
        formation.describe_stacks(StackName=STACK)
    assert stack.aws.client("lambda").list_functions()["Functions"] == []
    table = stack.aws.client("dynamodb")
    kinds = {item["sk"]["S"].split("#")[0] for item in table.scan(TableName=stack.outputs["TableName"])["Items"]}
    assert {"TENANT", "SERVICE", "STATE"} <= kinds
    queue = stack.aws.client("sqs")
    queue.send_message(QueueUrl=stack.outputs["DeadLettersUrl"], MessageBody="still there")
    for key in ("DeploymentKeyId", "WrappingKeyId"):
        metadata = stack.aws.client("kms").describe_key(KeyId=stack.outputs[key])["KeyMetadata"]
        assert metadata["KeyState"] == "Enabled"
