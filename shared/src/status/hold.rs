//! Whether a failure is evidence, or our own side fails to see.
//!
//! When most unrelated hosts that were checked at about the same time fail alike, the fault is more likely here than
//! there: the verdict is held. A check is compared with those that began after it, and with so many before it that the
//! sample is not too small; so an outage that begins in the middle of a tick is seen as well as one that was there before.
//! When the others had been checked already, a few of them are asked again: the witnesses.
//!
//! Only services that were `ALIVE` before are evidence: a failure of any other says nothing new. One tenant's hosts weigh
//! little among those of others, and a service's verdict is held so many times only; so nobody can hide for long that
//! somebody else's service is down.
//!
//! Deliberately absent: the clock.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::id::TenantId;
use crate::probe::Check;

/// With fewer hosts than this a share says nothing.
pub const MIN_HOSTS: usize = 5;

/// Checks that began before the one in question are looked at until there are so many hosts. More would make an outage
/// that begins just now look like a few failures among many hosts that are well.
const SAMPLE: usize = 10;

/// No more checks than this are looked at in one direction: enough for a share, and little enough to be asked for every
/// one of 100,000 failures.
const REACH: usize = 200;

/// No more hosts of one tenant count among those of others: five hosts then belong to at least three tenants.
const HOSTS_PER_TENANT: usize = 2;

/// So many failures of a service are held since it last answered, for want of a canary: a deployment's own outage of 45
/// minutes passes with ticks of five minutes, and a true outage is told then at the latest.
pub const MAX_HELD: u8 = 9;

/// The same while the canary fails as well: half a day. A canary that is gone for good hides nothing for ever.
pub const MAX_HELD_WITH_CANARY: u8 = 144;

/// How many hosts that were well are asked again while a failure is being confirmed.
const WITNESSES: usize = 5;

/// Which hosts count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrelated {
    /// Every host by itself: a canary, which is no relation of theirs, has the last word.
    Hosts,
    /// Registrable domains (`shop.example.co.uk` and `api.example.co.uk` are one), for want of a canary: hosts under one
    /// domain mostly share their infrastructure, and a company whose hosts all fail is down, not doubtful. All the checks
    /// are one tenant's, who can only delay news of his own.
    Domains,
    /// Registrable domains, and no more than two of one tenant.
    DomainsOfTenants,
}

/// What the checks of one invocation have found so far, in the order in which they began.
#[derive(Debug, Default)]
pub struct Sightings {
    checks: Vec<Sighting>,
}

#[derive(Debug)]
struct Sighting {
    tenant: TenantId,
    check: Check,
    sight: Sight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Pending,
    Failed,
    Good,
}

/// What was seen elsewhere while the last attempt of a failing check was under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// The canary's answer; `None` without a canary.
    pub canary_is_good: Option<bool>,
    /// Witnesses that were asked.
    pub witnesses: usize,
    /// Those of them that failed.
    pub witnesses_failed: usize,
}

/// Where a check stands among the [`Sightings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(usize);

impl Sightings {
    /// A check of a service that was `ALIVE` begins.
    pub fn begin(&mut self, tenant: &TenantId, check: &Check) -> Number {
        let number = self.here();
        self.checks.push(Sighting { tenant: tenant.clone(), check: check.clone(), sight: Sight::Pending });
        number
    }

    /// A check begins that is no evidence for others, but may be doubted because of them.
    #[must_use]
    pub fn here(&self) -> Number {
        Number(self.checks.len())
    }

    /// An attempt of the check that got this number from [`begin`](Self::begin) has ended; the last one counts.
    pub fn note(&mut self, number: Number, is_good: bool) {
        if let Some(sighting) = self.checks.get_mut(number.0) {
            sighting.sight = if is_good { Sight::Good } else { Sight::Failed };
        }
    }

    /// Whether at least [`MIN_HOSTS`] hosts were checked around this check and more than half of them gave nothing but
    /// failures so far.
    #[must_use]
    pub fn most_fail(&self, number: Number, unrelated: Unrelated) -> bool {
        let (before, since) = self.checks.split_at(number.0.min(self.checks.len()));
        let mut hosts = Hosts::new(unrelated);
        let mut found_well: HashMap<&str, bool> = HashMap::new();
        let nearest = since.iter().take(REACH).chain(before.iter().rev().take(REACH));
        for (index, sighting) in nearest.enumerate() {
            if index >= since.len().min(REACH) && found_well.len() >= SAMPLE {
                break;
            }
            if sighting.sight == Sight::Pending {
                continue;
            }
            let name = unrelated.name(&sighting.check);
            if found_well.contains_key(name) || hosts.admit(sighting) {
                *found_well.entry(name).or_default() |= sighting.sight == Sight::Good;
            }
        }
        let good = found_well.values().filter(|good| **good).count();
        found_well.len() >= MIN_HOSTS && good * 2 < found_well.len()
    }

    /// The unrelated hosts that were found well last, to be asked again.
    #[must_use]
    pub fn witnesses(&self, unrelated: Unrelated) -> Vec<Check> {
        let (mut hosts, mut names) = (Hosts::new(unrelated), HashSet::new());
        let good = self.checks.iter().rev().take(REACH).filter(|sighting| sighting.sight == Sight::Good);
        let distinct = good.filter(|sighting| {
            let name = unrelated.name(&sighting.check);
            !names.contains(name) && hosts.admit(sighting) && names.insert(name)
        });
        distinct.take(WITNESSES).map(|sighting| sighting.check.clone()).collect()
    }

    /// The decision: whether this check, all of whose attempts failed, says more about us than about its target. `held`
    /// is how many failures of the service were held since it last answered.
    #[must_use]
    pub fn in_doubt(&self, number: Number, unrelated: Unrelated, around: Around, held: u8) -> bool {
        let bound = match around.canary_is_good {
            Some(true) => return false,
            Some(false) => MAX_HELD_WITH_CANARY,
            None => MAX_HELD,
        };
        // The host in question is the fifth.
        let enough = around.witnesses + 1 >= MIN_HOSTS;
        let most_witnesses_fail = enough && around.witnesses_failed * 2 > around.witnesses;
        held < bound && (most_witnesses_fail || self.most_fail(number, unrelated))
    }
}

/// How many hosts of each tenant count already.
struct Hosts<'a> {
    most: usize,
    per_tenant: HashMap<&'a TenantId, usize>,
}

impl<'a> Hosts<'a> {
    fn new(unrelated: Unrelated) -> Self {
        let most = if unrelated == Unrelated::DomainsOfTenants { HOSTS_PER_TENANT } else { usize::MAX };
        Self { most, per_tenant: HashMap::new() }
    }

    /// Whether one more host of its tenant counts.
    fn admit(&mut self, sighting: &'a Sighting) -> bool {
        let count = self.per_tenant.entry(&sighting.tenant).or_default();
        *count += 1;
        *count <= self.most
    }
}

impl Unrelated {
    /// What hosts that count as one have in common.
    fn name(self, check: &Check) -> &str {
        match self {
            Self::Hosts => check.url.host(),
            Self::Domains | Self::DomainsOfTenants => registrable_domain(check.url.host()),
        }
    }
}

/// The part of a name that somebody registered; an address, or a name without such a part, is itself.
fn registrable_domain(host: &str) -> &str {
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    if is_address { host } else { psl::domain_str(host).unwrap_or(host) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Policy;

    fn check(host: &str) -> Check {
        Check::get(Policy::public(vec![], vec![]).target(&format!("https://{host}/")).unwrap())
    }

    fn tenant(letter: char) -> TenantId {
        TenantId::parse(&letter.to_string().repeat(32)).unwrap()
    }

    /// Checks in the order of their begin: `+` good, `-` failed, `?` still under way; all of one tenant.
    fn sightings(hosts: &[&str], sights: &str) -> (Sightings, Vec<Number>) {
        of_tenants(hosts, sights, &"a".repeat(sights.len()))
    }

    /// The same with one letter per check for its tenant.
    fn of_tenants(hosts: &[&str], sights: &str, tenants: &str) -> (Sightings, Vec<Number>) {
        let mut sightings = Sightings::default();
        let mut numbers = Vec::new();
        for ((host, sight), letter) in hosts.iter().zip(sights.chars()).zip(tenants.chars()) {
            let number = sightings.begin(&tenant(letter), &check(host));
            if sight != '?' {
                sightings.note(number, sight == '+');
            }
            numbers.push(number);
        }
        (sightings, numbers)
    }

    fn unrelated(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("h{index}.example")).collect()
    }

    #[test]
    fn more_than_half_of_at_least_five_hosts() {
        for (sights, expected) in [
            ("----", false),
            ("---++", true),
            ("--+++", false),
            ("---+++", false),
            ("----++", true),
            ("------", true),
            ("-----?????", true),
            ("----??????", false),
        ] {
            let hosts = unrelated(10);
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let (sightings, numbers) = sightings(&hosts, sights);
            for unrelated in [Unrelated::Hosts, Unrelated::Domains] {
                assert_eq!(sightings.most_fail(numbers[0], unrelated), expected, "{sights}");
            }
        }
    }

    #[test]
    fn a_host_of_which_anything_answers_is_reached() {
        let hosts = ["a.example", "b.example", "c.example", "c.example", "d.example", "e.example"];
        let (mut seen, numbers) = sightings(&hosts, "----++");
        assert!(seen.most_fail(numbers[0], Unrelated::Hosts));
        seen.note(numbers[2], true);
        assert!(!seen.most_fail(numbers[0], Unrelated::Hosts));
    }

    #[test]
    fn an_outage_that_begins_just_now_is_seen_by_what_begins_after_it() {
        let hosts = unrelated(100);
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (seen, numbers) = sightings(&hosts, &format!("{}{}", "+".repeat(80), "-".repeat(20)));
        assert!(numbers[80..].iter().all(|number| seen.most_fail(*number, Unrelated::Domains)));
        // Too late to be told from a few hosts of their own.
        let (seen, numbers) = sightings(&hosts, &format!("{}{}", "+".repeat(95), "-".repeat(5)));
        assert!(!numbers[95..].iter().any(|number| seen.most_fail(*number, Unrelated::Domains)));
    }

    #[test]
    fn one_host_that_fails_among_many_is_down() {
        let hosts = unrelated(400);
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        for at in [0, 1, 200, 398, 399] {
            let sights: String = (0..400).map(|index| if index == at { '-' } else { '+' }).collect();
            let (seen, numbers) = sightings(&hosts, &sights);
            assert!(!seen.most_fail(numbers[at], Unrelated::Hosts), "{at}");
        }
    }

    #[test]
    fn witnesses_are_the_last_unrelated_hosts_that_were_well() {
        let hosts = ["a.one.example", "b.one.example", "two.example", "three.example", "four.example"];
        let (seen, numbers) = sightings(&hosts, "+++-+");
        let names = |unrelated| -> Vec<String> {
            seen.witnesses(unrelated).iter().map(|check| check.url.host().to_owned()).collect()
        };
        assert_eq!(names(Unrelated::Domains), ["four.example", "two.example", "b.one.example"]);
        assert_eq!(names(Unrelated::Hosts).len(), 4);
        for (witnesses, witnesses_failed, canary_is_good, expected) in [
            (5, 3, None, true),
            (5, 2, None, false),
            (4, 3, None, true),
            (4, 2, None, false),
            (3, 3, None, false),
            (5, 5, Some(true), false),
            (5, 5, Some(false), true),
            (5, 0, Some(false), false),
            (0, 0, None, false),
        ] {
            let around = Around { canary_is_good, witnesses, witnesses_failed };
            assert_eq!(seen.in_doubt(numbers[3], Unrelated::Hosts, around, 0), expected, "{around:?}");
        }
    }

    #[test]
    fn one_tenants_hosts_weigh_little_among_those_of_others() {
        let hosts = unrelated(60);
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        for (sights, tenants, alone, among_others) in [
            // Fifty of one, and one of another.
            (format!("{}-", "-".repeat(50)), format!("{}b", "a".repeat(50)), true, false),
            // Fifty of one, and four others, who are well but for the first.
            (format!("{}-++++", "-".repeat(50)), format!("{}bcdeb", "a".repeat(50)), true, false),
            // Two tenants do not suffice, three do.
            ("------".to_owned(), "aaabbb".to_owned(), true, false),
            ("------".to_owned(), "aabbcc".to_owned(), true, true),
            ("----++".to_owned(), "aabbcc".to_owned(), true, true),
            ("---+++".to_owned(), "aabbcc".to_owned(), false, false),
        ] {
            let (seen, numbers) = of_tenants(&hosts, &sights, &tenants);
            let b = numbers[tenants.find('b').unwrap()];
            assert_eq!(seen.most_fail(b, Unrelated::Domains), alone, "{sights} {tenants}");
            assert_eq!(seen.most_fail(b, Unrelated::DomainsOfTenants), among_others, "{sights} {tenants}");
        }
        let (seen, _) = of_tenants(&hosts, "+++++++", "bcdaaaa");
        assert_eq!(seen.witnesses(Unrelated::DomainsOfTenants).len(), 5);
        let (seen, _) = of_tenants(&hosts, "++++++", "bbaaaa");
        assert_eq!(seen.witnesses(Unrelated::DomainsOfTenants).len(), 4);
    }

    #[test]
    fn what_is_no_evidence_is_doubted_because_of_others_and_not_for_ever() {
        let hosts = unrelated(6);
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (mut seen, _) = sightings(&hosts, "----");
        let number = seen.here();
        assert!(!seen.most_fail(number, Unrelated::Hosts), "four, and it is not the fifth");
        let fifth = seen.begin(&tenant('a'), &check("fifth.example"));
        seen.note(fifth, false);
        for (canary_is_good, held, expected) in [
            (None, 0, true),
            (None, MAX_HELD - 1, true),
            (None, MAX_HELD, false),
            (Some(false), MAX_HELD, true),
            (Some(false), MAX_HELD_WITH_CANARY, false),
            (Some(true), 0, false),
        ] {
            let around = Around { canary_is_good, ..Around::default() };
            assert_eq!(seen.in_doubt(number, Unrelated::Hosts, around, held), expected, "{around:?}, {held}");
        }
    }

    #[test]
    fn one_companys_hosts_are_related_unless_a_canary_speaks() {
        let hosts = ["www", "api", "auth", "cdn", "pay"].map(|name| format!("{name}.shop.co.uk"));
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (seen, numbers) = sightings(&hosts, "-----");
        assert!(seen.most_fail(numbers[0], Unrelated::Hosts));
        assert!(!seen.most_fail(numbers[0], Unrelated::Domains));
        // Pages of different people under one provider's name, and addresses, are no relations.
        for (host, domain) in [
            ("a.github.io", "a.github.io"),
            ("x.y.example.co.uk", "example.co.uk"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registrable_domain(host), domain);
        }
    }
}
