"""A short `make chaos`: check-services killed at random and at the worst moments, and nothing lost or told twice."""

import pytest

import chaos
import settings
from kills.plan import Plan

pytestmark = pytest.mark.kills


def test_kills_lose_and_double_nothing():
    plan = Plan(
        settings.STATE / "test" / "kills",
        worlds=4,
        seed=7,
        kills_per_tick=(2, 2),
        enough=lambda _, ticks: ticks == 2,
    )
    figures = chaos.run(plan)
    figures.print()
    assert not figures.lost
    assert not figures.doubled
    assert not figures.problems
    assert sum(figures.kills.values()) >= 8
    assert figures.kills["between commit and send"] >= 1
    assert figures.changes >= 8
    assert figures.applied == figures.changes
