//! A state that is entered or left is told by webhook and by NOTIFY, once each, with what mends it; a webhook that is out of order for a
//! moment is told all the same.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, NoTls};
use waldelta_testkit::{Service, wait_until};

use crate::setting::{PATIENCE, Setting, config_file};
use crate::stops::{recover, stopped, streaming};

/// What came, each with its head.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

/// A webhook that is out of order for the first request.
async fn webhook(tasks: &mut JoinSet<()>) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?of=test", listener.local_addr().unwrap());
    let heard = Heard::default();
    let told = heard.clone();
    tasks.spawn(async move {
        let mut requests = 0;
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            let (head, body) = loop {
                socket.read_buf(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                if let Ok(body) = serde_json::from_str::<Value>(body) {
                    break (head.to_ascii_lowercase(), body);
                }
            };
            requests += 1;
            let status = if requests == 1 { "503 Service Unavailable" } else { "204 No Content" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            told.lock().unwrap().push((head, body));
        }
    });
    (url, heard)
}

/// Listens in history's database.
async fn listener(setting: &Setting, channel: &str, tasks: &mut JoinSet<()>) -> Arc<Mutex<Vec<Value>>> {
    let (client, mut connection) = tokio_postgres::connect(setting.history.url(), NoTls).await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    tasks.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                told.lock().unwrap().push(serde_json::from_str(notification.payload()).unwrap());
            }
        }
    });
    client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
    // It ends with its client.
    std::mem::forget(client);
    heard
}

/// What was told of capture, in order.
fn of_capture(all: &[Value]) -> Vec<String> {
    let of_capture = all.iter().filter(|notice| notice["of"] == "capture");
    of_capture
        .map(|notice| format!("{} {}", notice["event"].as_str().unwrap(), notice["name"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_stop_and_its_end_are_told_once_each() {
    let mut setting = Setting::new("notify", "CREATE TABLE item (id int PRIMARY KEY)").await;
    let mut tasks = JoinSet::new();
    let (url, hooked) = webhook(&mut tasks).await;
    let token = config_file("a-token\n");
    let config = config_file(&format!(
        "[notify]\nwebhook_url = '{url}'\nwebhook_token_file = '{}'\nchannel = 'told'\n",
        token.path()
    ));
    setting.service.stop().await;
    let notified = listener(&setting, "told", &mut tasks).await;
    let slot = setting.source.slot("slot");
    setting.source.exec(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    setting.service = Service::spawn(config.add_to(setting.run_options()));
    wait_until("the service listens", PATIENCE, async || setting.service.is_listening().await).await;
    stopped(&setting, "slot_missing", "WD-SLOT-MISSING").await;
    wait_until("both are told", PATIENCE, async || {
        hooked.lock().unwrap().len() >= 2 && !notified.lock().unwrap().is_empty()
    })
    .await;
    recover(&setting);
    streaming(&setting).await;
    let expected = ["entered slot_missing", "left slot_missing"];
    wait_until("both are told that it is over", PATIENCE, async || {
        let bodies: Vec<Value> =
            hooked.lock().unwrap().iter().skip(1).map(|(_, body)| body.clone()).collect();
        of_capture(&bodies) == expected && of_capture(&notified.lock().unwrap()) == expected
    })
    .await;

    let hooked = hooked.lock().unwrap();
    let (head, notice) = &hooked[1];
    assert!(
        head.starts_with("post /hook?of=test http/1.1") && head.contains("authorization: bearer a-token"),
        "{head}"
    );
    assert_eq!(notice, &hooked[0].1, "it was tried again");
    assert_eq!(
        (&notice["severity"], &notice["code"]),
        (&"critical".into(), &"WD-SLOT-MISSING".into()),
        "{notice}"
    );
    for member in ["message", "fix", "instance", "at"] {
        assert!(notice[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {notice}");
    }
    assert!(!setting.service.log().contains("a-token"));
}
