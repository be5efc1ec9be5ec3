//! Random histories: what must hold after every tick, whatever came before.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use shared::id::ServiceId;
use shared::probe::Failure;
use shared::service::{Activity, Service, Thresholds};
use shared::status::{History, MAX_TRANSITIONS, Since, State, Status, Transition, advance, current, is_held};
use shared::tick::Tick;

use super::{Doubted, Observations, acknowledge, observation, service, thresholds, tick};

/// What happens to one service at one tick.
#[derive(Debug, Clone, Copy)]
enum Event {
    NotChecked,
    Good,
    Failed(Failure),
    Doubted(Failure),
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

fn failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(Failure::ALL.to_vec())
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
        3 => failure().prop_map(Event::Doubted),
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
}

impl Model {
    fn new(rule: Thresholds) -> Self {
        Self { rule, status: Status::Unknown, checks: Vec::new() }
    }

    fn pause(&mut self) {
        *self = Self { status: Status::Paused, ..Self::new(self.rule) };
    }

    fn check(&mut self, failed: Option<bool>) {
        if self.status == Status::Paused {
            self.status = Status::Unknown;
        }
        let Some(failed) = failed else { return };
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
    fn arrange(&mut self, step: &Step) -> (Tick, Vec<Service>, Observations, Doubted) {
        self.now += 1 + step.missed;
        let tick = tick(self.now);
        let (mut observations, mut doubted) = (Observations::new(), Doubted::new());
        for (index, event) in step.events.iter().enumerate() {
            let (service, model) = (&mut self.services[index], &mut self.models[index]);
            if std::mem::take(&mut self.removed[index]) {
                // Added again: a new service of the same id.
                *model = Model::new(model.rule);
                service.activity = Activity::Active;
            }
            match event {
                Event::Pause => service.activity = Activity::Paused,
                Event::Resume => service.activity = Activity::Active,
                Event::Remove => self.removed[index] = true,
                Event::Replace => {
                    *model = Model::new(model.rule);
                    service.activity = Activity::Active;
                    service.created_at = tick.start() - SignedDuration::from_secs(1);
                }
                _ => {}
            }
            if let Event::Failed(failure) | Event::Doubted(failure) = event {
                observations.insert(service.id.clone(), observation(tick, Some(*failure)));
            }
            if matches!(event, Event::Good) {
                observations.insert(service.id.clone(), observation(tick, None));
            }
            if matches!(event, Event::Doubted(_)) {
                doubted.insert(service.id.clone());
            }
            match (service.activity, event) {
                _ if self.removed[index] => {}
                (Activity::Paused, _) => model.pause(),
                (_, Event::Good) => model.check(Some(false)),
                (_, Event::Failed(_)) => model.check(Some(true)),
                _ => model.check(None),
            }
        }
        let here = self.services.iter().zip(&self.removed).filter(|(_, removed)| !**removed);
        (tick, here.map(|(service, _)| service.clone()).collect(), observations, doubted)
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
            let (tick, services, observations, doubted) = play.arrange(step);
            let before = play.state.clone();
            let after = advance(&before, tick, &services, &observations, &doubted);

            // The same again is the same: a tick that was killed before its commit loses nothing by being repeated.
            prop_assert_eq!(&after, &advance(&before, tick, &services, &observations, &doubted));
            prop_assert_eq!(after.last_tick, Some(tick));
            prop_assert_eq!(after.services.len(), services.len());
            changes_are_told(&before, &after, &services, tick);

            for (index, service) in play.services.iter().enumerate().filter(|(index, _)| !play.removed[*index]) {
                let (old, new) = (current(&before, service), current(&after, service));
                prop_assert_eq!(new.status, play.models[index].status, "{:?} at {}", step.events[index], tick);
                match step.events[index] {
                    Event::Doubted(_) if service.activity == Activity::Active => {
                        prop_assert!(new.status != Status::Down || old.status == Status::Down, "held, and DOWN");
                        prop_assert_eq!(new.history, if old.status == Status::Paused { History::default() } else { old.history });
                        prop_assert_eq!(is_held(new, &service.id, &doubted), new.status != Status::Down);
                        let held = if old.status == Status::Paused { 0 } else { old.held };
                        prop_assert_eq!(new.held, held + 1, "counted");
                    }
                    Event::NotChecked if old.status != Status::Paused && service.activity == Activity::Active => {
                        prop_assert_eq!(old, new);
                    }
                    _ => prop_assert!(!is_held(new, &service.id, &doubted)),
                }
                prop_assert!(!service.thresholds.is_default() || new.history == History::default());
                prop_assert!(new.held == 0 || new.status != Status::Paused);
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
        let (tick, services, observations, doubted) = play.arrange(&step);
        let once = advance(&play.state, tick, &services, &observations, &doubted);
        let twice = advance(&once, super::tick(play.now + 1), &services, &observations, &doubted);
        let uncounted = |state: &State| -> Vec<_> {
            state.services.iter().map(|(id, since)| (id.clone(), Since { held: 0, ..*since })).collect()
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
                let since = Since {
                    status: status(*kind), since: tick(*since).start(), history: History::from_bits(*bits), held: *bits,
                };
                (ids[*id].clone(), since)
            }).collect(),
            transitions: told.iter().map(|(id, at)| Transition {
                tick: tick(*at), service_id: ids[*id].clone(), from: Status::Alive, to: Status::Down,
                at: tick(*at).start(), reason: "status".to_owned(),
            }).collect(),
            transitions_dropped: dropped,
            quiet_until: None,
        };
        let step = Step { events: events[..rules.len()].to_vec(), accepted: false, missed: 600 };
        let (tick, services, observations, doubted) = play.arrange(&step);
        let after = advance(&state, tick, &services, &observations, &doubted);
        changes_are_told(&state, &after, &services, tick);
        prop_assert!(after.transitions.len() <= MAX_TRANSITIONS);
        prop_assert!(after.transitions.iter().all(|told| state.acked_tick.is_none_or(|acked| told.tick > acked)));
        prop_assert!(after.services.keys().eq(services.iter().map(|service| service.id.clone()).collect::<std::collections::BTreeSet<_>>().iter()));
    }
}

/// One row per rule, readable without the model.
#[test]
fn thresholds_by_example() {
    let cases: [(&str, Thresholds, &str, &str); 8] = [
        ("default", Thresholds::default(), "GFGFF", "ADADD"),
        ("two of three", thresholds(2, 3, 1), "GFGFGGFF", "AAADAAAD"),
        ("two in a row", thresholds(2, 2, 1), "GFGFGFFG", "AAAAAADA"),
        ("three of five", thresholds(3, 5, 1), "GFFGFGFGGFF", "AAAADADAAAD"),
        ("two good in a row", thresholds(1, 1, 2), "GFGFGGG", "ADDDDAA"),
        ("five good in a row", thresholds(1, 1, 5), "FGGGGFGGGGG", "DDDDDDDDDDA"),
        ("new and failing", thresholds(2, 2, 1), "FFG", "UDA"),
        ("no evidence in between", thresholds(2, 2, 2), "GF..hhFhGhhG", "AAAAAADDDDDA"),
    ];
    for (what, rule, events, expected) in cases {
        let service = service("s.example", rule);
        let mut state = State::default();
        let mut seen = String::new();
        for (number, event) in (1..).zip(events.chars()) {
            let tick = tick(number);
            let failure = (event != 'G').then_some(Failure::Timeout);
            let mut observations = Observations::new();
            if event != '.' {
                observations.insert(service.id.clone(), observation(tick, failure));
            }
            let doubted = (event == 'h').then(|| service.id.clone()).into_iter().collect();
            state = advance(&state, tick, std::slice::from_ref(&service), &observations, &doubted);
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
