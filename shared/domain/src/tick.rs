//! One slot of the schedule. The tick is the sequence number of everything a tenant is told: it survives restores
//! and needs no counter.
//!
//! Not here: any look at the clock. A tick comes from the event that the schedule sent.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The length of a tick in whole minutes, 1 to 60, a divisor of an hour so that slots begin where cron fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    minutes: i64,
}

impl Period {
    /// `None` unless `minutes` divides an hour.
    #[must_use]
    pub fn from_minutes(minutes: i64) -> Option<Self> {
        (minutes > 0 && 60 % minutes == 0).then_some(Self { minutes })
    }

    /// The length of one slot.
    #[must_use]
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_mins(self.minutes)
    }
}

/// A slot of the schedule, named by its start in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(Timestamp);

/// Why a tick is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TickAgeError {
    /// More than 60 s ahead of the clock: running it would block every honest tick until then.
    #[error("the tick lies in the future")]
    Future,
    /// Older than two periods: a later tick has told the same and more.
    #[error("the tick is too old")]
    Old,
}

impl Tick {
    /// The slot that `time` falls into.
    #[must_use]
    pub fn containing(time: Timestamp, period: Period) -> Self {
        let length = period.duration().as_secs();
        let start = time.as_second().div_euclid(length) * length;
        Self(Timestamp::from_second(start).unwrap_or(time))
    }

    /// The tick whose start was stored.
    #[must_use]
    pub fn from_start(start: Timestamp) -> Self {
        Self(start)
    }

    /// The start of the slot.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.0
    }

    /// Seconds since the Unix epoch at the start of the slot.
    #[must_use]
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// Whether this tick may be run at `now`: neither ahead of the clock by more than 60 s nor older than two periods.
    pub fn timely(self, now: Timestamp, period: Period) -> Result<Self, TickAgeError> {
        let age = now.duration_since(self.0);
        if age < SignedDuration::from_secs(-60) {
            return Err(TickAgeError::Future);
        }
        if age > period.duration() * 2 {
            return Err(TickAgeError::Old);
        }
        Ok(self)
    }

    /// How many ticks lie between `last` and this one, none of which came to anything.
    #[must_use]
    pub fn missed_since(self, last: Self, period: Period) -> u32 {
        let ticks = (self.as_second() - last.as_second()).div_euclid(period.duration().as_secs());
        u32::try_from(ticks - 1).unwrap_or(0)
    }

    /// The slot after this one.
    #[must_use]
    pub fn next(self, period: Period) -> Self {
        Self(self.0 + period.duration())
    }

    /// The first tick from this one on that is the turn of `seed`. Every seed has one turn in a `cycle` of whole
    /// periods, and all seeds' turns are spread over it; with a cycle of one period every tick is everybody's turn.
    #[must_use]
    pub fn turn_from(self, seed: u64, cycle: SignedDuration, period: Period) -> Self {
        let length = period.duration().as_secs();
        let slots = (cycle.as_secs() / length).max(1);
        let turn = i64::try_from(seed % slots.unsigned_abs()).unwrap_or(0);
        let ahead = (turn - self.as_second().div_euclid(length)).rem_euclid(slots);
        Self(self.0 + SignedDuration::from_secs(ahead * length))
    }

    /// Whether the following tick has begun at `now`, so that it covers whatever this one left over.
    #[must_use]
    pub fn is_over(self, now: Timestamp, period: Period) -> bool {
        now.duration_since(self.0) >= period.duration()
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn five() -> Period {
        Period::from_minutes(5).unwrap()
    }

    #[test]
    fn a_tick_is_the_start_of_its_slot() {
        for time in ["2026-11-22T10:05:00Z", "2026-11-22T10:05:00.9Z", "2026-11-22T10:09:59.999Z"] {
            assert_eq!(Tick::containing(at(time), five()).to_string(), "2026-11-22T10:05:00Z");
        }
        assert_eq!(Tick::containing(at("1969-12-31T23:59:59Z"), five()).to_string(), "1969-12-31T23:55:00Z");
    }

    #[test]
    fn ticks_far_ahead_or_two_periods_old_are_refused() {
        let tick = Tick::containing(at("2026-11-22T10:05:00Z"), five());
        assert_eq!(tick.timely(at("2026-11-22T10:03:59Z"), five()), Err(TickAgeError::Future));
        assert_eq!(tick.timely(at("2026-11-22T10:04:00Z"), five()), Ok(tick));
        assert_eq!(tick.timely(at("2026-11-22T10:15:00Z"), five()), Ok(tick));
        assert_eq!(tick.timely(at("2026-11-22T10:15:01Z"), five()), Err(TickAgeError::Old));
    }

    #[test]
    fn missed_ticks_are_those_in_between() {
        let tick = |time| Tick::containing(at(time), five());
        let last = tick("2026-11-22T10:05:00Z");
        for (now, missed) in [
            ("2026-11-22T10:00:00Z", 0),
            ("2026-11-22T10:05:00Z", 0),
            ("2026-11-22T10:10:00Z", 0),
            ("2026-11-22T10:15:00Z", 1),
            ("2026-11-23T10:05:00Z", 287),
        ] {
            assert_eq!(tick(now).missed_since(last, five()), missed, "{now}");
        }
    }

    #[test]
    fn every_seed_has_one_turn_in_a_cycle_and_they_are_spread() {
        let first = Tick::containing(at("2026-11-22T10:05:00Z"), five());
        let hour: Vec<Tick> =
            std::iter::successors(Some(first), |tick| Some(tick.next(five()))).take(12).collect();
        let cycle = SignedDuration::from_hours(1);
        for seed in 0..24 {
            let turns: Vec<_> =
                hour.iter().filter(|tick| tick.turn_from(seed, cycle, five()) == **tick).collect();
            assert_eq!(turns.len(), 1, "{seed}");
            // Whatever tick is asked, the answer is the next turn.
            let turn = first.turn_from(seed, cycle, five());
            assert_eq!(turns, [&turn], "{seed}");
            assert_eq!(turn.next(five()).turn_from(seed, cycle, five()).start(), turn.start() + cycle);
        }
        let in_use: std::collections::BTreeSet<_> =
            (0..12).map(|seed| first.turn_from(seed, cycle, five())).collect();
        assert_eq!(in_use.len(), 12);
        let hourly = Period::from_minutes(60).unwrap();
        let tick = Tick::containing(at("2026-11-22T10:00:00Z"), hourly);
        assert_eq!(tick.turn_from(7, cycle, hourly), tick);
    }

    #[test]
    fn a_period_divides_the_hour() {
        let valid: Vec<i64> = (-1..=61).filter(|m| Period::from_minutes(*m).is_some()).collect();
        assert_eq!(valid, [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60]);
    }
}
