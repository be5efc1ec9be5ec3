//! Decides which probe may open a connection now: every look-up and every connection needs a [`Permit`] first.
//!
//! The bounds, and what each is against (docs/architecture.md, "Who may open a connection"):
//! - in total, because a Lambda sandbox has 1,024 file descriptors;
//! - per address, over all tenants and names, so that nobody is attacked through us: 16 unanswered connections at once, then
//!   one every 62.5 ms, up to 96 open ones;
//! - on slow addresses together, so that hosts that hang leave sockets to those that answer; while that bound is reached, an
//!   address that has not answered yet gets one connection at once;
//! - per tenant, a share of what is free, so that no tenant holds what the next one needs.
//!
//! Next at an address is the tenant that has used it least in this tick, in socket-seconds. Waiting is not the target's fault:
//! callers do not count it against a check's deadline. Other invocations know nothing of this one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// A tenant may hold one permit for every so many that are free, and one in any case. For addresses that answer it may hold
/// as many again beside those that hang, so that a tenant's healthy services need not wait for its others.
const FREE_PER_PERMIT_HELD: usize = 16;

/// An address with a connection that is open for longer is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// What an open connection counts beside the time that it has been open: otherwise one tenant could take every place in the
/// instant in which all of them have used nothing.
const OPEN_MS: u64 = 1_000;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Look-ups and connections at once.
    pub total: usize,
    /// Connections at once to all slow addresses together.
    pub slow: usize,
    /// Connections to one address that are opened without a pause, as long as they are answered: about as many as two
    /// browsers would open.
    pub per_address_at_once: usize,
    /// Connections at once to one address.
    pub per_address: usize,
    /// The pause before each further connection to one address whose connections are not answered.
    pub pace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: 400,
            slow: 256,
            per_address_at_once: 16,
            per_address: 96,
            pace: Duration::from_micros(62_500),
        }
    }
}

/// What an attempt is for. The first kind goes first, within a tenant and among tenants that have used an address equally
/// little: so what one tick does not reach, the next one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptKind {
    /// The first one for a service on which the tick before brought no verdict. It also confirms a failure of that tick.
    Overdue,
    /// The first one of a tick.
    First,
    /// Confirms a failure of this tick.
    Confirmation,
}

/// What one tenant holds and has used in one tick. Clones are the same quota.
#[derive(Debug, Clone, Default)]
pub struct TenantQuota(Arc<Mutex<Usage>>);

#[derive(Debug, Default)]
struct Usage {
    /// Permits held for look-ups and for addresses that answer.
    held: usize,
    /// Permits held for slow addresses.
    held_slow: usize,
    addresses: HashMap<IpAddr, AddressUsage>,
}

#[derive(Debug, Default, Clone, Copy)]
struct AddressUsage {
    open: u64,
    /// The sum of the opening times of what is open, in milliseconds since the limiter was made.
    opened_ms: u64,
    closed_ms: u64,
}

impl AddressUsage {
    /// Socket-milliseconds at the address, and what is open counted up.
    fn used_ms(self, now_ms: u64) -> u64 {
        self.closed_ms + (self.open * (now_ms + OPEN_MS)).saturating_sub(self.opened_ms)
    }
}

impl Usage {
    fn total(&self) -> usize {
        self.held + self.held_slow
    }
}

impl TenantQuota {
    fn lock(&self) -> MutexGuard<'_, Usage> {
        // Whole between any two statements that hold the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many permits one tenant may hold now.
#[derive(Debug, Clone, Copy)]
struct Share {
    any: usize,
    slow: usize,
}

impl Share {
    fn allows(self, usage: &Usage, is_slow: bool) -> bool {
        if is_slow {
            usage.held_slow < self.slow && usage.total() < self.any
        } else {
            usage.held < self.any && usage.total() < 2 * self.any
        }
    }
}

/// Hands out permits. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimiter {
    limits: ConnectionLimits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    free: usize,
    held_slow: usize,
    next_id: u64,
    /// Addresses with a permit or a waiting attempt, and some of a moment ago.
    addresses: HashMap<IpAddr, Address>,
    /// How many of them are too many to keep idle ones.
    sweep_at: usize,
    look_ups: VecDeque<Waiting>,
    /// Addresses with attempts that nothing of the address's own holds back, in the order of their arrival.
    ready: VecDeque<IpAddr>,
    /// Permits in the order in which they were given: whose address turns slow next.
    opened: VecDeque<(Instant, IpAddr, u64)>,
    /// When addresses may open their next connection.
    paced: BinaryHeap<Reverse<(Instant, IpAddr)>>,
    has_timer: bool,
}

#[derive(Debug)]
struct Address {
    /// The open connections, oldest first.
    open: VecDeque<(u64, Instant, TenantQuota)>,
    is_slow: bool,
    /// Whether a connection was answered since the address was last slow.
    has_answered: bool,
    is_ready: bool,
    /// How many connections may be opened without a pause: one is back with each answer, and one after each pause.
    tokens: usize,
    /// Since when the present pause lasts.
    paused_at: Instant,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    quota: TenantQuota,
    kind: AttemptKind,
    /// The order of arrival.
    number: u64,
    grant: oneshot::Sender<Permit>,
}

/// The right to use one socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: ConnectionLimiter,
    quota: TenantQuota,
    address: Option<IpAddr>,
    id: u64,
    is_answered: bool,
}

impl Permit {
    /// The target has answered, or refused: it is there, and may be asked the next thing at once.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

/// How many idle addresses are remembered, so that a target whose connections were cut off is not asked anew at once.
const IDLE_ADDRESSES: usize = 1_024;

impl ConnectionLimiter {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let state = State {
            began: Instant::now(),
            free: limits.total,
            held_slow: 0,
            next_id: 0,
            addresses: HashMap::new(),
            sweep_at: IDLE_ADDRESSES,
            look_ups: VecDeque::new(),
            ready: VecDeque::new(),
            opened: VecDeque::new(),
            paced: BinaryHeap::new(),
            has_timer: false,
        };
        Self { limits, state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for the permit to connect to `address`, or to look a name up (`None`). Gives up its place when dropped.
    pub(super) async fn acquire(
        &self,
        quota: &TenantQuota,
        kind: AttemptKind,
        address: Option<IpAddr>,
    ) -> Permit {
        loop {
            let (grant, granted) = oneshot::channel();
            {
                let mut state = self.lock();
                state.enqueue(quota.clone(), kind, address, grant, &self.limits);
            }
            self.hand_out();
            // A sender is dropped only with the whole state, which this borrow outlives.
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Gives permits to all that may have one now.
    fn hand_out(&self) {
        loop {
            let next = self.lock().next(&self.limits, Instant::now());
            let Some((waiting, address, id)) = next else { break };
            let Waiting { quota, grant, .. } = waiting;
            // Outside of the lock: a permit whose taker has just gone is given back by being dropped.
            drop(grant.send(Permit { limiter: self.clone(), quota, address, id, is_answered: false }));
        }
        self.keep_time();
    }

    /// Looks again when time alone makes something possible: an address whose pause ends, a connection that turns slow.
    fn keep_time(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        {
            let mut state = self.lock();
            if state.has_timer || state.next_look().is_none() {
                return;
            }
            state.has_timer = true;
        }
        let limiter = self.clone();
        runtime.spawn(async move {
            loop {
                let next = {
                    let mut state = limiter.lock();
                    let next = state.next_look();
                    state.has_timer = next.is_some();
                    next
                };
                let Some(at) = next else { break };
                tokio::time::sleep_until(at).await;
                limiter.hand_out();
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(
        &mut self,
        quota: TenantQuota,
        kind: AttemptKind,
        address: Option<IpAddr>,
        grant: oneshot::Sender<Permit>,
        limits: &ConnectionLimits,
    ) {
        let waiting = Waiting { quota, kind, number: self.next_id, grant };
        self.next_id += 1;
        let Some(ip) = address else { return self.look_ups.push_back(waiting) };
        if self.addresses.len() >= self.sweep_at {
            self.addresses.retain(|_, address| !address.open.is_empty() || !address.waiting.is_empty());
            self.sweep_at = IDLE_ADDRESSES.max(2 * self.addresses.len());
        }
        let paused_at = self.began;
        let address = self.addresses.entry(ip).or_insert_with(|| Address {
            open: VecDeque::new(),
            is_slow: false,
            has_answered: false,
            is_ready: false,
            tokens: limits.per_address_at_once,
            paused_at,
            waiting: Vec::new(),
        });
        address.waiting.push(waiting);
        self.make_ready(ip);
    }

    /// Lets an address be looked at.
    fn make_ready(&mut self, ip: IpAddr) {
        if let Some(address) = self.addresses.get_mut(&ip)
            && !address.is_ready
            && !address.waiting.is_empty()
        {
            address.is_ready = true;
            self.ready.push_back(ip);
        }
    }

    /// Takes out the attempt that comes next and books its permit.
    fn next(&mut self, limits: &ConnectionLimits, now: Instant) -> Option<(Waiting, Option<IpAddr>, u64)> {
        self.pass_time(now);
        if self.free == 0 {
            return None;
        }
        let slow_free = limits.slow.saturating_sub(self.held_slow);
        let of = |free: usize| if free == 0 { 0 } else { (free / FREE_PER_PERMIT_HELD).max(1) };
        let share = Share { any: of(self.free), slow: of(slow_free) };
        if let Some(waiting) = self.next_look_up(share) {
            return Some(self.book(waiting, None, limits, now));
        }
        let now_ms = self.ms(now);
        let mut best: Option<(IpAddr, usize, usize)> = None;
        let mut index = 0;
        while let Some(&ip) = self.ready.get(index) {
            match self.look_at(ip, limits, now) {
                Look::Ready => index += 1,
                Look::Later => {
                    index += 1;
                    continue;
                }
                Look::Wait => {
                    self.ready.remove(index);
                    continue;
                }
            }
            let Some(address) = self.addresses.get(&ip) else { continue };
            // Who holds least comes first, over all addresses; at one of them who has used it least.
            if let Some((at, held)) = address.candidate(ip, share, now_ms)
                && best.is_none_or(|(_, _, least)| held < least)
            {
                best = Some((ip, at, held));
                if held == 0 {
                    break;
                }
            }
        }
        let (ip, at, _) = best?;
        let waiting = self.addresses.get_mut(&ip)?.waiting.swap_remove(at);
        Some(self.book(waiting, Some(ip), limits, now))
    }

    /// Look-ups come first: they are short, and every attempt begins with one.
    fn next_look_up(&mut self, share: Share) -> Option<Waiting> {
        self.look_ups.retain(|waiting| !waiting.grant.is_closed());
        let may = |waiting: &Waiting| share.allows(&waiting.quota.lock(), false);
        let at = self.look_ups.iter().position(may)?;
        self.look_ups.remove(at)
    }

    /// Whether an address may open a connection, as far as the address itself is concerned.
    fn look_at(&mut self, ip: IpAddr, limits: &ConnectionLimits, now: Instant) -> Look {
        let Some(address) = self.addresses.get_mut(&ip) else { return Look::Wait };
        address.waiting.retain(|waiting| !waiting.grant.is_closed());
        if address.waiting.is_empty() || address.open.len() >= limits.per_address {
            // Until another attempt comes, or a connection is closed.
            address.is_ready = false;
            return Look::Wait;
        }
        let is_unknown = !address.has_answered && !address.is_slow;
        if is_unknown && self.held_slow >= limits.slow && !address.open.is_empty() {
            return Look::Later;
        }
        address.pass_time(limits, now);
        if address.tokens == 0 {
            address.is_ready = false;
            self.paced.push(Reverse((address.paused_at + limits.pace, ip)));
            return Look::Wait;
        }
        Look::Ready
    }

    fn book(
        &mut self,
        waiting: Waiting,
        ip: Option<IpAddr>,
        limits: &ConnectionLimits,
        now: Instant,
    ) -> (Waiting, Option<IpAddr>, u64) {
        let (id, now_ms) = (self.next_id, self.ms(now));
        self.next_id += 1;
        self.free -= 1;
        let mut usage = waiting.quota.lock();
        match ip.and_then(|ip| Some((ip, self.addresses.get_mut(&ip)?))) {
            Some((ip, address)) => {
                if address.tokens == limits.per_address_at_once {
                    address.paused_at = now;
                }
                address.tokens -= 1;
                address.open.push_back((id, now, waiting.quota.clone()));
                let at = usage.addresses.entry(ip).or_default();
                at.open += 1;
                at.opened_ms += now_ms;
                if address.is_slow {
                    self.held_slow += 1;
                    usage.held_slow += 1;
                } else {
                    self.opened.push_back((now, ip, id));
                    usage.held += 1;
                }
            }
            None => usage.held += 1,
        }
        drop(usage);
        (waiting, ip, id)
    }

    /// Notes which addresses have turned slow, and which may open another connection.
    fn pass_time(&mut self, now: Instant) {
        while let Some(&(since, ip, id)) = self.opened.front()
            && since + SLOW_AFTER <= now
        {
            self.opened.pop_front();
            if let Some(address) = self.addresses.get_mut(&ip)
                && !address.is_slow
                && address.open.iter().any(|(open, _, _)| *open == id)
            {
                address.is_slow = true;
                address.has_answered = false;
                self.held_slow += address.open.len();
                for (_, _, quota) in &address.open {
                    let mut usage = quota.lock();
                    usage.held -= 1;
                    usage.held_slow += 1;
                }
            }
        }
        while let Some(&Reverse((at, ip))) = self.paced.peek()
            && at <= now
        {
            self.paced.pop();
            self.make_ready(ip);
        }
    }

    /// When to look again although nothing has been given back.
    fn next_look(&self) -> Option<Instant> {
        let paced = self.paced.peek().map(|Reverse((at, _))| *at);
        let is_waiting = !self.ready.is_empty() || !self.look_ups.is_empty();
        let slow = self.opened.front().filter(|_| is_waiting).map(|(since, _, _)| *since + SLOW_AFTER);
        paced.into_iter().chain(slow).min()
    }

    fn give_back(&mut self, permit: &Permit, limits: &ConnectionLimits, now: Instant) {
        self.free += 1;
        let now_ms = self.ms(now);
        let mut usage = permit.quota.lock();
        let Some((ip, address)) = permit.address.and_then(|ip| Some((ip, self.addresses.get_mut(&ip)?)))
        else {
            usage.held -= 1;
            return;
        };
        let Some(at) = address.open.iter().position(|(id, _, _)| *id == permit.id) else { return };
        let since = address.open.remove(at).map_or(now, |(_, since, _)| since);
        if permit.is_answered {
            address.has_answered = true;
            address.tokens = (address.tokens + 1).min(limits.per_address_at_once);
        }
        let since_ms = u64::try_from(since.duration_since(self.began).as_millis()).unwrap_or(0);
        if let Some(used) = usage.addresses.get_mut(&ip) {
            used.open -= 1;
            used.opened_ms -= since_ms;
            used.closed_ms += now_ms - since_ms;
        }
        if address.is_slow {
            usage.held_slow -= 1;
            self.held_slow -= 1;
        } else {
            usage.held -= 1;
        }
        drop(usage);
        let is_still_slow = address.open.front().is_some_and(|(_, since, _)| *since + SLOW_AFTER <= now);
        if address.is_slow && !is_still_slow {
            self.answers_again(ip);
        }
        self.make_ready(ip);
        if let Some(address) = self.addresses.get_mut(&ip)
            && address.open.is_empty()
            && address.waiting.is_empty()
        {
            address.pass_time(limits, now);
            if address.tokens == limits.per_address_at_once {
                self.addresses.remove(&ip);
            }
        }
    }

    /// An address without a connection that is open for long is not slow any more.
    fn answers_again(&mut self, ip: IpAddr) {
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        address.is_slow = false;
        self.held_slow -= address.open.len();
        for (id, since, quota) in &address.open {
            let mut usage = quota.lock();
            usage.held_slow -= 1;
            usage.held += 1;
            // Seldom more than a few, and nearly in order: when one turns slow is looked at within a second all the same.
            self.opened.push_back((*since, ip, *id));
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether an address may open a connection.
enum Look {
    Ready,
    /// When other addresses leave room.
    Later,
    /// When one of its own is closed, or its pause ends.
    Wait,
}

impl Address {
    /// Gives a token back for each pause that has passed.
    fn pass_time(&mut self, limits: &ConnectionLimits, now: Instant) {
        let mut missing = limits.per_address_at_once - self.tokens;
        while missing > 0 && self.paused_at + limits.pace <= now {
            self.paused_at += limits.pace;
            missing -= 1;
        }
        self.tokens = limits.per_address_at_once - missing;
    }

    /// The attempt that comes next, by its place among those that wait, and what its tenant holds; none when no tenant may
    /// hold more.
    fn candidate(&self, ip: IpAddr, share: Share, now_ms: u64) -> Option<(usize, usize)> {
        let rank = |waiting: &Waiting| {
            let usage = waiting.quota.lock();
            let used_ms = usage.addresses.get(&ip).map_or(0, |at| at.used_ms(now_ms));
            let key = (used_ms, waiting.kind, waiting.number);
            share.allows(&usage, self.is_slow).then_some((key, usage.total()))
        };
        let ranked = self.waiting.iter().enumerate().filter_map(|(at, waiting)| Some((rank(waiting)?, at)));
        let ((_, held), at) = ranked.min_by_key(|((key, _), _)| *key)?;
        Some((at, held))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.lock().give_back(self, &self.limiter.limits, Instant::now());
        self.limiter.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn limiter() -> ConnectionLimiter {
        ConnectionLimiter::new(ConnectionLimits::default())
    }

    /// As many permits as there are now.
    fn grab(
        limiter: &ConnectionLimiter,
        quota: &TenantQuota,
        ip: Option<IpAddr>,
        most: usize,
    ) -> Vec<Permit> {
        // Otherwise tokio lets a task that is ready so often wait now and then.
        let acquire = || tokio::task::unconstrained(limiter.acquire(quota, AttemptKind::First, ip));
        (0..most).map_while(|_| acquire().now_or_never()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_holds_at_most_a_sixteenth_of_what_is_free() {
        let limiter = limiter();
        let greedy: Vec<_> = (0..64).map(|_| grab(&limiter, &TenantQuota::default(), None, 50)).collect();
        assert_eq!(greedy[0].len(), 23);
        assert!(greedy.iter().all(|permits| !permits.is_empty()));
        assert!(
            !grab(&limiter, &TenantQuota::default(), None, 50).is_empty(),
            "a newcomer waits for nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_sixteen_connections_at_once_and_then_sixteen_a_second_up_to_ninety_six() {
        let limiter = limiter();
        let (opened, began) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        for _ in 0..200 {
            let (limiter, opened) = (limiter.clone(), Arc::clone(&opened));
            tokio::spawn(async move {
                let quota = TenantQuota::default();
                let permit = limiter.acquire(&quota, AttemptKind::First, Some(address(1))).await;
                opened.lock().unwrap().push(began.elapsed());
                tokio::time::sleep(Duration::from_secs(10)).await;
                drop(permit);
            });
        }
        tokio::time::sleep(Duration::from_millis(9_900)).await;
        let times = opened.lock().unwrap().clone();
        let within = |ms| times.iter().filter(|at| at.as_millis() <= ms).count();
        // The clock of tokio has whole milliseconds.
        assert_eq!((within(0), within(64), within(1_016), within(5_120), times.len()), (16, 17, 32, 96, 96));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_whose_connections_are_cut_off_is_not_asked_faster() {
        let limiter = limiter();
        let opened = || grab(&limiter, &TenantQuota::default(), Some(address(1)), 23).len();
        assert_eq!((opened(), opened()), (16, 0));
        tokio::time::sleep(Duration::from_millis(126)).await;
        assert_eq!((opened(), opened()), (2, 0));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(opened(), 16);

        // Each answer lets it be asked the next thing at once.
        tokio::time::sleep(Duration::from_secs(5)).await;
        for _ in 0..100 {
            let mut permits = grab(&limiter, &TenantQuota::default(), Some(address(1)), 10);
            assert_eq!(permits.len(), 10);
            permits.iter_mut().for_each(Permit::answered);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_addresses_leave_permits_to_those_that_answer() {
        let limiter = limiter();
        let held = Arc::new(Mutex::new(Vec::new()));
        // Thirty addresses that hang, each asked by fifty tenants.
        for host in 0..30 {
            for _ in 0..50 {
                let (limiter, held) = (limiter.clone(), Arc::clone(&held));
                tokio::spawn(async move {
                    let quota = TenantQuota::default();
                    tokio::time::sleep(Duration::from_millis(u64::from(host) * 500)).await;
                    let permit = limiter.acquire(&quota, AttemptKind::First, Some(address(host))).await;
                    held.lock().unwrap().push((quota, permit));
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let open = held.lock().unwrap().len();
        assert!((256..400).contains(&open), "{open}");
        // One at once while it has not answered, and then as many as any other.
        let healthy = TenantQuota::default();
        assert_eq!(grab(&limiter, &healthy, Some(address(99)), 5).len(), 1);
        let mut first = limiter.acquire(&healthy, AttemptKind::First, Some(address(99))).await;
        first.answered();
        let (second, ()) =
            tokio::join!(limiter.acquire(&healthy, AttemptKind::First, Some(address(99))), async {
                drop(first);
            });
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenants_slow_connections_leave_it_permits_for_its_other_services() {
        let limiter = limiter();
        let quota = TenantQuota::default();
        let hanging = grab(&limiter, &quota, Some(address(1)), 50);
        assert_eq!(hanging.len(), 16);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(grab(&limiter, &quota, Some(address(1)), 1).len(), 0);
        assert!(!grab(&limiter, &quota, Some(address(2)), 1).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn next_at_an_address_is_the_tenant_that_has_used_it_least_and_its_carried_failures_first() {
        let limits =
            ConnectionLimits { per_address_at_once: 1, per_address: 1, ..ConnectionLimits::default() };
        let limiter = ConnectionLimiter::new(limits);
        let here = Some(address(1));
        let (greedy, modest) = (TenantQuota::default(), TenantQuota::default());
        let held = limiter.acquire(&greedy, AttemptKind::First, here).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let order = Mutex::new(Vec::new());
        let wait = async |name, quota, kind| {
            let _permit = limiter.acquire(quota, kind, here).await;
            order.lock().unwrap().push(name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        tokio::join!(
            wait("greedy", &greedy, AttemptKind::Overdue),
            wait("confirmation", &modest, AttemptKind::Confirmation),
            wait("first", &modest, AttemptKind::First),
            wait("carried", &modest, AttemptKind::Overdue),
            async { drop(held) },
        );
        assert_eq!(*order.lock().unwrap(), ["carried", "first", "confirmation", "greedy"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_answers_again_is_not_slow_any_more() {
        let limiter = limiter();
        let quota = TenantQuota::default();
        let permits = grab(&limiter, &quota, Some(address(1)), 3);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let other = limiter.acquire(&TenantQuota::default(), AttemptKind::First, Some(address(1))).await;
        assert_eq!((limiter.lock().held_slow, quota.lock().held_slow), (4, 3));
        drop(permits);
        assert_eq!((limiter.lock().held_slow, quota.lock().total()), (0, 0));
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_stops_waiting_leaves_nothing_behind() {
        let limiter = ConnectionLimiter::new(ConnectionLimits { total: 1, ..ConnectionLimits::default() });
        let (quota, here) = (TenantQuota::default(), Some(address(1)));
        let held = limiter.acquire(&quota, AttemptKind::First, here).await;
        let other = TenantQuota::default();
        assert!(limiter.acquire(&other, AttemptKind::First, here).now_or_never().is_none());
        // This one is granted its permit, and gone before it learns of it.
        let mut gone = Box::pin(limiter.acquire(&quota, AttemptKind::First, here));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(held);
        drop(gone);
        limiter.hand_out();
        let state = limiter.lock();
        assert_eq!((state.free, state.ready.len(), quota.lock().total()), (1, 0, 0));
        assert!(
            state.addresses.values().all(|address| address.open.is_empty() && address.waiting.is_empty())
        );
    }
}
