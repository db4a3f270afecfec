//! A POST of JSON to a URL that an operator named, tried again for a while.

use std::time::Duration;

use anyhow::Context;
use axum::http::{Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::config::NotifyConfig;

/// Pauses before each try.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];
/// One try may take this long.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, String>,
    url: String,
    /// Sent as a bearer's, where there is one.
    token: Option<String>,
}

impl Webhook {
    /// `None`: no URL is named.
    pub(super) fn new(config: &NotifyConfig) -> anyhow::Result<Option<Self>> {
        if config.webhook_url.is_empty() {
            return Ok(None);
        }
        let connector = HttpsConnectorBuilder::new()
            .try_with_platform_verifier()
            .context("prepare TLS for the webhook")?
            .https_or_http()
            .enable_http1()
            .build();
        let token = config.token()?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Some(Webhook { client, url: config.webhook_url.clone(), token }))
    }

    /// Delivers it, or says why it was given up.
    pub(super) async fn deliver(&self, body: String) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            outcome = match tokio::time::timeout(TIMEOUT, self.post(body.clone())).await {
                Ok(Ok(status)) if status.is_success() => return Ok(()),
                Ok(Ok(status)) => {
                    let failed = Err(anyhow::anyhow!("the webhook answers with status {status}"));
                    if !is_worth_another_try(status) {
                        return failed;
                    }
                    failed
                }
                Ok(Err(error)) => Err(error),
                Err(elapsed) => Err(anyhow::Error::new(elapsed).context("ask the webhook")),
            };
        }
        outcome
    }

    async fn post(&self, body: String) -> anyhow::Result<StatusCode> {
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("waldelta/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).context("write a request to the webhook")?;
        // The URL is not told: it may have a secret in it.
        let answer = self.client.request(request).await.context("ask the webhook")?;
        Ok(answer.status())
    }
}

/// Whoever says that the request is wrong will say so again.
fn is_worth_another_try(status: StatusCode) -> bool {
    !status.is_client_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}
