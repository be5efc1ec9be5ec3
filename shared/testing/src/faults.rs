//! Faults of AWS at one chosen operation, in each way that AWS fails, and races: something else that happens right before
//! one. An interceptor of the SDK's clients ([`LocalAws::with_faults`](crate::aws::LocalAws::with_faults)), so everything above the
//! network is real. Operations have the SDK's names.

use std::fmt;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeSerializationInterceptorContextRef,
    BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use axum::Router;
use axum::http::StatusCode;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Nothing listens there.
const CLOSED_PORT: &str = "http://127.0.0.1:1/";

/// How an operation fails: all attempts that the SDK makes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// AWS cannot be reached: nothing is done.
    NotSent,
    /// Access is denied: nothing is done.
    Refused,
    /// Carried out, and the answer is lost.
    LostAnswer,
    /// Nothing is done, and no attempt is answered. The SDK gives the operation up after ten seconds.
    Hang,
}

impl Fault {
    /// All that have an end of their own.
    pub const ALL: [Self; 3] = [Self::NotSent, Self::Refused, Self::LostAnswer];
}

/// The operations of one function, in order over all its clients, and which of them fails. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    at: Option<(usize, Injection)>,
    operations: Mutex<Vec<String>>,
    race: Mutex<Option<Race>>,
}

/// What happens to every attempt of an operation.
#[derive(Debug, Clone)]
enum Injection {
    /// It goes to this endpoint instead of AWS.
    Redirect(Arc<Endpoint>),
    /// AWS carries it out, and its answer is replaced by an error.
    LostAnswer,
}

impl Storable for Injection {
    type Storer = StoreReplace<Self>;
}

#[derive(Debug)]
struct Endpoint {
    url: String,
    /// Takes connections as long as it is there, and reads nothing.
    _silent: Option<TcpListener>,
}

/// What happens before the `nth` operation of a name.
struct Race {
    operation: &'static str,
    nth: usize,
    what: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "something before {} {}", self.operation, self.nth)
    }
}

impl Faults {
    /// None: for counting.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The operation of this index, from 0, fails like this. Needs a runtime.
    #[must_use]
    pub fn at(index: usize, fault: Fault) -> Self {
        let injection = match fault {
            Fault::NotSent => {
                Injection::Redirect(Arc::new(Endpoint { url: CLOSED_PORT.to_owned(), _silent: None }))
            }
            Fault::Refused => Injection::Redirect(Arc::new(refusing())),
            Fault::Hang => {
                let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
                Injection::Redirect(Arc::new(Endpoint { url: url_of(&silent), _silent: Some(silent) }))
            }
            Fault::LostAnswer => Injection::LostAnswer,
        };
        Self(Arc::new(Shared { at: Some((index, injection)), ..Shared::default() }))
    }

    /// No operation fails, and `what` happens right before the `nth` one of this name, from 0. The test's runtime must have
    /// several threads: this one waits for `what`.
    #[must_use]
    pub fn before(
        operation: &'static str,
        nth: usize,
        what: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let race = Race { operation, nth, what: Box::pin(what) };
        Self(Arc::new(Shared { race: Mutex::new(Some(race)), ..Shared::default() }))
    }

    /// The names of the operations so far.
    #[must_use]
    pub fn operations(&self) -> Vec<String> {
        self.0.operations.lock().expect("no test panicked inside").clone()
    }

    fn race(&self, operation: &str) -> Option<Race> {
        let before = self.operations().iter().filter(|done| *done == operation).count();
        let mut race = self.0.race.lock().expect("no test panicked inside");
        race.take_if(|race| race.operation == operation && race.nth == before)
    }
}

impl Intercept for Faults {
    fn name(&self) -> &'static str {
        "Faults"
    }

    /// Once per operation.
    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        operation: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let name = operation.load::<Metadata>().ok_or("an operation without a name")?.name().to_owned();
        if let Some(race) = self.race(&name) {
            block_in_place(|| Handle::current().block_on(race.what));
        }
        let mut operations = self.0.operations.lock().expect("no test panicked inside");
        if let Some((at, injection)) = &self.0.at
            && *at == operations.len()
        {
            operation.interceptor_state().store_put(injection.clone());
        }
        operations.push(name);
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        attempt: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        operation: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Injection::Redirect(endpoint)) = operation.load::<Injection>() {
            attempt.request_mut().set_uri(endpoint.url.clone())?;
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        attempt: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        operation: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Injection::LostAnswer) = operation.load::<Injection>() {
            let body = SdkBody::from(r#"{"__type":"InternalServerError","message":"lost by a test"}"#);
            *attempt.response_mut() = HttpResponse::new(500.try_into()?, body);
        }
        Ok(())
    }
}

/// Answers everything as IAM does when a permission is missing.
fn refusing() -> Endpoint {
    const REFUSAL: &str = r#"{"__type":"AccessDeniedException","message":"refused by a test"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = url_of(&listener);
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
    let app = Router::new().fallback(async || (StatusCode::BAD_REQUEST, REFUSAL));
    tokio::spawn(async { axum::serve(listener, app).await });
    Endpoint { url, _silent: None }
}

fn url_of(listener: &TcpListener) -> String {
    format!("http://{}/", listener.local_addr().expect("its address"))
}
