//! A month of a deployment, second by second: real outages, targets that flap, single failed attempts, ticks that never
//! ran, and outages of our own side. Every verdict goes through the real `advance` and the real decision to hold.
//!
//! The truth is known here, so false and missed `DOWN`s can be counted. Two controls show that the month is a hard one:
//! without holding, and without confirming, there are false `DOWN`s.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use shared::id::TenantId;
use shared::probe::Failure;
use shared::service::{Service, Thresholds};
use shared::status::hold::{Around, Number, Sightings, Unrelated};
use shared::status::{State, Status, advance, current, is_held, needs_confirmation};

use super::{Doubted, Observations, acknowledge, observation, service, thresholds, tick};

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

/// Which safeguards are on.
#[derive(Clone, Copy)]
struct Safeguards {
    confirm: bool,
    hold: bool,
    canary: bool,
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
    held: u64,
    held_without_cause: u64,
    transitions: u64,
    downs: u64,
    false_downs: u64,
    missed_downs: u64,
    /// Stretches of an outage, uninterrupted by one of ours, at whose first due tick the service was `DOWN`.
    outages_told: u64,
}

/// One service's check under way.
#[derive(Clone, Copy)]
struct Check {
    number: Number,
    around: Around,
    begin: i64,
    attempts: usize,
}

struct Deployment<'a> {
    world: &'a World,
    safeguards: Safeguards,
    random: Random,
    tenants: Vec<TenantId>,
    states: Vec<State>,
    /// Per service: how many ticks in a row, up to now, must have counted as failed.
    must_have_failed: Vec<u8>,
    counts: Counts,
}

impl Deployment<'_> {
    fn tick(&mut self, number: i64) {
        let world = self.world;
        let mut sightings = Sightings::default();
        let mut seen: BTreeMap<usize, bool> = BTreeMap::new();
        let mut doubted = [const { Vec::new() }; TENANTS];
        // Tenants begin 20 ms apart, in the order of their ids; their services at once, but for a wait now and then.
        let start =
            |index: usize| number * TICK_MS + 20 * i64::try_from(index / SERVICES_PER_TENANT).unwrap();
        let mut begins: Vec<(i64, usize)> =
            (0..SERVICES).map(|index| (start(index) + self.random.below(200), index)).collect();
        begins.sort_unstable();
        let mut checks: Vec<Option<Check>> = vec![None; SERVICES];
        // Ends of attempts, the earliest first.
        let mut queue = BinaryHeap::new();
        for (begin, index) in begins {
            let (tenant, service) = (index / SERVICES_PER_TENANT, &world.services[index]);
            let was_alive = current(&self.states[tenant], service).status == Status::Alive;
            let number = if was_alive {
                sightings.begin(&self.tenants[tenant], &service.check)
            } else {
                sightings.here()
            };
            checks[index] = Some(Check { number, around: Around::default(), begin, attempts: 1 });
            queue.push(Reverse(self.attempt(index, begin)));
        }
        while let Some(Reverse((now, index, good))) = queue.pop() {
            let Some(check) = &mut checks[index] else { continue };
            let service = &world.services[index];
            let state = &self.states[index / SERVICES_PER_TENANT];
            let before = current(state, service);
            let was_down = before.status == Status::Down;
            if before.status == Status::Alive {
                sightings.note(check.number, good);
            }
            let again = self.safeguards.confirm && needs_confirmation(state, service);
            if !good && again && check.attempts <= WAITS_MS.len() {
                let wait = WAITS_MS[check.attempts - 1];
                // The last attempt is begun now in the simulation, and looks around at the time when it begins.
                if check.attempts == WAITS_MS.len() {
                    check.around = self.look_around(&sightings, now + wait);
                }
                check.attempts += 1;
                queue.push(Reverse(self.attempt(index, now + wait)));
                continue;
            }
            seen.insert(index, good);
            self.counts.checks += 1;
            self.counts.failed_checks += u64::from(!good);
            let in_doubt = !good
                && !was_down
                && sightings.in_doubt(check.number, self.unrelated(), check.around, before.held);
            if self.safeguards.hold && in_doubt {
                doubted[index / SERVICES_PER_TENANT].push(service.id.clone());
                self.counts.held += 1;
                self.counts.held_without_cause += u64::from(!overlaps(&world.own, (check.begin, now)));
            }
        }
        for (tenant, doubted) in doubted.into_iter().enumerate() {
            self.commit(number, tenant, &seen, &doubted.into_iter().collect());
        }
    }

    fn unrelated(&self) -> Unrelated {
        if self.safeguards.canary { Unrelated::Hosts } else { Unrelated::DomainsOfTenants }
    }

    /// The canary, and the witnesses, which are asked as they were before.
    fn look_around(&self, sightings: &Sightings, at: i64) -> Around {
        let span = (at, at + 200);
        let witnesses = sightings.witnesses(self.unrelated());
        let failed = witnesses.iter().filter(|witness| {
            let index = self.world.services.iter().position(|service| service.check == **witness);
            index.is_some_and(|index| !self.world.answers(index, span))
        });
        Around {
            canary_is_good: self.safeguards.canary.then(|| !overlaps(&self.world.own, span)),
            witnesses_failed: failed.count(),
            witnesses: witnesses.len(),
        }
    }

    /// One attempt: when it ends, of which service, and whether it was good. Every other target refuses at once when it
    /// is down; the rest leave an attempt to its time-out.
    fn attempt(&mut self, index: usize, from: i64) -> (i64, usize, bool) {
        self.counts.attempts += 1;
        let quick = 30 + self.random.below(400);
        let good = self.world.answers(index, (from, from + quick))
            && (index.is_multiple_of(20) || !self.random.one_in(500));
        let length = if good || index.is_multiple_of(2) { quick } else { TIMEOUT_MS };
        (from + length, index, good)
    }

    fn commit(&mut self, number: i64, tenant: usize, seen: &BTreeMap<usize, bool>, doubted: &Doubted) {
        let world = self.world;
        let here = tenant * SERVICES_PER_TENANT..(tenant + 1) * SERVICES_PER_TENANT;
        let services = &world.services[here.clone()];
        let mut observations = Observations::new();
        for index in here.clone() {
            let failure = (!seen[&index]).then_some(Failure::Timeout);
            observations.insert(world.services[index].id.clone(), observation(tick(number), failure));
        }
        let before = &self.states[tenant];
        let mut after = advance(before, tick(number), services, &observations, doubted);
        let span = (number * TICK_MS, number * TICK_MS + CHECK_MS);
        for index in here {
            let service = &world.services[index];
            let (old, new) = (current(before, service).status, current(&after, service).status);
            assert!(!is_held(current(&after, service), &service.id, doubted) || old == new);
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
        }
        acknowledge(&mut after);
        self.states[tenant] = after;
    }
}

fn tenant_id(number: usize) -> TenantId {
    TenantId::parse(&format!("{number:032b}").replace('0', "a").replace('1', "b")).unwrap()
}

fn month(ticks: i64, safeguards: Safeguards) -> Counts {
    let world = World::new(&mut Random(20_261_101));
    let mut deployment = Deployment {
        world: &world,
        safeguards,
        random: Random(5),
        tenants: (0..TENANTS).map(tenant_id).collect(),
        states: vec![State::default(); TENANTS],
        must_have_failed: vec![0; SERVICES],
        counts: Counts::default(),
    };
    for number in (0..ticks).filter(|number| !world.missed[usize::try_from(*number).unwrap()]) {
        deployment.tick(number);
    }
    deployment.counts
}

const ALL: Safeguards = Safeguards { confirm: true, hold: true, canary: true };

#[test]
fn a_month_without_one_false_or_missed_down() {
    let counts = month(TICKS, ALL);
    println!("a month, with a canary: {counts:?}");
    assert_eq!((counts.false_downs, counts.missed_downs, counts.held_without_cause), (0, 0, 0), "{counts:?}");
    assert!(counts.outages_told > 800 && counts.held > 1_000, "an easy month: {counts:?}");
}

#[test]
fn without_a_canary_there_is_no_false_down_either() {
    let counts = month(TICKS, Safeguards { canary: false, ..ALL });
    println!("a month, without a canary: {counts:?}");
    assert_eq!(counts.false_downs, 0, "{counts:?}");
}

#[test]
fn the_month_is_hard_for_a_deployment_without_safeguards() {
    let unheld = month(TICKS / 4, Safeguards { hold: false, ..ALL });
    println!("a week without holding: {unheld:?}");
    assert!(unheld.false_downs > 1_000, "{unheld:?}");
    let unconfirmed = month(TICKS / 4, Safeguards { confirm: false, ..ALL });
    println!("a week without confirming: {unconfirmed:?}");
    assert!(unconfirmed.false_downs > 1_000, "{unconfirmed:?}");
}
