//! `waldelta tail`: changes as they commit, for people and for pipes.
//!
//! It is an ordinary client: it resumes by cursor after a lost connection and so shows nothing twice and misses nothing. What it
//! cannot read, or cannot go on from, ends it: the same would come again. It asks a running service, or with `--direct` a client
//! side of its own.

mod change;
mod direct;
mod pause;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::Style;
use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_util::either::Either;
use waldelta_wal::Code;

use self::change::{Change, Changes, Rows, row_text};
use self::direct::Direct;
use self::pause::Pause;
use super::progress::Progress;
use super::{answer, reach};
use crate::cli::TailOptions;
use crate::failure::{Failure, code_of};
use crate::human::{BAD, FAINT, GOOD, WARNING, styled};

/// Three heartbeats and a little: a connection that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Follows until interrupted, until `--limit` is reached, or until the service says that it must not come back.
pub(crate) async fn run(options: &TailOptions) -> anyhow::Result<ExitCode> {
    let mut follower = Follower {
        options,
        client_id: format!("tail-{}", std::process::id()),
        cursor: options.after.clone(),
        transactions_left: options.limit.unwrap_or(u64::MAX),
        shapes: HashMap::new(),
        takes_resets: false,
        pause: Pause::new(),
        direct: None,
        rows: None,
    };
    if options.direct {
        follower.direct = Some(Direct::open(&options.options).await?);
    }
    let mut reached_once = false;
    loop {
        let pause = match follower.connection(&mut reached_once).await {
            Ok(Next::Done) => return Ok(ExitCode::SUCCESS),
            // The same again would end the same way.
            Ok(Next::Ended(error)) => return Err(error),
            Ok(Next::Reconnect(close)) => {
                let pause = follower.pause.take(close.retry());
                let (close, reason) = (close.code, close.reason);
                tracing::warn!(close, reason, ?pause, "the service ended the connection; coming back");
                pause
            }
            Err(error) if !reached_once => return Err(error),
            Err(error) => {
                let pause = follower.pause.take(None);
                let code = code_of(&error).map(Code::as_str);
                tracing::warn!(code, error = format!("{error:#}"), ?pause, "connection lost; resuming");
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Follower<'a> {
    options: &'a TailOptions,
    client_id: String,
    cursor: Option<String>,
    transactions_left: u64,
    /// The shapes printed, by table: each connection tells them anew.
    shapes: HashMap<String, Value>,
    /// It was let go because a table is reset: now it takes the snapshot that comes with that, to go on from its cursor.
    takes_resets: bool,
    /// Before it connects again.
    pause: Pause,
    /// Where it asks no service.
    direct: Option<Direct>,
    /// How many rows of a snapshot have come, where they are not shown on the terminal themselves.
    rows: Option<(Progress, u64)>,
}

enum Next {
    Done,
    Reconnect(Close),
    Ended(anyhow::Error),
}

/// How the service ended a connection.
struct Close {
    code: u16,
    reason: String,
}

impl Close {
    /// 1006: it just ended (RFC 6455, section 7.1.5).
    fn without_words() -> Self {
        Close { code: 1006, reason: String::new() }
    }

    /// When to come back, where that is said.
    fn retry(&self) -> Option<Duration> {
        let reason: Value = serde_json::from_str(&self.reason).ok()?;
        reason["retry_ms"].as_u64().map(Duration::from_millis)
    }
}

impl Follower<'_> {
    /// One connection from hello to its end.
    async fn connection(&mut self, reached: &mut bool) -> anyhow::Result<Next> {
        let unreachable = |error: anyhow::Error| {
            let url = &self.options.service.url;
            Failure::error(Code::ServiceUnreachable, format!("connect to {url}: {error:#}"))
        };
        let (connection, authority) = match &mut self.direct {
            Some(direct) => (Either::Left(direct.connect()), direct::AUTHORITY),
            None => {
                let service = &self.options.service;
                let reached_it = reach::connect(&service.url, service.ca_file.as_deref()).await;
                let (connection, authority) = reached_it.map_err(unreachable)?;
                (Either::Right(connection), authority)
            }
        };
        let mut request =
            format!("ws://{authority}/v1/stream").into_client_request().context("make the request")?;
        request.headers_mut().insert("sec-websocket-protocol", "waldelta.v1.json".parse()?);
        if let Some(token) = &self.options.service.token
            && let Some(authorization) = token.authorization()?
        {
            // Words that hold the value would be shown.
            let mut value =
                HeaderValue::from_str(&authorization).map_err(|_| anyhow::anyhow!("read the token"))?;
            value.set_sensitive(true);
            request.headers_mut().insert("authorization", value);
        }
        let upgraded = tokio_tungstenite::client_async(request, connection).await;
        let (mut socket, _) = upgraded.map_err(|error| unreachable(error.into()))?;
        *reached = true;
        socket.send(Message::text(self.hello().to_string())).await.context("say hello")?;
        loop {
            let message =
                tokio::time::timeout(SILENCE_MAX, socket.next()).await.context("the service is silent")?;
            match message {
                None => return Ok(Next::Reconnect(Close::without_words())),
                Some(Err(error)) => return Err(error).context("read"),
                Some(Ok(Message::Text(text))) => {
                    if let Err(error) = self.frame(text.as_str()) {
                        return Ok(Next::Ended(error));
                    }
                    if self.transactions_left == 0 {
                        // The answer to a close does not matter any more.
                        socket.close(None).await.ok();
                        return Ok(Next::Done);
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let close = close.map_or(Close { code: 1005, reason: String::new() }, |close| Close {
                        code: close.code.into(),
                        reason: close.reason.to_string(),
                    });
                    return match close.code {
                        1000 => Ok(Next::Done),
                        4410 if !self.takes_resets && self.cursor.is_some() => {
                            self.takes_resets = true;
                            Ok(Next::Reconnect(close))
                        }
                        4400..=4406 | 4409 | 4410 | 4413 => {
                            let Close { code, reason } = close;
                            Ok(Next::Ended(anyhow::anyhow!("the service ended it: {code} {reason}")))
                        }
                        _ => Ok(Next::Reconnect(close)),
                    };
                }
                Some(Ok(_)) => {}
            }
        }
    }

    fn hello(&self) -> Value {
        let TailOptions { named, tables, filter, old, diff, .. } = self.options;
        let tables = if named.is_empty() { tables } else { named };
        let subscription = |(number, table): (usize, &String)| {
            let mut subscription = json!({"id": format!("s{number}"), "table": table, "old": *old || *diff});
            if let Some(filter) = filter {
                subscription["where"] = filter.as_str().into();
            }
            subscription
        };
        let subscriptions: Vec<Value> = (1..).zip(tables).map(subscription).collect();
        json!({
            "type": "hello",
            "client_id": self.client_id,
            "after": self.cursor,
            "snapshot": self.takes_resets || self.options.snapshot && self.cursor.is_none(),
            "own_changes": "include",
            "subscriptions": subscriptions,
        })
    }

    /// Shows a frame, and takes note of where it leads.
    ///
    /// # Errors
    /// Where it cannot be read, shown, or gone on from: it would be the same another time.
    fn frame(&mut self, text: &str) -> anyhow::Result<()> {
        let frame: Value = serde_json::from_str(text).map_err(unreadable)?;
        let kind = frame["type"].as_str().unwrap_or_default();
        self.count(kind, &frame);
        match kind {
            _ if self.options.json => answer(text)?,
            // Rows that nobody asked for: of a table that was reset.
            "snapshot_begin" | "rows" | "snapshot_end" if !self.options.snapshot => {}
            "schema" if self.is_news(&frame) => answer(styled(FAINT, shape_text(&frame)))?,
            "schema" => {}
            _ => self.show(kind, &frame, text)?,
        }
        // Inside a snapshot there is nothing to resume from yet.
        let ends_something = matches!(kind, "snapshot_end" | "live" | "heartbeat")
            || (kind == "tx" && frame["last"].as_bool().unwrap_or(true));
        if ends_something {
            self.cursor = frame["cursor"].as_str().map(str::to_owned).or_else(|| self.cursor.take());
        }
        match kind {
            "live" => self.pause.begin_again(),
            // Without a snapshot it begins here: a connection lost before the first change must not skip that one.
            "welcome" if frame["mode"] == "resume" && self.cursor.is_none() => {
                self.cursor = frame["head"].as_str().map(str::to_owned);
            }
            // The cursor stays where the stream is.
            "reset" if frame["tables"].is_array() => {}
            "reset" if self.takes_resets => {
                let why = format!("the service cannot go on from the cursor: {}", frame["reason"]);
                return Err(Failure::error(Code::CursorNotResumable, why));
            }
            "reset" => self.cursor = None,
            _ => {}
        }
        if kind == "tx" && ends_something {
            self.transactions_left -= 1;
        }
        Ok(())
    }
}

impl Follower<'_> {
    /// Counts the rows of a snapshot for who waits for it.
    fn count(&mut self, kind: &str, frame: &Value) {
        match (kind, &mut self.rows) {
            ("snapshot_begin", rows) if !std::io::stdout().is_terminal() => {
                *rows = Some((Progress::of(None, "rows", "snapshot"), 0));
            }
            ("rows", Some((progress, count))) => {
                *count += frame["rows"].as_array().map_or(0, Vec::len) as u64;
                progress.at(*count);
            }
            ("rows", None) => {}
            (_, rows) => *rows = None,
        }
    }

    /// Whether a table's shape is another than the one printed last.
    fn is_news(&mut self, schema: &Value) -> bool {
        let table = schema["table"].as_str().unwrap_or_default().to_owned();
        let columns = &schema["columns"];
        self.shapes.insert(table, columns.clone()).as_ref() != Some(columns)
    }

    /// Prints a frame for people: what changed, and where the stream is.
    fn show(&self, kind: &str, frame: &Value, text: &str) -> anyhow::Result<()> {
        let word = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        let columns = |table: &str| self.shapes.get(table).unwrap_or(&Value::Null);
        match kind {
            "tx" => {
                let said = |name: &str, before: &str| {
                    frame[name].as_str().map_or_else(String::new, |text| format!(" {before} {text}"))
                };
                let (author, origin) = (said("client_id", "by"), said("origin", "from"));
                answer(styled(FAINT, format_args!("{} {}{author}{origin}", word("lsn"), word("ts"))))?;
                let Changes { changes } = serde_json::from_str(text).map_err(unreadable)?;
                changes.iter().try_for_each(|change| {
                    let columns = columns(change.table());
                    let line = if self.options.diff { change.diff(columns) } else { change.text(columns) };
                    answer(styled(style_of(change), line))
                })
            }
            "rows" => {
                let Rows { table, rows } = serde_json::from_str(text).map_err(unreadable)?;
                let line = |row| format!("  row {table} {}", row_text(row, columns(&table)));
                rows.iter().try_for_each(|row| answer(line(row)))
            }
            "live" => answer(styled(FAINT, format_args!("-- live, at {}", word("cursor")))),
            "reset" => answer(styled(WARNING, reset_text(frame))),
            // What follows from it is told by what comes next: a reset, or the end.
            "error" if word("code") == Code::CursorNotResumable.as_str() => Ok(()),
            "error" => {
                answer(styled(BAD, format_args!("-- {}: {}; {}", word("code"), word("message"), word("fix"))))
            }
            "snapshot_begin" => answer(styled(FAINT, "-- snapshot")),
            "snapshot_end" => answer(styled(FAINT, "-- end of snapshot")),
            _ => Ok(()),
        }
    }
}

fn unreadable(error: serde_json::Error) -> anyhow::Error {
    Failure::error(Code::AnswerUnreadable, format!("read a frame of the service: {error}"))
}

/// A table's columns, such as `-- public.t: id integer key, v text`.
fn shape_text(schema: &Value) -> String {
    let column = |column: &Value| {
        let key = if column["key"] == true { " key" } else { "" };
        format!("{} {}{key}", text(column, "name"), text(column, "type"))
    };
    let columns: Vec<_> = schema["columns"].as_array().into_iter().flatten().map(column).collect();
    format!("-- {}: {}", text(schema, "table"), columns.join(", "))
}

/// Why the rows are no longer what the changes add up to: of these tables, or of all.
fn reset_text(reset: &Value) -> String {
    let tables = reset["tables"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let tables: Vec<_> = tables.collect();
    match tables[..] {
        [] => format!("-- reset: {}", text(reset, "reason")),
        _ => format!("-- reset: {}, of {}", text(reset, "reason"), tables.join(", ")),
    }
}

fn style_of(change: &Change<'_>) -> Style {
    match change.op.as_str() {
        "insert" => GOOD,
        "update" => WARNING,
        "delete" | "truncate" => BAD,
        _ => Style::new(),
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod conversation;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn tables_and_a_filter_are_asked_for() {
        let options = options(&["public.t", "--where", "id > 7", "--diff"]);
        let asked = json!([{"id": "s1", "table": "public.t", "old": true, "where": "id > 7"}]);
        assert_eq!(follower(&options).hello()["subscriptions"], asked);
    }

    pub(super) fn options(more: &[&str]) -> TailOptions {
        let given = ["waldelta", "tail"].iter().chain(more);
        match Cli::parse_from(given).command {
            Command::Tail(options) => options,
            other => panic!("{other:?}"),
        }
    }

    fn follower(options: &TailOptions) -> Follower<'_> {
        Follower {
            options,
            client_id: String::new(),
            cursor: None,
            transactions_left: 1,
            shapes: HashMap::new(),
            takes_resets: false,
            pause: Pause::new(),
            direct: None,
            rows: None,
        }
    }

    #[test]
    fn a_reset_of_tables_keeps_the_cursor_and_one_of_all_does_not() {
        let of_tables = json!({"type": "reset", "reason": "gap", "tables": ["public.t", "public.u"]});
        let of_all = json!({"type": "reset", "reason": "epoch_changed"});
        assert_eq!(reset_text(&of_tables), "-- reset: gap, of public.t, public.u");
        assert_eq!(reset_text(&of_all), "-- reset: epoch_changed");
        let options = options(&[]);
        let mut follower = follower(&options);
        follower.cursor = Some("c".into());
        assert_eq!(follower.hello()["snapshot"], false);
        follower.takes_resets = true;
        assert_eq!(follower.hello()["snapshot"], true);
        follower.frame(&of_tables.to_string()).unwrap();
        assert_eq!(follower.cursor.as_deref(), Some("c"));
        assert!(follower.frame(&of_all.to_string()).is_err(), "nobody asked for all rows");
        follower.takes_resets = false;
        follower.frame(&of_all.to_string()).unwrap();
        assert_eq!(follower.cursor, None);
    }

    #[test]
    fn a_shape_is_printed_when_it_is_another() {
        let options = options(&[]);
        let mut follower = follower(&options);
        let schema = |version: u32, name: &str| {
            json!({"table": "public.t", "version": version, "columns": [
                {"name": "id", "type": "integer", "nullable": false, "key": true},
                {"name": name, "type": "text", "nullable": true, "key": false}]})
        };
        assert!(follower.is_news(&schema(0, "v")));
        assert!(!follower.is_news(&schema(1, "v")), "of a snapshot that was ahead");
        assert!(follower.is_news(&schema(2, "w")));
        assert_eq!(shape_text(&schema(2, "w")), "-- public.t: id integer key, w text");
    }
}
