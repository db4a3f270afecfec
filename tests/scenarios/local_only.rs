//! Without authentication the service is for this machine: no other address, and no web page from elsewhere, not even one
//! whose host name was made to point here.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setting::Setting;

const PATHS: [&str; 6] = ["/", "/v1/status", "/v1/changes", "/metrics", "/readyz", "/livez"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_from_elsewhere_reads_nothing() {
    let setting = Setting::new("local", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let port = setting.service.port();
    for path in PATHS {
        assert_eq!(status(port, path, "Host: localhost").await, 200, "{path}");
        assert_eq!(status(port, path, &format!("Host: 127.0.0.1:{port}")).await, 200, "{path}");
        assert_eq!(status(port, path, "Host: rebound.example.com").await, 403, "{path}");
        let elsewhere = "Host: localhost\r\nOrigin: https://example.com";
        assert_eq!(status(port, path, elsewhere).await, 403, "{path}");
    }
}

async fn status(port: u16, path: &str, headers: &str) -> u16 {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.0\r\n{headers}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{path}: {answer}"))
}
