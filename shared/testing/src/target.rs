//! An endpoint to monitor, whose health a test switches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;

/// What every answer holds, in its body and in a header: nobody may keep or log it.
pub const ANSWERED: &str = "secret-of-the-endpoint";

/// An HTTP server on loopback.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    location: Arc<Mutex<String>>,
}

impl Target {
    /// Starts one that answers 200.
    pub async fn start() -> Self {
        Self::start_at(1).await
    }

    /// Starts one at 127.0.0.`host`: another host as far as anybody can tell.
    pub async fn start_at(host: u8) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), 0)).await.expect("a free port");
        let target = Self {
            address: listener.local_addr().expect("its address"),
            status: Arc::new(AtomicU16::new(200)),
            asked: Arc::default(),
            location: Arc::default(),
        };
        let (status, asked) = (Arc::clone(&target.status), Arc::clone(&target.asked));
        let location = Arc::clone(&target.location);
        let app = Router::new().fallback(async move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let status = StatusCode::from_u16(status.load(Ordering::SeqCst)).expect("a status code");
            let location = location.lock().expect("no test panicked inside").clone();
            (status, [("x-answered", ANSWERED.to_owned()), ("location", location)], ANSWERED)
        });
        tokio::spawn(async { axum::serve(listener, app).await });
        target
    }

    /// A URL of it; different paths are different services.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Answers with this status code from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Answers with a redirect to this URL from now on.
    ///
    /// # Panics
    /// When another test panicked.
    pub fn redirect_to(&self, url: &str) {
        url.clone_into(&mut self.location.lock().expect("no test panicked inside"));
        self.answer(302);
    }

    /// How many requests it has seen.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
