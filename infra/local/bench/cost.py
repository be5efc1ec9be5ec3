"""What a deployment of any size would take and cost in a month, computed from measured parts.

Prices: AWS list prices of us-east-1, USD, November 2026, without free tiers (the same as in docs/operations.md, "Costs").
"""

import math
from dataclasses import dataclass, field

from bench.fit import Line

PRICES = {
    "Lambda GB-second (x86)": 0.0000166667,
    "Lambda request": 0.20e-6,
    "DynamoDB read unit": 0.125e-6,
    "DynamoDB write unit": 0.625e-6,
    "KMS request": 0.03 / 10_000,
    "log GB": 0.50,
    "EventBridge event": 1.00e-6,
}
# Keys, alarms, all metrics: docs/operations.md, "Costs", "Fully in use".
FIXED_USD = 7.05

PERIOD_S = 300
TICKS_PER_MONTH = 30 * 86_400 // PERIOD_S
MEMORY_GB = 0.5
# Lambda gives a function of 1,769 MB one processor, and others their share of it.
VCPU_SHARE = 512 / 1769
SERVICES_PER_TENANT = 10
# functions/check-services: TENANTS_PER_INVOCATION, how tenants' starts are spread, what the key cache holds and for how long.
TENANTS_PER_INVOCATION = 2_500
SPREAD_S_PER_TENANT = 0.020
LONGEST_SPREAD_S = 0.20 * PERIOD_S
CACHED_KEYS = 100_000
KEY_RENEWALS_PER_MONTH = 60
# A hanging target that is found out: three attempts of 5 s, with waits of 2 s and 5 s between them.
LONGEST_CHECK_S = 22
# An assumption: every service goes down and comes back twice a month.
CHANGES_PER_SERVICE_AND_MONTH = 4


@dataclass(frozen=True)
class Measured:
    """Per round, as lines over the number of services."""

    cpu_s: Line
    log_bytes: Line
    read_units: Line
    write_units: Line


@dataclass
class Estimate:
    """A deployment with so many services; counts are per month, unless they say otherwise."""

    services: int
    invocations_per_round: int = 0
    cpu_s_per_round: float = 0.0
    billed_s_per_invocation: float = 0.0
    gb_s: float = 0.0
    read_units: float = 0.0
    write_units: float = 0.0
    kms_requests: float = 0.0
    log_gb: float = 0.0
    events: float = 0.0
    usd: dict[str, float] = field(default_factory=dict)

    @property
    def checks(self) -> float:
        return self.services * TICKS_PER_MONTH

    @property
    def total_usd(self) -> float:
        return sum(self.usd.values()) + FIXED_USD

    @property
    def usd_per_million_checks(self) -> float:
        return self.total_usd / self.checks * 1e6


def estimate(services: int, measured: Measured) -> Estimate:
    """The month of a deployment of this size, checked every five minutes."""
    tenants = services / SERVICES_PER_TENANT
    ranges = math.ceil(tenants / TENANTS_PER_INVOCATION)
    result = Estimate(services)
    # One that only lists the tenants and hands ranges on, unless there is a single range.
    result.invocations_per_round = ranges + (ranges > 1)
    result.cpu_s_per_round = measured.cpu_s.at(services)
    waiting_s = min(tenants / ranges * SPREAD_S_PER_TENANT, LONGEST_SPREAD_S) + LONGEST_CHECK_S
    result.billed_s_per_invocation = max(waiting_s, result.cpu_s_per_round / ranges / VCPU_SHARE)
    result.gb_s = result.billed_s_per_invocation * ranges * MEMORY_GB * TICKS_PER_MONTH
    result.read_units = measured.read_units.at(services) * TICKS_PER_MONTH
    # A change is acknowledged by a second write.
    changes = services * CHANGES_PER_SERVICE_AND_MONTH
    result.write_units = measured.write_units.at(services) * TICKS_PER_MONTH + changes
    result.kms_requests = kms_requests(tenants, ranges)
    result.log_gb = measured.log_bytes.at(services) * TICKS_PER_MONTH / 1e9
    result.events = changes + (ranges if ranges > 1 else 0) * TICKS_PER_MONTH
    result.usd = {
        "Lambda": result.gb_s * PRICES["Lambda GB-second (x86)"]
        + result.invocations_per_round * TICKS_PER_MONTH * PRICES["Lambda request"],
        "DynamoDB": result.read_units * PRICES["DynamoDB read unit"] + result.write_units * PRICES["DynamoDB write unit"],
        "KMS": result.kms_requests * PRICES["KMS request"],
        "logs": result.log_gb * PRICES["log GB"],
        "EventBridge": result.events * PRICES["EventBridge event"],
    }
    return result


def kms_requests(tenants: float, ranges: int) -> float:
    """Unwrapped keys a month, at the worst: Lambda gives each range to any of as many sandboxes as there are ranges.

    Then each sandbox meets every tenant, keeps as many keys as its cache holds, and renews those twice a day; the others
    are unwrapped anew whenever it meets them.
    """
    kept = min(tenants, CACHED_KEYS)
    missed = tenants * (1 - kept / tenants) * TICKS_PER_MONTH
    return missed + KEY_RENEWALS_PER_MONTH * kept * ranges
