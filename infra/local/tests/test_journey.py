"""A person's journey in a real browser, against a stack of its own; the steps are in forge-app/emulator/browser-tests."""

import pytest

import settings
from processes import Processes
from stack import Stack

pytestmark = pytest.mark.browser


def test_a_person_finds_the_way_through_a_browser():
    with Processes() as processes:
        stack = Stack(processes, "journey")
        described = {"EMULATOR_URL": stack.emulator.url, "EMULATOR_STATE_DIR": str(stack.emulator.state)}
        processes.run(
            "the journey",
            ["npm", "run", "test:journey", "--silent"],
            stack.aws.environment() | described,
            settings.EMULATOR,
        )
