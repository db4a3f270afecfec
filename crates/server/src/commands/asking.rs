//! Asking a running service for something that it says as JSON.

use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waldelta_wal::Code;

use super::reach;
use crate::cli::{BearerToken, ServiceOptions};
use crate::failure::Failure;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A status with ten thousand sessions has about 2 MB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A service, and as whom it is asked.
pub(super) struct Asking<'a> {
    options: &'a ServiceOptions,
    authorization: Option<String>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(options: &'a ServiceOptions) -> anyhow::Result<Self> {
        let authorization = options.token.as_ref().map(BearerToken::authorization).transpose()?.flatten();
        Ok(Asking { options, authorization })
    }

    /// What it answers on this path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = self.options.url.as_str();
        let (status, body) = self.in_time(path).await?;
        if status != "200" {
            return Err(refused(url, &status, &body));
        }
        serde_json::from_str(&body).map_err(|error| unreachable(url, &error.to_string()))
    }

    /// Whether it answers 200 there, and what it says.
    pub(super) async fn probe(&self, path: &str) -> anyhow::Result<(bool, String)> {
        let (status, body) = self.in_time(path).await?;
        Ok((status == "200", body))
    }

    async fn in_time(&self, path: &str) -> anyhow::Result<(String, String)> {
        let url = self.options.url.as_str();
        tokio::time::timeout(ANSWER_TIMEOUT, self.ask(path))
            .await
            .map_err(|_| unreachable(url, "no answer in time"))?
            .map_err(|error| unreachable(url, &format!("{error:#}")))
    }

    /// One GET over HTTP/1.0, which ends with the connection: all that asking a service takes. The answer's status
    /// and body.
    async fn ask(&self, path: &str) -> anyhow::Result<(String, String)> {
        let ServiceOptions { url, ca_file, .. } = self.options;
        let (mut socket, authority) = reach::connect(url, ca_file.as_deref()).await?;
        let authorization = self.authorization.as_ref();
        let authorization =
            authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n{authorization}\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
        let status = head.split(' ').nth(1).context("the answer is not HTTP")?;
        Ok((status.to_owned(), body.to_owned()))
    }
}

fn unreachable(url: &str, why: &str) -> anyhow::Error {
    Failure::error(Code::ServiceUnreachable, format!("ask {url}: {why}"))
}

/// What the service says where it does not answer: the code that it gives, if it is one of ours.
fn refused(url: &str, status: &str, body: &str) -> anyhow::Error {
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let code = Code::ALL.iter().find(|code| problem["code"] == code.as_str());
    match code {
        Some(code) => Failure::error(*code, format!("ask {url}: HTTP {status}")),
        None => unreachable(url, &format!("HTTP {status}")),
    }
}
