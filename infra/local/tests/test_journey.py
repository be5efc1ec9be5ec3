"""The journey of a person through a real browser, against a stack of its own; the steps are in forge-site/browser-tests."""

import pytest

import settings
from processes import Processes
from stack import Stack

pytestmark = pytest.mark.browser


def test_a_person_finds_the_way_through_a_browser():
    with Processes() as processes:
        stack = Stack(processes, "journey")
        described = {"SITE_URL": stack.site.url, "SITE_STATE_DIR": str(stack.site.state)}
        processes.run(
            "the journey",
            ["npm", "run", "test:journey", "--silent"],
            stack.aws.environment() | described,
            settings.FORGE_SITE,
        )
