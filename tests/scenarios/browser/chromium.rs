//! A headless Chromium with one page, driven over the DevTools protocol. Everything that it keeps is in a folder that goes
//! with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use waldelta_testkit::{ConnectOptions, WsClient, wait_until};

use crate::setting::PATIENCE;

/// A browser in a container's sandbox, without what it does in the background by itself.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
];

/// A page in a browser of its own. Dropping it ends the browser.
pub struct Page {
    process: Child,
    folder: PathBuf,
    socket: WsClient,
    session: String,
    /// Of the last command.
    id: u64,
}

impl Page {
    /// Starts a browser with an empty page.
    pub async fn open(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("waldelta-browser-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let process = Command::new("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .envs(["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR"].map(|variable| (variable, &folder)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("run chromium (scripts/install-test-deps installs it): {error}"));
        let socket = connect(&folder.join("profile/DevToolsActivePort")).await;
        let mut page = Page { process, folder, socket, session: String::new(), id: 0 };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].as_str().unwrap().to_owned();
        page
    }

    /// Goes to another page. What it then shows has to be waited for.
    pub async fn go_to(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert_eq!(answer["errorText"], Value::Null, "{url}: {answer}");
    }

    /// Loads the page again.
    pub async fn reload(&mut self) {
        self.call("Page.reload", json!({})).await;
    }

    /// Gives it another size, and light or dark.
    pub async fn resize(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// All of the page, as a PNG.
    pub async fn screenshot(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// The value of a JavaScript expression; null while the page is changing.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let answer =
            self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true})).await;
        answer["result"].get("value").cloned().unwrap_or_default()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut command = json!({"id": self.id, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.socket.send(&command).await;
        loop {
            let message = self.socket.next_json(PATIENCE).await;
            if message["id"] == self.id {
                // Whoever asks while the page goes away is told so; the next one is asked of the page that comes.
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its helpers end by themselves when it is gone, and may still write something.
        let removed = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::remove_dir_all(&self.folder).is_ok()
        });
        assert!(removed || std::thread::panicking(), "{} is still in use", self.folder.display());
    }
}

/// Connects to the browser as soon as it has said where: port and path, a line each.
async fn connect(told: &Path) -> WsClient {
    let where_it_is = || {
        let text = std::fs::read_to_string(told).unwrap_or_default();
        let (port, path) = text.trim().split_once('\n')?;
        Some(format!("ws://127.0.0.1:{port}{path}"))
    };
    wait_until("the browser runs", PATIENCE, async || where_it_is().is_some()).await;
    let url = where_it_is().unwrap();
    let options = ConnectOptions { subprotocol: None, ..ConnectOptions::default() };
    WsClient::try_connect(&url, &options).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}
