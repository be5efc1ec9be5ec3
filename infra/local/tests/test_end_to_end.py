"""The whole system as a person meets it: the deployed stack, a browser's form, a real web server that comes and goes.

Every callback is verified by the companion app's own code; the tests read what it accepted.
"""

import time
from datetime import UTC, datetime

from form import fetch, readable
from stack import Stack


def test_a_service_goes_down_and_comes_back_and_forge_hears_of_it(stack: Stack):
    names = ("Shop", "Shop over TLS")
    for name, url in zip(names, (stack.nginx.http_url, stack.nginx.https_url)):
        status, answer = stack.register(name, url)
        assert status == 201, answer
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
    stack.last_tick = datetime.now(UTC).replace(second=0, microsecond=0)
    up = next(entry for entry in reversed(stack.callbacks()) if entry["transitions"])
    assert sorted((change["from"], change["to"]) for change in up["transitions"]) == [("DOWN", "ALIVE")] * 2

    for entry in stack.callbacks():
        assert entry["code"] in ("ACCEPTED", "DUPLICATE"), entry


def test_what_is_no_route_gets_an_answer_of_ours(stack: Stack):
    for path in ("/elsewhere", "/register/", "/addedMonitorService"):
        status, page = fetch(stack.aws.api_url + path)
        assert (status, "There is nothing here" in readable(page)) == (404, True), path
