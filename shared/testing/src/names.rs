//! A name server that answers what a test says, and counts the questions.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the name server does with one question.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Those addresses that fit the type of the question; none is an empty answer.
    Addresses(Vec<IpAddr>),
    /// `NXDOMAIN`.
    NoSuchName,
    /// `SERVFAIL`.
    ServerFailure,
    /// None.
    Silence,
    /// Addresses after a while.
    Late(Duration, Vec<IpAddr>),
}

/// Addresses from texts.
///
/// # Panics
/// When a text is no address.
#[must_use]
pub fn addresses(texts: &[&str]) -> Reply {
    Reply::Addresses(texts.iter().map(|text| text.parse().expect("a working name server")).collect())
}

/// A name server on loopback.
#[derive(Debug)]
pub struct NameServer {
    /// Its address.
    pub at: SocketAddr,
    questions: Arc<Mutex<Vec<(String, RecordType)>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// `reply(name, n)` answers the n-th question (from 0) for addresses.
    pub async fn replying(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a working name server"));
        let at = socket.local_addr().expect("a working name server");
        let questions: Arc<Mutex<Vec<(String, RecordType)>>> = Arc::default();
        let log = Arc::clone(&questions);
        let task = tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut packet).await {
                let question = Message::from_vec(&packet[..length]).expect("a working name server");
                let name = question.queries[0].name().to_string().to_ascii_lowercase();
                let kind = question.queries[0].query_type();
                let count = {
                    let mut log = log.lock().expect("a working name server");
                    log.push((name.clone(), kind));
                    log.len() - 1
                };
                let (delay, message) = match reply(name.trim_end_matches('.'), count) {
                    Reply::Addresses(ips) => (Duration::ZERO, with_addresses(&question, &ips)),
                    Reply::Late(delay, ips) => (delay, with_addresses(&question, &ips)),
                    Reply::NoSuchName => (Duration::ZERO, with_code(&question, ResponseCode::NXDomain)),
                    Reply::ServerFailure => (Duration::ZERO, with_code(&question, ResponseCode::ServFail)),
                    Reply::Silence => continue,
                };
                let socket = Arc::clone(&socket);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    socket
                        .send_to(&message.to_vec().expect("a working name server"), client)
                        .await
                        .expect("a working name server");
                });
            }
        });
        Self { at, questions, task }
    }

    /// The same addresses for every name.
    pub async fn answering(texts: &[&str]) -> Self {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        Self::replying(move |_, _| addresses(&texts.iter().map(String::as_str).collect::<Vec<_>>())).await
    }

    /// The address that `address` gives each name, or no such name.
    pub async fn of(address: impl Fn(&str) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self::replying(move |name, _| {
            address(name).map_or(Reply::NoSuchName, |ip| Reply::Addresses(vec![ip]))
        })
        .await
    }

    /// The questions so far.
    ///
    /// # Panics
    /// When a test panicked inside.
    #[must_use]
    pub fn questions(&self) -> Vec<(String, RecordType)> {
        self.questions.lock().expect("a working name server").clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn with_code(question: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(question.queries.clone());
    message
}

fn with_addresses(question: &Message, ips: &[IpAddr]) -> Message {
    let mut message = with_code(question, ResponseCode::NoError);
    let query = &question.queries[0];
    let fitting = ips.iter().filter(|ip| ip.is_ipv4() == (query.query_type() == RecordType::A));
    message.add_answers(fitting.map(|&ip| Record::from_rdata(query.name().clone(), 300, RData::from(ip))));
    message
}
