"""Copies what the deployed functions log from the local CloudWatch Logs into a file."""

import time
from pathlib import Path

from aws import LocalAws


class FunctionLogs:
    """Appends new log lines of all log groups to `file`, each as `<function> <line>`."""

    def __init__(self, aws: LocalAws, file: Path):
        self.client = aws.client("logs")
        self.file = file
        # Per group: the last millisecond seen, and its messages, since more may come within the same one.
        self.seen: dict[str, tuple[int, set[str]]] = {}
        self.since = int(time.time() * 1000)

    def copy(self) -> None:
        lines = []
        for group in self.client.describe_log_groups()["logGroups"]:
            name = group["logGroupName"]
            since, known = self.seen.get(name, (self.since, set()))
            events = self.client.filter_log_events(logGroupName=name, startTime=since)["events"]
            new = [event for event in events if event["timestamp"] > since or event["message"] not in known]
            if not new:
                continue
            last = max(event["timestamp"] for event in new)
            same = {event["message"] for event in new if event["timestamp"] == last}
            self.seen[name] = (last, same | (known if last == since else set()))
            lines += [(event["timestamp"], f"{name.rsplit('/', 1)[-1]} {event['message'].rstrip()}\n") for event in new]
        if lines:
            with self.file.open("a") as file:
                file.writelines(line for _, line in sorted(lines))
