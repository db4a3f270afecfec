//! A server of a set of keys, on a socket of loopback, that answers as the test says. Its connections are threads, so that nothing
//! of it waits for what is tested.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::signing::openssl;

/// What a connection gets, once it has asked.
#[derive(Clone)]
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// The beginning of an answer, then more and more of this without end.
    Endless(Vec<u8>, Vec<u8>),
    /// The connection is closed.
    Hangup,
    /// Nothing.
    Silence,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::text(&value.to_string())
    }

    pub(crate) fn text(body: &str) -> Self {
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into())
    }

    pub(crate) fn status(status: u16) -> Self {
        Answer::Bytes(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into())
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Answer::Bytes(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into())
    }
}

pub(crate) struct Endpoint {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    /// The certificate to trust; `None`: it speaks no TLS.
    pub certificate: Option<CertificateDer<'static>>,
}

struct Shared {
    answer: Mutex<Answer>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// What was asked last.
    asked: Mutex<String>,
}

impl Endpoint {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::serve(answer, None)
    }

    /// The same over TLS, with a certificate for localhost.
    pub(crate) fn start_encrypted(answer: Answer) -> Self {
        let made = openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout - -out - -subj /CN=localhost -addext \
             subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
            "",
        );
        let certificate = CertificateDer::from_pem_slice(made.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut endpoint = Self::serve(answer, Some(Arc::new(config)));
        endpoint.certificate = Some(certificate);
        endpoint
    }

    fn serve(answer: Answer, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let answering = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared, tls) = (stream.unwrap(), answering.clone(), tls.clone());
                shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || match tls {
                    None => shared.answer(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        shared.answer(StreamOwned::<_, TcpStream>::new(connection, stream));
                    }
                });
            }
        });
        Endpoint { address, scheme, shared, certificate: None }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}/keys?v=1", self.scheme, self.address.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> String {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Shared {
    /// Whoever asks goes away when it wants, so no write or read has to succeed.
    fn answer(&self, mut stream: impl Read + Write) {
        let (mut asked, mut byte) = (Vec::new(), [0]);
        while !asked.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => asked.push(byte[0]),
                _ => return,
            }
        }
        *self.asked.lock().unwrap() = String::from_utf8(asked).unwrap();
        let answer = self.answer.lock().unwrap().clone();
        self.requests.fetch_add(1, Ordering::SeqCst);
        match answer {
            Answer::Hangup => {}
            Answer::Silence => drop(stream.read(&mut byte)),
            Answer::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                let _ = stream.read(&mut byte);
            }
            Answer::Endless(head, more) => {
                let _ = stream.write_all(&head);
                while stream.write_all(&more).and_then(|()| stream.flush()).is_ok() {}
            }
        }
    }
}
