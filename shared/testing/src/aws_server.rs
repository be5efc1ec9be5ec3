//! An AWS endpoint on loopback that answers what a test says, or never: for answers that the local AWS cannot be made
//! to give.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Default)]
struct Exchanges {
    requests: Vec<Value>,
    answers: VecDeque<(u16, Value)>,
    /// Before each answer.
    pause: Duration,
}

/// The endpoint.
#[derive(Clone)]
pub struct AwsServer {
    url: String,
    settings: SdkConfig,
    exchanges: Arc<Mutex<Exchanges>>,
}

impl AwsServer {
    /// Starts one that gives these answers (status and JSON) in order, the last one again and again, and none at all
    /// without any.
    pub async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let answers = answers.into_iter().collect();
        let exchanges = Arc::new(Mutex::new(Exchanges { answers, ..Exchanges::default() }));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&exchanges));
        tokio::spawn(async { axum::serve(listener, app).await });
        let nobody = Credentials::new("local", "local", None, None, "a test");
        let settings = aws::client::settings().await.into_builder();
        let settings = settings.credentials_provider(SharedCredentialsProvider::new(nobody));
        Self { url, settings: settings.region(Region::from_static("us-east-1")).build(), exchanges }
    }

    /// One that answers every call with this error code, in the way of AWS's JSON protocols.
    pub async fn refusing(code: &str) -> Self {
        Self::start([(400, json!({ "__type": code, "message": "as a test wants it" }))]).await
    }

    /// The same, which takes so long for each answer.
    #[must_use]
    pub fn pausing(self, pause: Duration) -> Self {
        self.exchanges.lock().expect("no test panicked inside").pause = pause;
        self
    }

    /// A client as deployed, time-outs and retries included. Only the service's own endpoint outdoes the environment's.
    #[must_use]
    pub fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.settings).endpoint_url(&self.url);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// See [`AwsServer::dynamo`].
    #[must_use]
    pub fn kms(&self) -> aws_sdk_kms::Client {
        let config = aws_sdk_kms::config::Builder::from(&self.settings).endpoint_url(&self.url);
        aws_sdk_kms::Client::from_conf(config.build())
    }

    /// See [`AwsServer::dynamo`].
    #[must_use]
    pub fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        let config = aws_sdk_eventbridge::config::Builder::from(&self.settings).endpoint_url(&self.url);
        aws_sdk_eventbridge::Client::from_conf(config.build())
    }

    /// The bodies of the requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        self.exchanges.lock().expect("no test panicked inside").requests.clone()
    }
}

async fn answer(State(exchanges): State<Arc<Mutex<Exchanges>>>, body: Bytes) -> impl IntoResponse {
    let (answer, pause) = {
        let mut exchanges = exchanges.lock().expect("no test panicked inside");
        exchanges.requests.push(serde_json::from_slice(&body).unwrap_or_default());
        let answer = match exchanges.answers.len() {
            0 | 1 => exchanges.answers.front().cloned(),
            _ => exchanges.answers.pop_front(),
        };
        (answer, exchanges.pause)
    };
    tokio::time::sleep(pause).await;
    let Some((status, body)) = answer else { std::future::pending().await };
    let status = StatusCode::from_u16(status).expect("a status code");
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string())
}
