//! The bounds on a paused clock.

use futures::FutureExt as _;

use super::*;

fn address(last: u8) -> Destination {
    Destination::Address([192, 0, 2, last].into())
}

fn limiter() -> ConnectionLimiter {
    ConnectionLimiter::new(ConnectionLimits::default())
}

/// As many permits as there are now.
fn grab(
    limiter: &ConnectionLimiter,
    quota: &TenantQuota,
    destination: Destination,
    most: usize,
) -> Vec<Permit> {
    grab_for(limiter, quota, destination, Attempt::EXPECTED, most)
}

fn grab_for(
    limiter: &ConnectionLimiter,
    quota: &TenantQuota,
    destination: Destination,
    attempt: Attempt,
    most: usize,
) -> Vec<Permit> {
    // Otherwise tokio lets a task that is ready so often wait now and then.
    let acquire = || tokio::task::unconstrained(limiter.acquire(quota, attempt, destination));
    (0..most).map_while(|_| acquire().now_or_never()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_holds_at_most_a_sixteenth_of_what_is_free() {
    let limits =
        ConnectionLimits { per_address_at_once: 1_000, per_address: 1_000, ..ConnectionLimits::default() };
    let limiter = ConnectionLimiter::new(limits);
    let newcomer = || grab(&limiter, &TenantQuota::default(), address(1), 50);
    let greedy: Vec<_> = (0..64).map(|_| newcomer()).collect();
    assert_eq!(greedy[0].len(), 23);
    assert!(greedy.iter().all(|permits| !permits.is_empty()));
    assert!(!newcomer().is_empty(), "a newcomer waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn an_address_gets_sixteen_connections_at_once_and_then_sixteen_a_second_up_to_ninety_six() {
    let limiter = limiter();
    let (opened, began) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
    for _ in 0..200 {
        let (limiter, opened) = (limiter.clone(), Arc::clone(&opened));
        tokio::spawn(async move {
            let quota = TenantQuota::default();
            let permit = limiter.acquire(&quota, Attempt::EXPECTED, address(1)).await;
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
    let opened = || grab(&limiter, &TenantQuota::default(), address(1), 23).len();
    assert_eq!((opened(), opened()), (16, 0));
    tokio::time::sleep(Duration::from_millis(126)).await;
    assert_eq!((opened(), opened()), (2, 0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(opened(), 16);

    // Each answer lets it be asked the next thing at once.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..100 {
        let mut permits = grab(&limiter, &TenantQuota::default(), address(1), 10);
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
                let permit = limiter.acquire(&quota, Attempt::EXPECTED, address(host)).await;
                held.lock().unwrap().push((quota, permit));
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let open = held.lock().unwrap().len();
    assert!((256..400).contains(&open), "{open}");
    // One at once while it has not answered, and then as many as any other.
    let healthy = TenantQuota::default();
    assert_eq!(grab(&limiter, &healthy, address(99), 5).len(), 1);
    let mut first = limiter.acquire(&healthy, Attempt::EXPECTED, address(99)).await;
    first.answered();
    let (second, ()) = tokio::join!(limiter.acquire(&healthy, Attempt::EXPECTED, address(99)), async {
        drop(first);
    });
    drop(second);
}

/// Every one of these is asked for at once, and hangs for ten seconds.
fn hang(limiter: &ConnectionLimiter, hanging: impl Iterator<Item = (TenantQuota, Attempt, Destination)>) {
    for (quota, attempt, destination) in hanging {
        let limiter = limiter.clone();
        tokio::spawn(async move {
            let _permit = limiter.acquire(&quota, attempt, destination).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        });
    }
}

fn doubtful(is_overdue: bool) -> Attempt {
    Attempt { kind: AttemptKind::Doubtful, is_overdue }
}

/// How long a service that answers waits for its look-up and its connection.
async fn healthy_wait(limiter: &ConnectionLimiter, destination: Destination) -> Duration {
    let (began, quota) = (Instant::now(), TenantQuota::new(0));
    limiter.look_up(&quota, Attempt::EXPECTED).await.answered();
    limiter.acquire(&quota, Attempt::EXPECTED, destination).await.answered();
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_addresses_that_hung_before_leave_permits_to_those_that_answer() {
    let limiter = limiter();
    let addresses = (0..1_000_u32).map(|n| Destination::Address(std::net::Ipv4Addr::from(n).into()));
    hang(&limiter, addresses.map(|address| (TenantQuota::default(), doubtful(false), address)));
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(limiter.lock().held_slow, 256);
        assert_eq!(healthy_wait(&limiter, address(1)).await, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn look_ups_that_hung_before_leave_permits_to_those_that_are_answered() {
    let limiter = limiter();
    let tenants = (1..=500).map(TenantQuota::new);
    let names = tenants.flat_map(|quota| vec![quota; 20]);
    hang(
        &limiter,
        names.map(|quota| (quota.clone(), doubtful(false), Destination::NameServer(quota.seed()))),
    );
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(healthy_wait(&limiter, address(1)).await, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn among_a_thousand_tenants_whose_services_hang_at_one_address_a_healthy_one_waits_for_nobody() {
    let limiter = limiter();
    let tenants = (0..1_000).map(|_| TenantQuota::default());
    hang(&limiter, tenants.map(|quota| (quota, doubtful(false), address(1))));
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The next pause at the address, or two.
        assert!(healthy_wait(&limiter, address(1)).await <= Duration::from_millis(126));
    }
}

/// A hoster's address, or a machine so busy that an answer takes more than a second.
#[tokio::test(start_paused = true)]
async fn an_address_that_answers_some_is_not_slow_for_those_that_expect_it() {
    let limiter = limiter();
    hang(&limiter, (0..3).map(|_| (TenantQuota::default(), Attempt::EXPECTED, address(1))));
    tokio::task::yield_now().await;
    assert_eq!(healthy_wait(&limiter, address(1)).await, Duration::ZERO);
    let addresses = (0..1_000_u32).map(|n| Destination::Address(std::net::Ipv4Addr::from(n).into()));
    hang(&limiter, addresses.map(|address| (TenantQuota::default(), doubtful(false), address)));
    for _ in 0..20 {
        assert_eq!(healthy_wait(&limiter, address(1)).await, Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_tick_before_did_not_reach_comes_first() {
    let limiter = limiter();
    let reached = (0..500).map(|_| (TenantQuota::default(), doubtful(false), address(1)));
    hang(&limiter, reached);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let began = Instant::now();
    drop(limiter.acquire(&TenantQuota::default(), doubtful(true), address(1)).await);
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_tenants_slow_connections_leave_it_permits_for_its_other_services() {
    let limiter = limiter();
    let quota = TenantQuota::default();
    let hanging = grab(&limiter, &quota, address(1), 50);
    assert_eq!(hanging.len(), 16);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(grab(&limiter, &quota, address(1), 1).len(), 0);
    assert!(!grab(&limiter, &quota, address(2), 1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn next_at_an_address_is_the_tenant_that_has_used_it_least_and_what_it_expects_to_answer() {
    let limits = ConnectionLimits { per_address_at_once: 1, per_address: 1, ..ConnectionLimits::default() };
    let limiter = ConnectionLimiter::new(limits);
    let here = address(1);
    let (greedy, modest) = (TenantQuota::default(), TenantQuota::default());
    let held = limiter.acquire(&greedy, Attempt::EXPECTED, here).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let order = Mutex::new(Vec::new());
    let wait = async |name, quota, kind| {
        let _permit = limiter.acquire(quota, Attempt { kind, is_overdue: false }, here).await;
        order.lock().unwrap().push(name);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    tokio::join!(
        wait("greedy", &greedy, AttemptKind::Expected),
        wait("confirmation", &modest, AttemptKind::Confirmation),
        wait("down", &modest, AttemptKind::Doubtful),
        wait("expected", &modest, AttemptKind::Expected),
        wait("carried", &modest, AttemptKind::Carried),
        async { drop(held) },
    );
    assert_eq!(*order.lock().unwrap(), ["expected", "carried", "down", "confirmation", "greedy"]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_answers_again_is_not_slow_any_more() {
    let limiter = limiter();
    let quota = TenantQuota::default();
    let permits = grab(&limiter, &quota, address(1), 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = limiter.acquire(&TenantQuota::default(), Attempt::EXPECTED, address(1)).await;
    assert_eq!((limiter.lock().held_slow, quota.lock().total()), (4, 3));
    drop(permits);
    assert_eq!((limiter.lock().held_slow, quota.lock().total()), (0, 0));
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_stops_waiting_leaves_nothing_behind() {
    let limiter = ConnectionLimiter::new(ConnectionLimits { total: 1, ..ConnectionLimits::default() });
    let (quota, here) = (TenantQuota::default(), address(1));
    let held = limiter.acquire(&quota, Attempt::EXPECTED, here).await;
    let other = TenantQuota::default();
    assert!(limiter.acquire(&other, Attempt::EXPECTED, here).now_or_never().is_none());
    // This one is granted its permit, and gone before it learns of it.
    let mut gone = Box::pin(limiter.acquire(&quota, Attempt::EXPECTED, here));
    assert!(futures::poll!(&mut gone).is_pending());
    drop(held);
    drop(gone);
    limiter.hand_out();
    let state = limiter.lock();
    assert_eq!((state.free, state.ready.len(), quota.lock().total()), (1, 0, 0));
    assert!(state.destinations.values().all(destination::DestinationState::is_idle));
}
