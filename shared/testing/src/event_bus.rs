//! An EventBridge on loopback that keeps what it takes, and refuses what a test says: what the local AWS has taken cannot be
//! read back.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Default)]
struct Bus {
    /// The type of each event, and its detail.
    taken: Vec<(String, Value)>,
    refused: Vec<String>,
}

/// The bus. Clones share what was taken.
#[derive(Clone)]
pub struct EventBridge {
    url: String,
    bus: Arc<Mutex<Bus>>,
}

impl EventBridge {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let bus = Arc::<Mutex<Bus>>::default();
        let app = Router::new().fallback(put_events).with_state(Arc::clone(&bus));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { url, bus }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on refuses entries of these types, and no others.
    pub fn refuse(&self, detail_types: &[&str]) {
        self.bus.lock().expect("no test panicked inside").refused =
            detail_types.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The details of the events of this type, in order.
    #[must_use]
    pub fn published(&self, detail_type: &str) -> Vec<Value> {
        let bus = self.bus.lock().expect("no test panicked inside");
        bus.taken.iter().filter(|(name, _)| name == detail_type).map(|(_, detail)| detail.clone()).collect()
    }

    /// Forgets what was published.
    pub fn clear(&self) {
        self.bus.lock().expect("no test panicked inside").taken.clear();
    }
}

async fn put_events(State(bus): State<Arc<Mutex<Bus>>>, body: Bytes) -> impl IntoResponse {
    let mut bus = bus.lock().expect("no test panicked inside");
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    let mut answers = Vec::new();
    for entry in request["Entries"].as_array().expect("entries") {
        let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
        let detail_type = text("DetailType");
        if bus.refused.contains(&detail_type) {
            answers.push(json!({ "ErrorCode": "InternalFailure", "ErrorMessage": "refused by a test" }));
        } else {
            bus.taken.push((detail_type, serde_json::from_str(&text("Detail")).expect("JSON")));
            answers.push(json!({ "EventId": "11111111-2222-4333-8444-555555555555" }));
        }
    }
    let failed = answers.iter().filter(|answer| answer["ErrorCode"].is_string()).count();
    let answer = json!({ "FailedEntryCount": failed, "Entries": answers });
    ([("content-type", "application/x-amz-json-1.1")], answer.to_string())
}
