//! A TCP server that does exactly what a test says, and remembers what it was asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Hands every connection to `session`.
    pub(crate) async fn running<S, F>(session: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::running_at(([127, 0, 0, 1], 0).into(), session).await
    }

    /// The same at a certain address.
    pub(crate) async fn running_at<S, F>(at: SocketAddr, session: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(session(stream));
            }
        });
        Self { at, connections, requests: Arc::default(), task }
    }

    /// Answers a request for a path with the bytes of `answer(path)`, then closes.
    pub(crate) async fn routing(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let heads = Arc::clone(&requests);
        let session = move |mut stream: TcpStream| {
            let (answer, heads) = (Arc::clone(&answer), Arc::clone(&heads));
            async move {
                let head = read_head(&mut stream).await;
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                heads.lock().unwrap().push(head);
                write_and_close(&mut stream, &answer(&path)).await;
            }
        };
        let mut server = Self::running(session).await;
        server.requests = requests;
        server
    }

    /// The same answer to everything.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::routing(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    /// The URL under another name.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.at.port())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The head of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// `GET /path` of every request so far.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let short = |head: &String| head.split(" HTTP/").next().unwrap_or_default().to_owned();
        self.requests().iter().map(short).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A whole answer with `Content-Length`.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(crate) fn redirect(status: &str, location: &str) -> Vec<u8> {
    answer(status, &format!("Location: {location}\r\n"), "")
}

/// Reads up to the empty line, or to the end.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Writes what the client takes and waits until it has hung up, so that nothing is lost in a reset.
pub(crate) async fn write_and_close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let written = stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok();
    if written {
        drained(stream).await;
    }
}

/// Ends when the client has hung up.
pub(crate) async fn drained(stream: &mut (impl AsyncRead + Unpin)) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}
