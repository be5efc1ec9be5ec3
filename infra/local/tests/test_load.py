"""A short `make load`: every kind of target, ranges that are handed on, and every app told the truth."""

import pytest

from bench import load
from bench.behaviour import HOSTILE, Kind
from bench.stage import empty_folder

pytestmark = pytest.mark.load

TENANTS, SERVICES, TICKS, PER_INVOCATION = 3, 12, 3, 2


def test_apps_are_told_the_truth_about_every_kind_of_target():
    [size] = load.run([(TENANTS, SERVICES, TICKS, PER_INVOCATION)], empty_folder("test/load"), "debug", hostile_percent=50)
    assert size.failures() == []
    assert {s.kind for tenant in size.truth.tenants for s in tenant.services} == {Kind.HTTP, Kind.HTTPS, *HOSTILE}
    for done in size.rounds:
        # One invocation that hands on, and one for each of the two ranges.
        assert done.calls["event CheckRange"] == 2
        assert len(done.invocations_s) == 3
        assert len(done.received) == TENANTS
    # What is down is found at the first tick; what flaps changes at every one.
    assert [size.truth.changed_tenants(index) for index in range(TICKS)] == [3, 2, 2]
    assert size.shared > 0
    assert size.truth.waits_s
    assert size.rounds[0].calls["Decrypt"] == TENANTS
    assert len(size.truth.expected()) >= 9
