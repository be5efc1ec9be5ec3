"""How targets behave, and what is true of each at every tick. Pure: the server and the judge both ask here."""

from enum import StrEnum


class Kind(StrEnum):
    """A kind of target."""

    HTTP = "http"
    HTTPS = "https"
    # Answers after one to three seconds: alive.
    SLOW = "slow"
    # Takes the request and never answers.
    HANGING = "hanging"
    # The same, and all of this kind are behind one address.
    SHARED = "shared"
    # Answers 503 at some ticks.
    FLAPPING = "flapping"
    # Sends a byte of its body every fifth of a second.
    DRIPPING = "dripping"
    # Sends its body for ever: alive, since a check has seen enough after 64 KiB.
    ENDLESS = "endless"
    # Redirects in a circle.
    REDIRECTING = "redirecting"


HOSTILE = (Kind.SLOW, Kind.HANGING, Kind.SHARED, Kind.FLAPPING, Kind.DRIPPING, Kind.ENDLESS, Kind.REDIRECTING)
ALWAYS_DOWN = (Kind.HANGING, Kind.SHARED, Kind.DRIPPING, Kind.REDIRECTING)
# Found out within so many ticks, where it is more than one: an address takes only so many connections.
FOUND_WITHIN = {Kind.SHARED: 2}

# A target that flaps is down at every third tick; a third of them at each.
FLAPPING_TICKS = 3


def slow_seconds(number: int) -> float:
    return 1 + number % 5 * 0.5


def is_down(kind: Kind, number: int, tick: int) -> bool:
    """Whether the target is down at the tick with this index, from 0."""
    return kind in ALWAYS_DOWN or (kind is Kind.FLAPPING and (tick + number) % FLAPPING_TICKS == 1)


def status(kind: Kind, number: int, tick: int) -> str:
    """What the app must show after a tick. Before the first one (-1): what the check at registration has seen."""
    if tick < 0:
        return "UNKNOWN" if kind in ALWAYS_DOWN else "ALIVE"
    return "DOWN" if is_down(kind, number, tick) else "ALIVE"


def is_due(kind: Kind, tick: int) -> bool:
    """Whether the app must show the truth after this tick. Before, it may also show what it showed at first."""
    return tick + 1 >= FOUND_WITHIN.get(kind, 1)


def transitions(kind: Kind, number: int, ticks: int) -> list[tuple[int, str, str]]:
    """Every change that the app must be told of, as (index of the tick, from, to)."""
    statuses = [status(kind, number, tick) for tick in range(-1, ticks)]
    return [(tick, old, new) for tick, (old, new) in enumerate(zip(statuses, statuses[1:])) if old != new]


def mixture(count: int, hostile_percent: int) -> list[Kind]:
    """Kinds of so many services in turn: of the healthy ones every other speaks HTTPS, the hostile kinds are equally many.

    Even in every part: each kind comes round at its own distance.
    """
    kinds, hostile, healthy = [], 0, 0
    for index in range(count):
        if (index + 1) * hostile_percent // 100 > index * hostile_percent // 100:
            kinds.append(HOSTILE[hostile % len(HOSTILE)])
            hostile += 1
        else:
            kinds.append((Kind.HTTP, Kind.HTTPS)[healthy % 2])
            healthy += 1
    return kinds
