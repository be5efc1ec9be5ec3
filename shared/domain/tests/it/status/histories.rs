//! Random histories: what must hold after every tick, whatever came before.

use std::collections::BTreeMap;

use domain::check::ProbeFailure;
use domain::id::ServiceId;
use domain::service::{Lifecycle, Service, Thresholds};
use domain::status::{
    Confirmation, Finding, History, MAX_TRANSITIONS, MAX_UNSEEN, ServiceStatus, State, Status, Transition,
    advance, confirmation, current, is_suppressed,
};
use domain::tick::Tick;
use jiff::SignedDuration;
use proptest::prelude::*;

use super::{Findings, acknowledge, observation, period, readable, service, thresholds, tick};

/// What happens to one service at one tick.
#[derive(Debug, Clone, Copy)]
enum Event {
    NotChecked,
    Good,
    Failed(ProbeFailure),
    Unconfirmed(ProbeFailure),
    Suppressed(ProbeFailure),
    Pause,
    Resume,
    Remove,
    /// Removed and added again since the last tick.
    Replace,
}

/// One tick: an event per service, whether the app then accepts, and how many ticks are missed before it.
#[derive(Debug, Clone)]
struct Step {
    events: Vec<Event>,
    accepted: bool,
    missed: i64,
}

fn failure() -> impl Strategy<Value = ProbeFailure> {
    prop::sample::select(ProbeFailure::ALL.to_vec())
}

fn any_thresholds() -> impl Strategy<Value = Thresholds> {
    let rule = (1u8..=5).prop_flat_map(|of| (1..=of, Just(of), 1u8..=5));
    prop_oneof![Just(Thresholds::default()), rule.prop_map(|(failed, of, good)| thresholds(failed, of, good))]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::NotChecked),
        8 => Just(Event::Good),
        8 => failure().prop_map(Event::Failed),
        2 => failure().prop_map(Event::Unconfirmed),
        3 => failure().prop_map(Event::Suppressed),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Remove),
        1 => Just(Event::Replace),
    ]
}

fn history() -> impl Strategy<Value = (Vec<Thresholds>, Vec<Step>)> {
    prop::collection::vec(any_thresholds(), 1..6).prop_flat_map(|rules| {
        let step = (prop::collection::vec(event(), rules.len()), prop::bool::weighted(0.1), 0..3i64);
        let step = step.prop_map(|(events, accepted, missed)| Step { events, accepted, missed });
        (Just(rules), prop::collection::vec(step, 1..250))
    })
}

/// The rules as the protocol tells them, with whole lists where the code has bits.
struct Model {
    rule: Thresholds,
    status: Status,
    /// Every check that counts since the service was new or resumed, `true` for a failed one.
    checks: Vec<bool>,
    /// Ticks in a row without a verdict.
    unseen: u8,
}

impl Model {
    fn new(rule: Thresholds) -> Self {
        Self { rule, status: Status::Unknown, checks: Vec::new(), unseen: 0 }
    }

    fn pause(&mut self) {
        *self = Self { status: Status::Paused, ..Self::new(self.rule) };
    }

    fn resume(&mut self) {
        if self.status == Status::Paused {
            self.status = Status::Unknown;
        }
    }

    fn miss(&mut self) {
        self.resume();
        self.unseen = self.unseen.saturating_add(1);
        if self.status == Status::Alive && self.unseen >= MAX_UNSEEN {
            self.status = Status::Unknown;
        }
    }

    fn suppress(&mut self) {
        self.resume();
        self.unseen = 0;
    }

    fn check(&mut self, failed: bool) {
        self.resume();
        self.unseen = 0;
        self.checks.push(failed);
        let last = |count: u8| self.checks.iter().rev().take(count.into());
        if failed {
            let among = last(self.rule.down_after.of()).filter(|failed| **failed).count();
            if among >= self.rule.down_after.failed().into() {
                self.status = Status::Down;
            }
        } else if self.status != Status::Down
            || last(self.rule.alive_after.checks()).filter(|failed| !**failed).count()
                == usize::from(self.rule.alive_after.checks())
        {
            self.status = Status::Alive;
        }
    }
}

/// The services, the state and the models of one history, and every transition there ever was.
struct Play {
    services: Vec<Service>,
    models: Vec<Model>,
    removed: Vec<bool>,
    state: State,
    log: Vec<Transition>,
    /// How many entries of the log the app has accepted.
    accepted: usize,
    now: i64,
}

impl Play {
    fn new(rules: &[Thresholds]) -> Self {
        let services: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| service(&format!("s{index}.example"), *rule))
            .collect();
        Self {
            models: rules.iter().map(|rule| Model::new(*rule)).collect(),
            removed: vec![false; services.len()],
            services,
            state: State::default(),
            log: Vec::new(),
            accepted: 0,
            now: 0,
        }
    }

    /// Applies a step to the models and returns what a tick would be given.
    fn arrange(&mut self, step: &Step) -> (Tick, Vec<Service>, Findings) {
        self.now += 1 + step.missed;
        let tick = tick(self.now);
        let mut findings = Findings::new();
        for (index, event) in step.events.iter().enumerate() {
            let (service, model) = (&mut self.services[index], &mut self.models[index]);
            if std::mem::take(&mut self.removed[index]) {
                // Added again: a new service of the same id.
                *model = Model::new(model.rule);
                service.lifecycle = Lifecycle::Active;
            }
            match event {
                Event::Pause => service.lifecycle = Lifecycle::Paused,
                Event::Resume => service.lifecycle = Lifecycle::Active,
                Event::Remove => self.removed[index] = true,
                Event::Replace => {
                    *model = Model::new(model.rule);
                    service.lifecycle = Lifecycle::Active;
                    service.created_at = tick.start() - SignedDuration::from_secs(1);
                }
                _ => {}
            }
            let seen = |failure| observation(tick, failure);
            let finding = match event {
                Event::Good => Some(Finding::Verdict(seen(None))),
                Event::Failed(failure) => Some(Finding::Verdict(seen(Some(*failure)))),
                Event::Unconfirmed(failure) => Some(Finding::Unconfirmed(seen(Some(*failure)))),
                Event::Suppressed(failure) => Some(Finding::Suppressed(seen(Some(*failure)))),
                _ => None,
            };
            findings.extend(finding.map(|finding| (service.id.clone(), finding)));
            match (service.lifecycle, event) {
                _ if self.removed[index] => {}
                (Lifecycle::Paused, _) => model.pause(),
                (_, Event::Good) => model.check(false),
                (_, Event::Failed(_)) => model.check(true),
                (_, Event::Suppressed(_)) => model.suppress(),
                _ => model.miss(),
            }
        }
        let here = self.services.iter().zip(&self.removed).filter(|(_, removed)| !**removed);
        (tick, here.map(|(service, _)| service.clone()).collect(), findings)
    }
}

/// Statuses change only with a transition, and a transition says what changed.
fn changes_are_told(before: &State, after: &State, services: &[Service], tick: Tick) {
    let fresh: BTreeMap<&ServiceId, &Transition> = after
        .transitions
        .iter()
        .filter(|transition| transition.tick == tick)
        .map(|transition| (&transition.service_id, transition))
        .collect();
    for service in services {
        let (old, new) = (current(before, service), current(after, service));
        if let Some(told) = fresh.get(&service.id) {
            assert_eq!((told.from, told.to, told.at), (old.status, new.status, new.since));
            assert_ne!(told.from, told.to);
        } else if old.status == Status::Paused && new.status == Status::Paused {
            assert_eq!(old, new);
        } else {
            assert_eq!((old.status, old.since), (new.status, new.since), "changed without a transition");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_follows_the_rules((rules, steps) in history()) {
        let mut play = Play::new(&rules);
        for step in &steps {
            let (tick, services, findings) = play.arrange(step);
            let before = play.state.clone();
            let after = advance(&before, tick, readable(&services), &findings);

            // The same again is the same: a tick that was killed before its commit loses nothing by being repeated.
            prop_assert_eq!(&after, &advance(&before, tick, readable(&services), &findings));
            prop_assert_eq!(after.last_tick, Some(tick));
            prop_assert_eq!(after.services.len(), services.len());
            changes_are_told(&before, &after, &services, tick);

            for (index, service) in play.services.iter().enumerate().filter(|(index, _)| !play.removed[*index]) {
                let (old, new) = (current(&before, service), current(&after, service));
                prop_assert_eq!(new.status, play.models[index].status, "{:?} at {}", step.events[index], tick);
                let finding = findings.get(&service.id);
                let is_active = service.lifecycle == Lifecycle::Active;
                let was_paused = old.status == Status::Paused;
                match step.events[index] {
                    Event::Suppressed(_) if is_active => {
                        prop_assert!(new.status != Status::Down || old.status == Status::Down, "suppressed, and DOWN");
                        prop_assert_eq!(new.history, if was_paused { History::default() } else { old.history });
                        prop_assert_eq!(is_suppressed(new, finding), new.status != Status::Down);
                        let suppressed = if was_paused { 0 } else { old.suppressed };
                        prop_assert_eq!((new.suppressed, new.unseen, new.unconfirmed_at), (suppressed + 1, 0, None));
                    }
                    Event::Unconfirmed(_) if is_active => {
                        prop_assert_eq!(new.unconfirmed_at, Some(tick));
                        let state = State { services: after.services.clone(), ..State::default() };
                        let carried = |after: i64| confirmation(&state, service, super::tick(play.now + after), period());
                        if new.status != Status::Down || service.thresholds.needs_history() {
                            prop_assert_eq!((carried(1), carried(2)), (Confirmation::Carried, Confirmation::Attempts));
                        } else {
                            prop_assert_eq!(carried(1), Confirmation::NotNeeded);
                        }
                    }
                    Event::NotChecked if is_active && !was_paused => {
                        prop_assert_eq!((new.history, new.suppressed, new.unconfirmed_at), (old.history, old.suppressed, None));
                        prop_assert!(new.status == old.status || new.unseen >= MAX_UNSEEN);
                    }
                    _ => prop_assert!(!is_suppressed(new, finding)),
                }
                prop_assert_eq!(new.unseen, play.models[index].unseen);
                prop_assert!(new.status != Status::Alive || new.unseen < MAX_UNSEEN, "ALIVE, and not checked for long");
                prop_assert!(service.thresholds.needs_history() || new.history == History::default());
                prop_assert!(new.suppressed == 0 || new.status != Status::Paused);
            }

            play.log.extend(after.transitions.iter().filter(|transition| transition.tick == tick).cloned());
            let open = &play.log[play.accepted..];
            let kept = &open[open.len().saturating_sub(MAX_TRANSITIONS)..];
            prop_assert_eq!(&after.transitions, kept, "what is accepted never comes back, what is not is kept");
            prop_assert_eq!(after.transitions_dropped as usize, open.len() - kept.len());

            play.state = after;
            if step.accepted {
                acknowledge(&mut play.state);
                play.accepted = play.log.len();
            }
        }
        // Each service's transitions chain from one to the next, but for a service that went and came back new.
        let mut last: BTreeMap<&ServiceId, Status> = BTreeMap::new();
        for transition in &play.log {
            if let Some(before) = last.insert(&transition.service_id, transition.to) {
                let is_new = matches!(transition.from, Status::Unknown | Status::Paused);
                prop_assert!(transition.from == before || is_new);
            }
        }
    }

    #[test]
    fn under_default_thresholds_the_same_observations_change_nothing_twice(
        events in prop::collection::vec(event(), 1..6)
    ) {
        let mut play = Play::new(&vec![Thresholds::default(); events.len()]);
        let step = Step { events, accepted: false, missed: 0 };
        let (tick, services, findings) = play.arrange(&step);
        let once = advance(&play.state, tick, readable(&services), &findings);
        let twice = advance(&once, super::tick(play.now + 1), readable(&services), &findings);
        let uncounted = |state: &State| -> Vec<_> {
            let uncounted = |status: &ServiceStatus| ServiceStatus { suppressed: 0, unseen: 0, unconfirmed_at: None, ..*status };
            state.services.iter().map(|(id, status)| (id.clone(), uncounted(status))).collect()
        };
        prop_assert_eq!(uncounted(&once), uncounted(&twice));
        prop_assert_eq!(&once.transitions, &twice.transitions);
    }

    /// Whatever stands in the table: no panic, and the same promises.
    #[test]
    fn every_stored_state_is_survived(
        stored in prop::collection::vec((0usize..8, 0usize..4, any::<u8>(), -500i64..500), 0..12),
        told in prop::collection::vec((0usize..8, -500i64..500), 0..250),
        acked in prop::option::of(-500i64..500),
        dropped in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
        rules in prop::collection::vec(any_thresholds(), 1..8),
        events in prop::collection::vec(event(), 8),
    ) {
        let status = |index: usize| [Status::Alive, Status::Down, Status::Paused, Status::Unknown][index];
        let mut play = Play::new(&rules);
        let ids: Vec<_> = (0..8).map(|index| service(&format!("s{index}.example"), Thresholds::default()).id).collect();
        let state = State {
            last_tick: acked.map(tick),
            acked_tick: acked.map(tick),
            services: stored.iter().map(|(id, kind, bits, since)| {
                let at = tick(*since);
                let status = ServiceStatus {
                    status: status(*kind), since: at.start(), created_at: tick(i64::from(*bits % 2)).start(),
                    history: History::from_bits(*bits), suppressed: *bits, unseen: *bits, unconfirmed_at: Some(at),
                };
                (ids[*id].clone(), status)
            }).collect(),
            transitions: told.iter().map(|(id, at)| Transition {
                tick: tick(*at), service_id: ids[*id].clone(), from: Status::Alive, to: Status::Down,
                at: tick(*at).start(), reason: "status".to_owned(),
            }).collect(),
            transitions_dropped: dropped,
        };
        let step = Step { events: events[..rules.len()].to_vec(), accepted: false, missed: 600 };
        let (tick, services, findings) = play.arrange(&step);
        let after = advance(&state, tick, readable(&services), &findings);
        changes_are_told(&state, &after, &services, tick);
        prop_assert!(after.transitions.len() <= MAX_TRANSITIONS);
        prop_assert!(after.transitions.iter().all(|told| state.acked_tick.is_none_or(|acked| told.tick > acked)));
        prop_assert!(after.services.keys().eq(services.iter().map(|service| service.id.clone()).collect::<std::collections::BTreeSet<_>>().iter()));
    }
}

/// One row per rule, readable without the model.
#[test]
fn thresholds_by_example() {
    let cases: [(&str, Thresholds, &str, &str); 11] = [
        ("default", Thresholds::default(), "GFGFF", "ADADD"),
        ("two of three", thresholds(2, 3, 1), "GFGFGGFF", "AAADAAAD"),
        ("two in a row", thresholds(2, 2, 1), "GFGFGFFG", "AAAAAADA"),
        ("three of five", thresholds(3, 5, 1), "GFFGFGFGGFF", "AAAADADAAAD"),
        ("two good in a row", thresholds(1, 1, 2), "GFGFGGG", "ADDDDAA"),
        ("five good in a row", thresholds(1, 1, 5), "FGGGGFGGGGG", "DDDDDDDDDDA"),
        ("new and failing", thresholds(2, 2, 1), "FFG", "UDA"),
        ("no verdict in between", thresholds(2, 2, 2), "GF..ssFsGssG", "AAAAAADDDDDA"),
        ("three ticks without a verdict", Thresholds::default(), "G..s...G.u.FuuuuG", "AAAAAAUAAAUDDDDDA"),
        ("new and not checked", Thresholds::default(), "....G", "UUUUA"),
        ("suppressed for long", Thresholds::default(), "GssssssssssssF", "AAAAAAAAAAAAAD"),
    ];
    for (what, rule, events, expected) in cases {
        let service = service("s.example", rule);
        let mut state = State::default();
        let mut seen = String::new();
        for (number, event) in (1..).zip(events.chars()) {
            let tick = tick(number);
            let failure = (event != 'G').then_some(ProbeFailure::Timeout);
            let seen_now = observation(tick, failure);
            let finding = match event {
                '.' => None,
                's' => Some(Finding::Suppressed(seen_now)),
                'u' => Some(Finding::Unconfirmed(seen_now)),
                _ => Some(Finding::Verdict(seen_now)),
            };
            let findings: Findings =
                finding.map(|finding| (service.id.clone(), finding)).into_iter().collect();
            state = advance(&state, tick, readable(std::slice::from_ref(&service)), &findings);
            seen.push(match current(&state, &service).status {
                Status::Alive => 'A',
                Status::Down => 'D',
                Status::Paused => 'P',
                Status::Unknown => 'U',
            });
        }
        assert_eq!(seen, expected, "{what}: {events}");
    }
}

#[test]
fn a_carried_failure_ends_with_success_pause_removal_suppression_and_a_missed_tick() {
    let service = service("s.example", Thresholds::default());
    let play = |findings: &[Option<Finding>], last: &Service| {
        let mut state = State::default();
        for (number, finding) in (1..).zip(findings) {
            let findings: Findings =
                finding.clone().map(|finding| (service.id.clone(), finding)).into_iter().collect();
            state = advance(&state, tick(number), readable(std::slice::from_ref(last)), &findings);
        }
        state
    };
    let good = || Some(Finding::Verdict(observation(tick(1), None)));
    let failed = observation(tick(1), Some(ProbeFailure::Timeout));
    let unconfirmed = || Some(Finding::Unconfirmed(failed.clone()));
    let at = |state: &State, service: &Service, number| confirmation(state, service, tick(number), period());

    let carried = play(&[good(), unconfirmed()], &service);
    assert_eq!(at(&carried, &service, 3), Confirmation::Carried);
    assert_eq!(at(&carried, &service, 4), Confirmation::Attempts, "a missed tick");
    for next in [good(), Some(Finding::Suppressed(failed.clone())), None] {
        let ended = play(&[good(), unconfirmed(), next.clone()], &service);
        assert_eq!(at(&ended, &service, 4), Confirmation::Attempts, "{next:?}");
    }
    let paused = Service { lifecycle: Lifecycle::Paused, ..service.clone() };
    let after_pause = advance(&carried, tick(3), readable(std::slice::from_ref(&paused)), &Findings::new());
    assert_eq!(at(&after_pause, &service, 4), Confirmation::Attempts, "a pause");
    let resumed =
        Service { resumed_at: Some(tick(2).start() + SignedDuration::from_secs(90)), ..service.clone() };
    assert_eq!(at(&carried, &resumed, 3), Confirmation::Attempts, "a pause between two ticks");
    let earlier = Service { resumed_at: Some(tick(1).start()), ..service.clone() };
    assert_eq!(at(&carried, &earlier, 3), Confirmation::Carried, "an earlier pause");
    let again = Service { created_at: tick(3).start(), ..service.clone() };
    assert_eq!(at(&carried, &again, 3), Confirmation::Attempts, "removed and added again");
}

#[test]
fn what_a_tick_found_out_about_a_removed_service_is_not_its_successors() {
    let first = service("s.example", Thresholds::default());
    let failed = Finding::Verdict(observation(tick(1), Some(ProbeFailure::Timeout)));
    let findings = Findings::from([(first.id.clone(), failed)]);
    // Removed and added again while the tick was under way: it knows the first one only.
    let after = advance(&State::default(), tick(1), readable(std::slice::from_ref(&first)), &findings);
    assert_eq!(current(&after, &first).status, Status::Down);
    let second = Service { created_at: first.created_at + SignedDuration::from_secs(3), ..first.clone() };
    assert_eq!(current(&after, &second).status, Status::Unknown);
}

#[test]
fn a_service_that_cannot_be_read_keeps_its_status() {
    let services = [service("a.example", Thresholds::default()), service("b.example", Thresholds::default())];
    let good = |service: &Service| (service.id.clone(), Finding::Verdict(observation(tick(1), None)));
    let state =
        advance(&State::default(), tick(1), readable(&services), &services.iter().map(good).collect());
    let unreadable = [services[1].id.clone()];
    let there = domain::status::TenantServices { services: &services[..1], unreadable: &unreadable };
    let after = advance(&state, tick(2), there, &Findings::new());
    assert_eq!(after.services.len(), 2);
    assert_eq!(after.services[&services[1].id], state.services[&services[1].id]);
    // A record that was never seen has no status to keep.
    let new = [service("c.example", Thresholds::default()).id];
    let there = domain::status::TenantServices { services: &services, unreadable: &new };
    assert_eq!(advance(&state, tick(2), there, &Findings::new()).services.len(), 2);
}
