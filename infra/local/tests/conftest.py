import pytest

from processes import Processes
from stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs the deployed stack, so that `make test` can run it beside the rest."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker("system")


@pytest.fixture(scope="session")
def stack():
    """One deployed stack for all tests that need one."""
    with Processes() as processes:
        yield Stack(processes, "end-to-end")
