"""The pure parts of the measurements: what is true of a target, lines through points, and the cost of a month."""

import json
from collections import Counter

import pytest

from bench import cost
from bench.behaviour import ALWAYS_DOWN, HOSTILE, Kind, is_down, mixture, status, transitions
from bench.calls import Ledger
from bench.fit import Line, percentile, straight_line
from bench.load import Truth, waits_of_healthy
from bench.tenants import Tenant, derived, item_bytes


def test_a_flapping_target_changes_as_its_schedule_says():
    assert [status(Kind.FLAPPING, 0, tick) for tick in range(-1, 5)] == ["ALIVE", "ALIVE", "DOWN", "ALIVE", "ALIVE", "DOWN"]
    assert transitions(Kind.FLAPPING, 0, 4) == [(1, "ALIVE", "DOWN"), (2, "DOWN", "ALIVE")]
    for tick in range(6):
        assert sum(is_down(Kind.FLAPPING, number, tick) for number in range(9)) == 3


def test_what_is_always_down_is_found_out_once():
    for kind in Kind:
        expected = [(0, "UNKNOWN", "DOWN")] if kind in ALWAYS_DOWN else []
        if kind is not Kind.FLAPPING:
            assert transitions(kind, 3, 5) == expected


@pytest.mark.parametrize("count", [10, 36, 100, 1000])
def test_a_mixture_has_its_share_of_every_kind(count):
    kinds = mixture(count, 20)
    assert len(kinds) == count
    hostile = [kind for kind in kinds if kind in HOSTILE]
    assert len(hostile) == count // 5
    shares = [hostile.count(kind) for kind in HOSTILE]
    assert max(shares) - min(shares) <= 1
    assert abs(kinds.count(Kind.HTTP) - kinds.count(Kind.HTTPS)) <= 1


def test_a_line_goes_through_points_that_lie_on_one():
    line = straight_line([(100, 7.0), (1_000, 25.0), (10_000, 205.0)])
    assert line.fixed == pytest.approx(5.0)
    assert line.each == pytest.approx(0.02)
    assert line.r2 == pytest.approx(1.0)
    assert line.at(1_000_000) == pytest.approx(20_005)
    assert straight_line([(0, 0), (1, 1), (2, 0)]).r2 == pytest.approx(0.0)
    with pytest.raises(ValueError, match="different x"):
        straight_line([(1, 1), (1, 2)])


def test_percentiles_are_values_that_were_measured():
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([3.0], 99) == 3.0


def told(tenant: Tenant, shown: list[str], changes: list[tuple[int, str, str]]) -> dict:
    statuses = [[service.id, status, False, None] for service, status in zip(tenant.services, shown)]
    transitions = [[tick, tenant.services[0].id, old, new] for tick, old, new in changes]
    return {"stored": [{"tenantId": tenant.id, "statuses": statuses, "transitions": transitions}]}


def flapping_tenant() -> Tenant:
    tenant = Tenant.new("http://127.0.0.1:1")
    tenant.add("http://127.2.0.1:1/flapping/0", Kind.FLAPPING, 0)
    return tenant


def test_the_truth_is_no_failure():
    tenant = flapping_tenant()
    truth = Truth([tenant])
    truth.compare(told(tenant, ["ALIVE"], []), 60)
    truth.compare(told(tenant, ["DOWN"], [(120, "ALIVE", "DOWN")]), 120)
    assert (truth.false_down, truth.missed_down, truth.lost(), truth.doubled()) == ([], [], set(), set())
    assert [truth.changed_tenants(index) for index in range(2)] == [0, 1]


@pytest.mark.parametrize("found_at", [0, 1, 2])
def test_what_shares_an_address_may_be_found_out_a_tick_later_and_no_later(found_at):
    tenant = Tenant.new("http://127.0.0.1:1")
    tenant.add("http://127.3.0.1:1/shared/0", Kind.SHARED, 0)
    truth = Truth([tenant])
    changes = [(60 * (found_at + 1), "UNKNOWN", "DOWN")]
    for index in range(3):
        is_found = index >= found_at
        truth.compare(told(tenant, ["DOWN" if is_found else "UNKNOWN"], changes if is_found else []), 60 * (index + 1))
    is_late = found_at == 2
    assert (len(truth.missed_down), bool(truth.lost()), bool(truth.doubled())) == (is_late, is_late, is_late)
    assert truth.shared_down == [int(index >= found_at) for index in range(3)]


def test_a_wait_is_what_lies_between_a_tenants_first_check_and_a_healthy_one():
    tenant = Tenant.new("http://127.0.0.1:1")
    for kind in (Kind.HTTP, Kind.HTTPS, Kind.HANGING):
        tenant.add(f"http://127.2.0.1:1/{kind}/0", kind, 0)
    asked = zip(tenant.services, [61_000, 60_000, 65_000])
    assert waits_of_healthy(tenant, [[service.id, "ALIVE", False, at] for service, at in asked]) == [1.0, 0.0]


def test_every_kind_of_lie_is_seen():
    tenant = flapping_tenant()
    truth = Truth([tenant])
    truth.compare(told(tenant, ["DOWN"], [(60, "ALIVE", "DOWN")]), 60)
    truth.compare(told(tenant, ["ALIVE"], [(60, "ALIVE", "DOWN")]), 120)
    service = tenant.services[0].id
    assert len(truth.false_down) == len(truth.missed_down) == 1
    assert truth.lost() == {(tenant.id, 120, service, "ALIVE", "DOWN")}
    assert truth.doubled() == {(tenant.id, 60, service, "ALIVE", "DOWN")}


def test_ids_are_the_vectors_of_the_rust_tests():
    trigger = "https://99999999-8888-4777-8666-555555555555.hello.atlassian-dev.net/x1/abcDEF_-123"
    tenant = derived(20, "forge-health/tenant/v1", "11111111-2222-4333-8444-555555555555", trigger)
    assert tenant == "ofv6g5lwodmdskei2zp2abn222gyepme"
    assert derived(10, "forge-health/service/v1", tenant, "https://example.com/health") == "w4g76pj5y32txfsc"


def test_an_item_is_as_large_as_dynamodb_says():
    assert item_bytes({"pk": {"S": "abc"}, "n": {"N": "12345"}, "b": {"BOOL": True}}) == 5 + 1 + 4 + 2
    assert item_bytes({"m": {"M": {"s": {"S": "D"}, "t": {"N": "1700000000"}}}}) == 1 + 3 + (1 + 1 + 1) + (1 + 6 + 1)


def test_calls_are_counted_by_what_they_are():
    ledger = Ledger()
    ledger.note("DynamoDB_20120810.Query", b'{"IndexName":"active"}')
    ledger.note("DynamoDB_20120810.Query", b"{}")
    ledger.note("TrentService.Decrypt", b"{}")
    entries = [{"DetailType": "CheckRange", "Detail": '{"hop":1}'}, {"DetailType": "Other"}]
    ledger.note("AWSEvents.PutEvents", json.dumps({"Entries": entries}).encode())
    assert ledger.ranges.get_nowait() == {"hop": 1}
    assert ledger.take() == Counter(
        {"Query of the index": 1, "Query": 1, "Decrypt": 1, "PutEvents": 1, "event CheckRange": 1, "event Other": 1}
    )
    assert ledger.take() == Counter()


def test_a_month_is_computed_from_its_parts():
    measured = cost.Measured(
        cpu_s=Line(0.0, 0.0004, 1.0), log_bytes=Line(0, 50, 1.0), read_units=Line(0, 0.1, 1.0), write_units=Line(0, 0.1, 1.0)
    )
    small = cost.estimate(1_000, measured)
    assert small.invocations_per_round == 1
    # 100 tenants 20 ms apart, and the longest check: longer than 0.4 CPU seconds take on 0.29 of a processor.
    assert small.billed_s_per_invocation == pytest.approx(100 * cost.SPREAD_S_PER_TENANT + cost.LONGEST_CHECK_S)
    assert small.gb_s == pytest.approx(small.billed_s_per_invocation * 0.5 * 8640)
    large = cost.estimate(100_000, measured)
    assert large.invocations_per_round == 5
    assert large.read_units == pytest.approx(100 * small.read_units)
    assert large.usd_per_million_checks == pytest.approx(large.total_usd / (100_000 * 8640) * 1e6)


def test_keys_that_fit_the_cache_are_renewed_and_others_are_unwrapped_again():
    assert cost.kms_requests(1_000, 1) == pytest.approx(60_000)
    assert cost.kms_requests(10_000, 4) == pytest.approx(60 * 10_000 * 4)
    assert cost.kms_requests(180_000, 72) == pytest.approx(80_000 * 8640 + 60 * 100_000 * 72)
