import pytest

from processes import Processes
from stack import Stack


@pytest.fixture(scope="session")
def stack():
    """One deployed stack for all tests that need one."""
    with Processes() as processes:
        yield Stack(processes)
