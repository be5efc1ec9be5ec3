"""The template's promises that no linter knows: who may do what, and what survives a deleted stack."""

import json
import re

import pytest

import settings
from aws import load_template

RESOURCES = load_template()["Resources"]

# Every action of every function, with the Sid of its statement, and the resources that it reaches: `Name` is the ARN of that
# resource of the stack. A new permission is a decision: it changes this list.
ALLOWED = {
    "RegisterRole": {
        "WriteOwnLogs": ({"logs:CreateLogStream", "logs:PutLogEvents"}, "RegisterLogs"),
        "PublishDeploymentKey": ({"kms:GetPublicKey"}, "DeploymentKey"),
    },
    "AddServiceRole": {
        "WriteOwnLogs": ({"logs:CreateLogStream", "logs:PutLogEvents"}, "AddServiceLogs"),
        "StoreTenantsAndServices": (
            {
                "dynamodb:ConditionCheckItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
            },
            "Table",
        ),
        "SignRegistrations": ({"kms:Sign"}, "DeploymentKey"),
        "NameDeploymentKey": ({"kms:GetPublicKey"}, "DeploymentKey"),
        "CreateTenantKeys": ({"kms:GenerateDataKeyPairWithoutPlaintext"}, "WrappingKey"),
    },
    "CheckServicesRole": {
        "WriteOwnLogs": ({"logs:CreateLogStream", "logs:PutLogEvents"}, "CheckServicesLogs"),
        "ListActiveTenants": ({"dynamodb:Query"}, "Table/index/active"),
        "ReadTenantsAndCommitTicks": ({"dynamodb:Query", "dynamodb:UpdateItem"}, "Table"),
        "UnwrapTenantKeys": ({"kms:Decrypt"}, "WrappingKey"),
        "HandOverRanges": ({"events:PutEvents"}, "Bus"),
        "KeepFailedEvents": ({"sqs:SendMessage"}, "DeadLetters"),
    },
    "RotateKeysRole": {
        "WriteOwnLogs": ({"logs:CreateLogStream", "logs:PutLogEvents"}, "RotateKeysLogs"),
        "ListActiveTenants": ({"dynamodb:Query"}, "Table/index/active"),
        "ReadTenantsAndStoreNextKeys": ({"dynamodb:GetItem", "dynamodb:UpdateItem"}, "Table"),
        "SignEndorsements": ({"kms:Sign"}, "DeploymentKey"),
        "NameDeploymentKey": ({"kms:GetPublicKey"}, "DeploymentKey"),
        "CreateTenantKeys": ({"kms:GenerateDataKeyPairWithoutPlaintext"}, "WrappingKey"),
        "KeepFailedEvents": ({"sqs:SendMessage"}, "DeadLetters"),
    },
}


def references(value) -> set[str]:
    """The names that a part of a template refers to: parameters, resources, and AWS's own (`AWS::Region`)."""
    found = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref":
                found.add(inner)
            elif key == "Fn::GetAtt":
                found.add(inner[0])
            elif key == "Fn::Sub":
                found |= {name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", inner)}
            else:
                found |= references(inner)
    elif isinstance(value, list):
        found = set().union(*map(references, value))
    return found


def of_type(name: str) -> dict:
    return {key: resource for key, resource in RESOURCES.items() if resource["Type"] == name}


def statements(role: str) -> dict[str, dict]:
    (policy,) = RESOURCES[role]["Properties"]["Policies"]
    found = policy["PolicyDocument"]["Statement"]
    by_sid = {statement["Sid"]: statement for statement in found}
    assert len(by_sid) == len(found), "Sids are unique"
    return by_sid


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def test_every_role_is_in_the_list():
    assert set(of_type("AWS::IAM::Role")) == set(ALLOWED)


def arn(of: str) -> dict:
    """How the template writes the ARN of `Name`, or of something below it (`Name/index/active`)."""
    name, _, below = of.partition("/")
    return {"Fn::Sub": f"${{{name}.Arn}}/{below}"} if below else {"Fn::GetAtt": [name, "Arn"]}


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_may_do_exactly_what_is_listed_and_with_what(role):
    found = {
        sid: (set(as_list(statement["Action"])), statement["Effect"], statement["Resource"])
        for sid, statement in statements(role).items()
    }
    assert found == {sid: (actions, "Allow", arn(of)) for sid, (actions, of) in ALLOWED[role].items()}
    assert "ManagedPolicyArns" not in RESOURCES[role]["Properties"]


def test_every_function_has_a_role_and_a_log_group_of_its_own():
    functions = of_type("AWS::Serverless::Function")
    assert len(functions) == 4
    for name, function in functions.items():
        stem = name.removesuffix("Function")
        properties = function["Properties"]
        assert properties["Role"] == {"Fn::GetAtt": [f"{stem}Role", "Arn"]}
        assert properties["LoggingConfig"]["LogGroup"] == {"Ref": f"{stem}Logs"}
        # SAM would add a role of its own choosing for these.
        assert not {"Policies", "Events", "EventInvokeConfig", "Layers"} & set(properties)


def test_who_signs_with_the_deployment_key_does_so_in_one_way_and_unwraps_nothing():
    signers = {}
    for role in ALLOWED:
        for sid, statement in statements(role).items():
            if "kms:Sign" in as_list(statement["Action"]):
                signers[role] = sid
                assert statement["Condition"] == {
                    "StringEquals": {"kms:SigningAlgorithm": "ED25519_SHA_512", "kms:MessageType": "RAW"}
                }
    assert signers == {"AddServiceRole": "SignRegistrations", "RotateKeysRole": "SignEndorsements"}
    # What signs updates can introduce no key, and what introduces keys can sign no update.
    unwrapping = {role for role in ALLOWED for actions, _ in ALLOWED[role].values() if "kms:Decrypt" in actions}
    assert unwrapping == {"CheckServicesRole"}


def key_statements(key: str) -> dict[str, dict]:
    """The statements of a key's policy by Sid, but for the one that leaves the rest to IAM."""
    found = {statement["Sid"]: dict(statement) for statement in RESOURCES[key]["Properties"]["KeyPolicy"]["Statement"]}
    everything = found.pop("AccountDecidesThroughIam")
    assert everything["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    return found


def test_the_deployment_key_signs_one_way_for_whoever_may():
    found = key_statements("DeploymentKey")
    assert {sid: statement.pop("Condition") for sid, statement in found.items()} == {
        "OnlyThisAlgorithm": {"StringNotEquals": {"kms:SigningAlgorithm": "ED25519_SHA_512"}},
        "OnlyWholeMessages": {"StringNotEquals": {"kms:MessageType": "RAW"}},
    }
    for sid, statement in found.items():
        assert statement == {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "kms:Sign", "Resource": "*"}


def test_the_wrapping_key_serves_tenant_keys_only():
    purpose = {"kms:EncryptionContext:purpose": "tenant-key"}
    for role in ("AddServiceRole", "RotateKeysRole"):
        create = statements(role)["CreateTenantKeys"]
        assert create["Condition"] == {"StringEquals": {"kms:DataKeyPairSpec": "ECC_NIST_EDWARDS25519"} | purpose}
    assert statements("CheckServicesRole")["UnwrapTenantKeys"]["Condition"] == {"StringEquals": purpose}
    (deny,) = key_statements("WrappingKey").values()
    assert (deny["Effect"], deny["Principal"]) == ("Deny", "*")
    assert deny["Condition"] == {"StringNotEquals": purpose}
    assert {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*"} <= set(deny["Action"])


def test_the_deployment_key_can_be_replaced_as_documented():
    """The steps of docs/operations.md, done to the text as a person does them."""
    text = settings.TEMPLATE.read_text()
    (block,) = re.findall(r"^  DeploymentKey:\n(?:    .*\n)+", text, re.MULTILINE)
    copied = text.replace(block, block + "\n" + block.replace("DeploymentKey:", "DeploymentKey2:", 1))
    both = load_template(copied)["Resources"]
    assert both["DeploymentKey"] == both["DeploymentKey2"] == RESOURCES["DeploymentKey"]

    renamed = load_template(re.sub(r"!(Ref|GetAtt) DeploymentKey\b", r"!\1 DeploymentKey2", copied))
    parts = [renamed["Resources"], renamed["Outputs"], renamed["Globals"]]
    named = set().union(*map(references, parts))
    assert "DeploymentKey" in references([RESOURCES]) and "DeploymentKey" not in named
    known = set(renamed["Resources"]) | set(renamed["Parameters"])
    assert {name for name in named if not name.startswith("AWS::")} <= known
    assert renamed["Resources"]["DeploymentKey"] == RESOURCES["DeploymentKey"]


def test_state_outlives_the_stack():
    for name in ("Table", "DeploymentKey", "WrappingKey", "DeadLetters"):
        # What the creation of the stack made and rolls back is nobody's state yet; the table is protected from deletion.
        assert RESOURCES[name]["DeletionPolicy"] == ("Retain" if name == "Table" else "RetainExceptOnCreate")
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    table = RESOURCES["Table"]["Properties"]
    assert table["DeletionProtectionEnabled"] is True
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_schedules_are_on_the_default_bus_and_keep_what_they_cannot_deliver():
    targets = {"TickRule": "CheckServices", "RangeRule": "CheckServices", "RotationRule": "RotateKeys"}
    assert set(of_type("AWS::Events::Rule")) == set(targets)
    (policy,) = RESOURCES["DeadLettersPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    may_keep = policy["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert may_keep == [{"Fn::GetAtt": [name, "Arn"]} for name in targets]
    for name, function in targets.items():
        rule = RESOURCES[name]["Properties"]
        # AWS refuses a schedule on any other bus.
        assert ("ScheduleExpression" in rule) != ("EventBusName" in rule)
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Fn::GetAtt": [f"{function}Function", "Arn"]}
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}


def test_alarms_follow_the_period_of_the_checks():
    template = load_template()
    periods = template["Mappings"]["Heartbeat"]
    allowed = template["Parameters"]["CheckEveryMinutes"]["AllowedValues"]
    assert set(periods) == {str(minutes) for minutes in allowed}
    for minutes in allowed:
        # At least one round in every period, so that two or three periods in a row can be judged.
        assert periods[str(minutes)] == {"Seconds": max(300, minutes * 60), "Minutes": 2 * max(5, minutes)}
    seconds = {"Fn::FindInMap": ["Heartbeat", {"Ref": "CheckEveryMinutes"}, "Seconds"]}
    per_round = ("ChecksLate", "CheckErrors", "ChecksSlow", "CallbacksRefused", "CallbacksFailing")
    for name in (*per_round, "VerdictsSuppressed", "ServicesUnseen", "CorruptRecords"):
        assert RESOURCES[f"{name}Alarm"]["Properties"]["Period"] == seconds


def test_there_are_three_control_endpoints_unless_asked_otherwise():
    # The values that shared/aws/src/environment.rs reads.
    parameter = load_template()["Parameters"]["ControlUrls"]
    default = parameter["Default"].split(",")
    assert len(default) == 3 and len({url.split("/")[2] for url in default}) == 3
    allowed = re.compile(parameter["AllowedPattern"])
    for value in ("", parameter["Default"], "http://127.0.0.1:8900/", ",".join(["https://a.example/"] * 10)):
        assert allowed.search(value), value
    for value in ("a.example", "https://u@a.example/", "https://a.example/ ,", ",".join(["https://a.example/"] * 11)):
        assert not allowed.search(value), value
    variables = RESOURCES["CheckServicesFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["CONTROL_URLS"] == {"Ref": "ControlUrls"}


def test_keys_live_for_ninety_days_unless_asked_otherwise():
    # The values that shared/aws/src/environment.rs reads.
    parameter = load_template()["Parameters"]["KeyLifetimeDays"]
    assert (parameter["Default"], parameter["MinValue"], parameter["MaxValue"]) == (90, 0, 3650)
    variables = RESOURCES["RotateKeysFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["KEY_LIFETIME_DAYS"] == {"Ref": "KeyLifetimeDays"}


def test_the_forge_apps_key_is_the_one_parameter_that_has_to_be_given():
    parameters = load_template()["Parameters"]
    assert [name for name, parameter in parameters.items() if "Default" not in parameter] == ["ForgeAppPublicKey"]
    key = parameters["ForgeAppPublicKey"]
    one = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","alg":"EdDSA","use":"sig"}'
    for good in (f'{{"keys":[{one}]}}', f'{{"keys":[{one},{one}]}}', f'{{ "keys" : [ {one} ] }}\n'):
        assert re.fullmatch(key["AllowedPattern"], good) and len(good) <= key["MaxLength"], good
    for bad in ("", " ", "{}", '{"keys":[]}', '{"keys":', one, f"[{one}]"):
        assert not re.fullmatch(key["AllowedPattern"], bad), bad


def test_a_tenant_has_at_most_as_many_services_as_both_sides_take():
    limits = json.loads((settings.ROOT / "testdata" / "limits.json").read_text())
    parameters = load_template()["Parameters"]
    assert parameters["ServicesPerTenant"]["MaxValue"] == limits["servicesPerTenant"]
    assert parameters["ServicesPerTenant"]["Default"] <= limits["servicesPerTenant"]
    assert parameters["ServicesPerOwner"]["MaxValue"] <= limits["servicesPerTenant"]


def test_nothing_is_reserved_for_registrations_unless_asked():
    parameter = load_template()["Parameters"]["AddServiceConcurrency"]
    assert (parameter["Default"], parameter["MinValue"]) == (0, 0)
    reserved = {name: f["Properties"].get("ReservedConcurrentExecutions") for name, f in of_type("AWS::Serverless::Function").items()}
    asked = {"Fn::If": ["HasAddServiceConcurrency", {"Ref": "AddServiceConcurrency"}, {"Ref": "AWS::NoValue"}]}
    assert {name: value for name, value in reserved.items() if value} == {"AddServiceFunction": asked}


def test_no_log_level_hides_the_metrics():
    # Lambda takes a line without a level, as metrics are, for INFO.
    assert load_template()["Parameters"]["LogLevel"]["AllowedValues"] == ["TRACE", "DEBUG", "INFO"]


def test_access_logs_hold_no_query_string_and_no_address():
    fields = RESOURCES["ApiStage"]["Properties"]["AccessLogSettings"]["Format"]
    for forbidden in ("query", "rawPath", "header", "sourceIp", "$context.error.message"):
        assert forbidden not in fields


def test_no_resource_has_a_fixed_name():
    """Every name is made of something of the stack's: two stages fit into one account."""
    for name, resource in RESOURCES.items():
        for key, value in resource["Properties"].items():
            # A stage's name is the API's own; other metrics' names are AWS's.
            if key.endswith("Name") and key not in ("StageName", "MetricName", "DisplayName"):
                assert isinstance(value, dict), f"{name} is called {value}"
