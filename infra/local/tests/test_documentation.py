"""What the documents say is there: parameters, alarms, metrics, log fields, versions. A name that changes changes both."""

import json
import re

import settings
from aws import load_template

TEMPLATE = load_template()
RESOURCES = TEMPLATE["Resources"]
OPERATIONS = (settings.ROOT / "docs" / "operations.md").read_text()
README = (settings.ROOT / "README.md").read_text()


def table(text: str, heading: str) -> list[str]:
    """The names in the first column of the table whose first column is called `heading`; names stand between backticks."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def alarms() -> dict[str, dict]:
    found = {name: resource["Properties"] for name, resource in RESOURCES.items() if name.endswith("Alarm")}
    assert all(RESOURCES[name]["Type"] == "AWS::CloudWatch::Alarm" for name in found)
    return found


def widgets() -> list[dict]:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return json.loads(body)["widgets"]


def drawn(widget: dict) -> list[tuple[str, str]]:
    """Namespace and name of each metric of a widget, its abbreviations for "as above" resolved."""
    found, above = [], []
    for row in widget["properties"].get("metrics", []):
        names = [part for part in row if isinstance(part, str)]
        if names[0] == "...":
            names = above[: len(above) - len(names) + 1] + names[1:]
        names = [above[index] if name == "." else name for index, name in enumerate(names)]
        found.append((names[0], names[1]))
        above = names
    return found


def custom_metrics() -> set[str]:
    source = (settings.ROOT / "shared" / "aws" / "src" / "metrics.rs").read_text()
    _, body = source.split("fn name(self) -> &'static str {")
    return set(re.findall(r'=> "(\w+)"', body.split("fn unit")[0]))


def log_fields() -> set[str]:
    """The fields of every tracing::...! call of the deployed code."""
    found = set()
    folders = [*settings.ROOT.glob("shared/*/src"), *settings.ROOT.glob("functions/*/src")]
    for source in (source for folder in folders for source in folder.rglob("*.rs")):
        text = source.read_text()
        for call in re.finditer(r"tracing::(?:error|warn|info|debug|trace)!\(", text):
            for part in arguments(text[call.end() :]):
                if not part.startswith('"'):
                    found.add(re.match(r"[%?]?([a-z_][a-z_.]*)", part).group(1))
    return found


def arguments(text: str) -> list[str]:
    """The arguments of a call, from behind its opening bracket to the closing one."""
    found, depth, in_text = [""], 1, False
    for before, character in zip(" " + text, text):
        if character == '"' and before != "\\":
            in_text = not in_text
        elif not in_text:
            depth += (character in "([{") - (character in ")]}")
            if depth == 0:
                break
            if character == "," and depth == 1:
                found.append("")
                continue
        found[-1] += character
    return [part.strip() for part in found if part.strip()]


def test_every_parameter_has_its_row_in_both_tables():
    parameters = sorted(TEMPLATE["Parameters"])
    assert sorted(table(OPERATIONS, "parameter")) == parameters
    assert sorted(table(OPERATIONS, "changed parameter")) == parameters


def test_eight_metrics_of_our_own_are_documented_and_no_other_is_watched():
    own = custom_metrics()
    assert len(own) == 8
    assert set(table(OPERATIONS, "metric")) == own
    namespace = {"Ref": "AWS::StackName"}
    watched = {alarm["MetricName"] for alarm in alarms().values() if alarm["Namespace"] == namespace}
    shown = {name for widget in widgets() for space, name in drawn(widget) if space == "${AWS::StackName}"}
    assert watched <= own and shown == own, (watched, shown)


def test_every_alarm_says_what_to_do_first_and_has_a_section():
    sections = re.findall(r"^### (\w+)$", OPERATIONS, re.MULTILINE)
    assert sections == [name.removesuffix("Alarm") for name in alarms()]
    for name, alarm in alarms().items():
        assert "First: " in alarm["AlarmDescription"], name


def test_the_dashboard_answers_four_questions():
    headings = [widget["properties"]["markdown"] for widget in widgets() if widget["type"] == "text"]
    assert headings == [
        "## Are checks running?",
        "## Are they late?",
        "## Are callbacks arriving?",
        "## Is the API well?",
    ]


def test_every_field_of_the_logs_is_documented_and_the_queries_use_no_other():
    fields = log_fields()
    # These two are in every line.
    assert set(table(OPERATIONS, "field")) == fields | {"message", "level"}
    (section,) = re.findall(r"^## Logs$(.*?)^## ", OPERATIONS, re.MULTILINE | re.DOTALL)
    queries = re.findall(r"^```\n(# .*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(queries) == 5
    for query in queries:
        assert set(re.findall(r"`([^`]+)`", query)) <= fields, query
    (failed,) = [query for query in queries if query.startswith("# Failed requests")]
    used = re.search(r"^fields (.*)$", failed, re.MULTILINE).group(1).replace("@timestamp, ", "").split(", ")
    logged = json.loads(RESOURCES["ApiStage"]["Properties"]["AccessLogSettings"]["Format"])
    assert set(used) <= set(logged)


def test_the_versions_to_install_for_a_deployment_are_the_tested_ones():
    pinned = (settings.ROOT / "infra" / "local" / "requirements-sam.txt").read_text().split()
    named = re.findall(r"[\w-]+==[\d.]+", README)
    assert len(named) == 2 and set(named) <= set(pinned), named
