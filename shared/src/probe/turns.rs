//! Who may open a connection next: every look-up and every connection of a probe takes a turn first.
//!
//! Three bounds, each against another harm. In total, because a Lambda sandbox has 1,024 file descriptors. Per target
//! address, over all tenants: nobody is attacked through us, and the busier a target is, the slower it is asked. Per
//! tenant, a share of what is *free*: a tenant whose every endpoint hangs never holds what the next one needs (alone it
//! gets 23 of 400; sixty-four such tenants get five each in the long run, and leave eighty free). Among those who wait,
//! whoever holds least comes first.
//!
//! An address rather than a name is what is bounded: names cost nothing, and a thousand of them may mean one machine.
//!
//! Deliberately absent: deadlines (a wait for a turn is not the target's fault, and does not count against it), and other
//! invocations, which know nothing of this one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A tenant may hold one turn for every so many that are free, and one in any case.
const FREE_PER_TURN_HELD: usize = 16;

/// On whose behalf probes are made: those of one `Share` count together. One per tenant and tick.
#[derive(Debug, Clone, Default)]
pub struct Share(
    // Written under the lock of the `Turns` alone.
    Arc<AtomicUsize>,
);

impl Share {
    fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The turns of one probe. Clones are the same turns.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    per_address: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    /// How many turns there are to each address; no entry for none.
    addresses: HashMap<IpAddr, usize>,
    /// In the order of their coming.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    share: Share,
    addresses: Vec<IpAddr>,
    go: oneshot::Sender<Turn>,
}

/// The right to use one socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    share: Share,
    addresses: Vec<IpAddr>,
}

impl Turns {
    /// So many at once, and so many of them to one address.
    pub(super) fn new(at_once: usize, per_address: usize) -> Self {
        let queue = Queue { free: at_once, addresses: HashMap::new(), waiting: Vec::new() };
        Self { per_address, queue: Arc::new(Mutex::new(queue)) }
    }

    /// Waits for a turn to use a socket to one of `addresses`; none for a look-up. Gives up its place when dropped.
    pub(super) async fn take(&self, share: &Share, addresses: &[IpAddr]) -> Turn {
        loop {
            let (go, came) = oneshot::channel();
            self.lock().waiting.push(Waiting { share: share.clone(), addresses: addresses.to_vec(), go });
            self.hand_out();
            // A sender is dropped only with the whole queue, which this borrow outlives.
            if let Ok(turn) = came.await {
                return turn;
            }
        }
    }

    /// Gives turns to everybody who may have one now.
    fn hand_out(&self) {
        loop {
            let next = self.lock().next(self.per_address);
            let Some(Waiting { share, addresses, go }) = next else { return };
            // Outside of the lock: a turn whose taker has just gone is given back by being dropped.
            drop(go.send(Turn { turns: self.clone(), share, addresses }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that hold the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes whoever comes next out of the queue and books the turn.
    fn next(&mut self, per_address: usize) -> Option<Waiting> {
        if self.free == 0 {
            return None;
        }
        self.waiting.retain(|waiting| !waiting.go.is_closed());
        let most = (self.free / FREE_PER_TURN_HELD).max(1);
        let has_room =
            |address: &IpAddr| self.addresses.get(address).is_none_or(|count| *count < per_address);
        let mut first: Option<(usize, usize)> = None;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let held = waiting.share.held();
            // Looked up only for whoever could come first: with thousands waiting this is what a turn costs.
            let is_poorer = held < first.map_or(most, |(_, least)| least);
            if is_poorer && waiting.addresses.iter().all(has_room) {
                first = Some((index, held));
                if held == 0 {
                    break;
                }
            }
        }
        let next = self.waiting.remove(first?.0);
        self.free -= 1;
        next.share.0.fetch_add(1, Ordering::Relaxed);
        for address in &next.addresses {
            *self.addresses.entry(*address).or_default() += 1;
        }
        Some(next)
    }

    fn give_back(&mut self, turn: &Turn) {
        self.free += 1;
        turn.share.0.fetch_sub(1, Ordering::Relaxed);
        for address in &turn.addresses {
            if let Some(count) = self.addresses.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.addresses.remove(address);
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().give_back(self);
        self.turns.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// As many turns as are to be had now.
    fn grab(turns: &Turns, share: &Share, addresses: &[IpAddr], at_most: usize) -> Vec<Turn> {
        (0..at_most).map_while(|_| turns.take(share, addresses).now_or_never()).collect()
    }

    #[test]
    fn a_tenant_holds_at_most_a_sixteenth_of_what_is_free() {
        let turns = Turns::new(400, 16);
        let greedy: Vec<_> = (0..64).map(|_| grab(&turns, &Share::default(), &[], 50)).collect();
        assert_eq!(greedy[0].len(), 23);
        assert!(greedy.iter().all(|turns| !turns.is_empty()));
        // However greedy the others are, who comes last waits for nothing.
        assert!(!grab(&turns, &Share::default(), &[], 50).is_empty());
    }

    #[test]
    fn one_turn_is_to_be_had_as_long_as_any_is_free() {
        let turns = Turns::new(3, 16);
        let share = Share::default();
        assert_eq!(grab(&turns, &share, &[], 3).len(), 1);
        let _three: Vec<_> = (0..3).flat_map(|_| grab(&turns, &Share::default(), &[], 1)).collect();
        assert!(grab(&turns, &share, &[], 1).is_empty());
    }

    #[test]
    fn an_address_is_bounded_over_all_tenants_and_under_all_names() {
        let turns = Turns::new(400, 16);
        let (one, both) = ([address(1)], [address(2), address(1)]);
        let mut held: Vec<_> = (0..16)
            .flat_map(|tenant| grab(&turns, &Share::default(), if tenant % 2 == 0 { &one } else { &both }, 1))
            .collect();
        assert_eq!(held.len(), 16);
        let share = Share::default();
        assert!(turns.take(&share, &both).now_or_never().is_none());
        assert!(turns.take(&share, &[address(2)]).now_or_never().is_some());
        held.pop();
        assert!(turns.take(&share, &both).now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_holds_least_comes_first_and_then_whoever_came_first() {
        let turns = Turns::new(100, 1);
        let here = [address(1)];
        let (rich, poor, late) = (Share::default(), Share::default(), Share::default());
        let _riches = grab(&turns, &rich, &[], 3);
        let held = turns.take(&rich, &here).await;
        let order = Mutex::new(Vec::new());
        let wait = async |name, share| {
            let _turn = turns.take(share, &here).await;
            order.lock().unwrap().push(name);
            tokio::task::yield_now().await;
        };
        tokio::join!(wait("rich", &rich), wait("poor", &poor), wait("late", &late), async { drop(held) });
        assert_eq!(*order.lock().unwrap(), ["poor", "late", "rich"]);
    }

    #[tokio::test]
    async fn whoever_waits_no_more_leaves_nothing_behind() {
        let turns = Turns::new(1, 16);
        let (share, here) = (Share::default(), [address(1)]);
        let held = turns.take(&share, &here).await;
        assert!(turns.take(&Share::default(), &here).now_or_never().is_none());
        // This one is given its turn, and gone before it learns of it.
        let mut gone = Box::pin(turns.take(&share, &here));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(held);
        drop(gone);
        let queue = turns.lock();
        assert_eq!((queue.free, queue.addresses.len(), queue.waiting.len(), share.held()), (1, 0, 0, 0));
    }
}
