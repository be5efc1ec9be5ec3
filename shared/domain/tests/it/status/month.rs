//! A month of a deployment, second by second: real outages, targets that flap, single failed attempts, ticks that never
//! ran, and outages of our own network. Every verdict goes through the real `advance`; the control endpoints are asked when
//! and as check-services asks them.
//!
//! The truth is known here, so false and missed `DOWN`s can be counted. Two months show that it is a hard one: without
//! control endpoints, and without confirmation, there are false `DOWN`s.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use domain::check::ProbeFailure;
use domain::service::{Service, Thresholds};
use domain::status::{
    Confirmation, Finding, MAX_SUPPRESSED, State, Status, advance, confirmation, current, is_suppressed,
};

use super::{Findings, acknowledge, observation, period, readable, service, thresholds, tick};

const TENANTS: usize = 30;
const SERVICES_PER_TENANT: usize = 10;
const SERVICES: usize = TENANTS * SERVICES_PER_TENANT;
const TICKS: i64 = 30 * 24 * 12;
const TICK_MS: i64 = 300_000;
/// As deployed: two further attempts, two and five seconds after the one before.
const WAITS_MS: [i64; 2] = [2_000, 5_000];
/// Longer than any check with its confirmations takes here.
const CHECK_MS: i64 = 25_000;
/// What a check that gets no answer takes.
const TIMEOUT_MS: i64 = 5_000;

/// How many control endpoints there are, as deployed.
const CONTROLS: usize = 3;
/// They are asked once in so long.
const SPACING_MS: i64 = 2_000;

/// What the control endpoints do in an outage of our own network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Controls {
    /// There are none.
    None,
    /// All fail exactly while our network fails.
    All,
    /// One of them is gone for good, whatever our network does.
    OneGone,
    /// One of them always takes 2.9 s.
    OneSlow,
    /// One of them answers also in an outage of ours.
    OneNear,
    /// Two of them answer also in an outage of ours.
    TwoNear,
}

/// Which safeguards are on.
#[derive(Clone, Copy)]
struct Safeguards {
    confirm: bool,
    controls: Controls,
}

/// `SplitMix64`: a fixed seed gives the same month on every machine.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.draw() >> 1).unwrap() % bound
    }

    fn one_in(&mut self, bound: i64) -> bool {
        self.below(bound) == 0
    }
}

/// From and to, in milliseconds since the month began; the end is not part of it.
type Span = (i64, i64);

fn overlaps(spans: &[Span], span: Span) -> bool {
    // Sorted and disjoint: only the last one that begins before the end can reach into it.
    let next = spans.partition_point(|(from, _)| *from < span.1);
    next > 0 && spans[next - 1].1 > span.0
}

fn covers(spans: &[Span], span: Span) -> bool {
    spans.iter().any(|(from, to)| *from <= span.0 && span.1 <= *to)
}

/// Sorted, and joined where they touch.
fn tidy(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// What really happens.
struct World {
    services: Vec<Service>,
    /// Per service: outages that a user should be told of.
    outages: Vec<Vec<Span>>,
    /// Per service: blinks and restarts, which nobody should be told of.
    blinks: Vec<Vec<Span>>,
    /// Our own side sees nothing.
    own: Vec<Span>,
    /// Ticks that never ran.
    missed: Vec<bool>,
}

impl World {
    fn new(random: &mut Random) -> Self {
        let mut services = Vec::new();
        let (mut outages, mut blinks) = (Vec::new(), Vec::new());
        for index in 0..SERVICES {
            // One in twenty flaps, and has no other failed attempts: half of those blink for seconds, the others restart every hour and ask for 2 of 3.
            let (blinking, restarting) = (index % 40 == 0, index % 40 == 20);
            let rule = match index {
                _ if restarting => thresholds(2, 3, 1),
                _ if index % 10 == 1 => thresholds(2, 3, 2),
                _ if index % 10 == 2 => thresholds(3, 5, 1),
                _ => Thresholds::default(),
            };
            services.push(service(&format!("s{index}.example"), rule));
            let mut down: Vec<Span> = (0..random.below(7))
                .map(|_| {
                    let from = random.below(TICKS * TICK_MS);
                    (from, from + 600_000 + random.below(6 * 3_600_000))
                })
                .collect();
            // A provider that two of five services stand on fails for two hours.
            if index % 5 < 2 {
                let from = 2_000 * TICK_MS + 1_500;
                down.push((from, from + 7_200_000));
            }
            outages.push(tidy(down));
            let mut short = Vec::new();
            for number in 0..TICKS {
                if blinking && random.one_in(3) {
                    // Shorter than the seven seconds that a failure must last, and around the moment of the check.
                    let from = number * TICK_MS + random.below(6_000) - 3_000;
                    short.push((from, from + 500 + random.below(6_000)));
                }
                if restarting && number % 12 == 7 {
                    let from = number * TICK_MS - random.below(60_000);
                    short.push((from, from + 20_000 + random.below(180_000)));
                }
            }
            blinks.push(tidy(short));
        }
        // Two a day; every other one begins within seconds of the checks, where it is hardest to tell.
        let own = (0..60)
            .map(|number| {
                let at = random.below(TICKS) * TICK_MS;
                let from =
                    at + if number % 2 == 0 { random.below(15_000) - 5_000 } else { random.below(TICK_MS) };
                let length = if number % 3 == 0 { random.below(30_000) } else { random.below(1_800_000) };
                (from, from + 1_000 + length)
            })
            .collect();
        let missed = (0..TICKS).map(|_| random.one_in(500)).collect();
        Self { services, outages, blinks, own: tidy(own), missed }
    }

    /// Whether an attempt in this span gets its answer.
    fn answers(&self, service: usize, span: Span) -> bool {
        ![&self.own, &self.outages[service], &self.blinks[service]].iter().any(|spans| overlaps(spans, span))
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    checks: u64,
    attempts: u64,
    failed_checks: u64,
    suppressed: u64,
    suppressed_without_cause: u64,
    controls_asked: u64,
    transitions: u64,
    downs: u64,
    false_downs: u64,
    missed_downs: u64,
    /// Stretches of an outage, uninterrupted by one of ours, at whose first due tick the service was `DOWN`.
    outages_told: u64,
    /// Outages that became `DOWN` later than at their first due tick, and by how many ticks at most.
    late: u64,
    latest: u64,
}

/// What happens next to a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The last attempt begins, and the control endpoints are asked beside it.
    Last,
    /// An attempt ends, with an answer or without.
    End(bool),
    /// All attempts have failed, and the control endpoints are asked once more.
    Judge,
}

/// One service's check under way.
#[derive(Clone, Copy)]
struct Check {
    begin: i64,
    attempts: usize,
    /// Whether most control endpoints failed beside the last attempt or after it.
    is_ours: bool,
    /// When the last attempt ended.
    ended: i64,
}

struct Deployment<'a> {
    world: &'a World,
    safeguards: Safeguards,
    random: Random,
    states: Vec<State>,
    /// Per service: how many ticks in a row, up to now, must have counted as failed.
    must_have_failed: Vec<u8>,
    /// Per service: for how many ticks it has been `DOWN` in truth and by its thresholds, and not in its status.
    overdue: Vec<u64>,
    /// When the control endpoints were asked last, and whether most of them failed.
    controls: Option<(i64, bool)>,
    counts: Counts,
}

impl Deployment<'_> {
    fn tick(&mut self, number: i64) {
        let world = self.world;
        let mut seen: BTreeMap<usize, Finding> = BTreeMap::new();
        // Tenants begin 20 ms apart, in the order of their ids; their services at once, but for a wait now and then.
        let start =
            |index: usize| number * TICK_MS + 20 * i64::try_from(index / SERVICES_PER_TENANT).unwrap();
        let mut checks: Vec<Check> = (0..SERVICES)
            .map(|index| Check {
                begin: start(index) + self.random.below(200),
                attempts: 1,
                is_ours: false,
                ended: 0,
            })
            .collect();
        // The earliest first, so that nobody uses an answer of the control endpoints that is still to come.
        let mut queue = BinaryHeap::new();
        for (index, check) in checks.iter().enumerate() {
            queue.push(Reverse(self.attempt(index, check.begin)));
        }
        while let Some(Reverse((now, index, event))) = queue.pop() {
            let check = &mut checks[index];
            let service = &world.services[index];
            let state = &self.states[index / SERVICES_PER_TENANT];
            let before = current(state, service);
            let may_be_suppressed = before.status != Status::Down && before.suppressed < MAX_SUPPRESSED;
            let again = self.safeguards.confirm
                && confirmation(state, service, tick(number), period()) == Confirmation::Attempts;
            let good = match event {
                Event::End(good) => good,
                Event::Last => {
                    check.is_ours =
                        may_be_suppressed && self.ask_controls(now, now - SPACING_MS) == Some(true);
                    queue.push(Reverse(self.attempt(index, now)));
                    continue;
                }
                Event::Judge => {
                    let Some(most_fail) = self.ask_controls(now, check.ended) else {
                        queue.push(Reverse((now + 10, index, Event::Judge)));
                        continue;
                    };
                    check.is_ours = most_fail;
                    false
                }
            };
            if !good && again && check.attempts <= WAITS_MS.len() {
                let next = now + WAITS_MS[check.attempts - 1];
                let is_last = check.attempts == WAITS_MS.len();
                check.attempts += 1;
                let next = if is_last { (next, index, Event::Last) } else { self.attempt(index, next) };
                queue.push(Reverse(next));
                continue;
            }
            if !good && may_be_suppressed && !check.is_ours && event != Event::Judge {
                check.ended = now;
                queue.push(Reverse((now, index, Event::Judge)));
                continue;
            }
            let is_ours = check.is_ours;
            self.counts.checks += 1;
            self.counts.failed_checks += u64::from(!good);
            let failure = (!good).then_some(ProbeFailure::Timeout);
            let observation = observation(tick(number), failure);
            let finding = if is_ours && !good {
                self.counts.suppressed += 1;
                self.counts.suppressed_without_cause +=
                    u64::from(!overlaps(&world.own, (checks[index].begin, now)));
                Finding::Suppressed(observation)
            } else {
                Finding::Verdict(observation)
            };
            seen.insert(index, finding);
        }
        for tenant in 0..TENANTS {
            self.commit(number, tenant, &seen);
        }
    }

    /// Whether most control endpoints fail, asked at `since` or later; none while it is too early to ask again.
    fn ask_controls(&mut self, at: i64, since: i64) -> Option<bool> {
        let controls = self.safeguards.controls;
        if controls == Controls::None {
            return Some(false);
        }
        if let Some((asked_at, most_fail)) = self.controls {
            if asked_at >= since {
                return Some(most_fail);
            }
            if at < asked_at + SPACING_MS {
                return None;
            }
        }
        self.counts.controls_asked += 1;
        let answers_in = |index: usize| match controls {
            Controls::OneSlow if index == 0 => 2_900,
            _ => 40,
        };
        let fails = |index: &usize| match controls {
            Controls::OneGone if *index == 0 => true,
            Controls::OneNear if *index == 0 => false,
            Controls::TwoNear if *index < 2 => false,
            _ => overlaps(&self.world.own, (at, at + answers_in(*index))),
        };
        let failed = (0..CONTROLS).filter(fails).count();
        let most_fail = failed * 2 > CONTROLS;
        self.controls = Some((at, most_fail));
        Some(most_fail)
    }

    /// One attempt: when it ends, of which service, and whether it was good. Every other target refuses at once when it
    /// is down; the rest leave an attempt to its time-out.
    fn attempt(&mut self, index: usize, from: i64) -> (i64, usize, Event) {
        self.counts.attempts += 1;
        let quick = 30 + self.random.below(400);
        let good = self.world.answers(index, (from, from + quick))
            && (index.is_multiple_of(20) || !self.random.one_in(500));
        let length = if good || index.is_multiple_of(2) { quick } else { TIMEOUT_MS };
        (from + length, index, Event::End(good))
    }

    fn commit(&mut self, number: i64, tenant: usize, seen: &BTreeMap<usize, Finding>) {
        let world = self.world;
        let here = tenant * SERVICES_PER_TENANT..(tenant + 1) * SERVICES_PER_TENANT;
        let services = &world.services[here.clone()];
        let findings: Findings =
            here.clone().map(|index| (world.services[index].id.clone(), seen[&index].clone())).collect();
        let before = &self.states[tenant];
        let mut after = advance(before, tick(number), readable(services), &findings);
        let span = (number * TICK_MS, number * TICK_MS + CHECK_MS);
        for index in here {
            let service = &world.services[index];
            let (old, new) = (current(before, service).status, current(&after, service).status);
            assert!(!is_suppressed(current(&after, service), findings.get(&service.id)) || old == new);
            self.counts.transitions += u64::from(old != new);
            if new == Status::Down && old != Status::Down {
                self.counts.downs += 1;
                let of = i64::from(service.thresholds.down_after.of());
                let looked_back = (span.0 - (of - 1) * TICK_MS, span.1);
                self.counts.false_downs += u64::from(!overlaps(&world.outages[index], looked_back));
            }
            // Only a tick that lies in an outage as a whole, and in none of ours, must find it.
            let failed = &mut self.must_have_failed[index];
            let clear = !overlaps(&world.own, span);
            *failed = if clear && covers(&world.outages[index], span) { failed.saturating_add(1) } else { 0 };
            let needed = service.thresholds.down_after.failed();
            self.counts.outages_told += u64::from(*failed == needed && new == Status::Down);
            self.counts.missed_downs += u64::from(*failed >= needed && new != Status::Down);
            // How late an outage is told that ours covers at its begin.
            let overdue = &mut self.overdue[index];
            let is_due = covers(&world.outages[index], (span.0 - i64::from(needed - 1) * TICK_MS, span.1));
            if is_due && new != Status::Down {
                *overdue += 1;
            } else {
                if new == Status::Down && *overdue > 0 {
                    self.counts.late += 1;
                    self.counts.latest = self.counts.latest.max(*overdue);
                }
                *overdue = 0;
            }
        }
        acknowledge(&mut after);
        self.states[tenant] = after;
    }
}

fn month(ticks: i64, safeguards: Safeguards) -> Counts {
    let world = World::new(&mut Random(20_261_101));
    let mut deployment = Deployment {
        world: &world,
        safeguards,
        random: Random(5),
        states: vec![State::default(); TENANTS],
        must_have_failed: vec![0; SERVICES],
        overdue: vec![0; SERVICES],
        controls: None,
        counts: Counts::default(),
    };
    for number in (0..ticks).filter(|number| !world.missed[usize::try_from(*number).unwrap()]) {
        deployment.tick(number);
    }
    deployment.counts
}

fn controlled(controls: Controls) -> Safeguards {
    Safeguards { confirm: true, controls }
}

#[test]
fn a_month_without_one_false_or_missed_down() {
    let counts = month(TICKS, controlled(Controls::All));
    println!("a month, all control endpoints unreachable in outages of ours: {counts:?}");
    assert_eq!((counts.false_downs, counts.missed_downs), (0, 0), "{counts:?}");
    // An outage of ours that begins between the last attempt and the question hides a true one for a tick.
    assert!(counts.suppressed_without_cause <= 2 && counts.latest <= 7, "{counts:?}");
    assert!(counts.outages_told > 800 && counts.suppressed > 1_000, "an easy month: {counts:?}");
}

#[test]
fn a_control_endpoint_that_is_gone_slow_or_always_near_changes_no_verdict() {
    for (what, controls) in
        [("gone", Controls::OneGone), ("slow", Controls::OneSlow), ("near", Controls::OneNear)]
    {
        let counts = month(TICKS, controlled(controls));
        println!("a month, one control endpoint {what}: {counts:?}");
        assert_eq!((counts.false_downs, counts.missed_downs), (0, 0), "{what}: {counts:?}");
    }
}

#[test]
fn the_month_is_hard_for_a_deployment_without_safeguards() {
    for (what, controls) in
        [("no control endpoints", Controls::None), ("two of three near", Controls::TwoNear)]
    {
        let counts = month(TICKS / 4, controlled(controls));
        println!("a week, {what}: {counts:?}");
        assert!(counts.false_downs > 1_000, "{counts:?}");
    }
    let unconfirmed = month(TICKS / 4, Safeguards { confirm: false, controls: Controls::All });
    println!("a week without confirmation: {unconfirmed:?}");
    assert!(unconfirmed.false_downs > 1_000, "{unconfirmed:?}");
}
