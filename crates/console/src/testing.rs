//! A model to ask.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::plan::Surroundings;
use crate::{Column, Command, Kind, Model, Refusal, Table, Value};

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, about: "Something." }
}

pub(crate) static TABLES: [Table; 1] = [Table {
    name: "clients",
    about: "Those who are connected.",
    columns: &[
        column("session", Kind::Text),
        column("state", Kind::Text),
        column("sent", Kind::Int),
        column("lag", Kind::Float),
        column("own", Kind::Bool),
    ],
}];

pub(crate) fn rows() -> Vec<Vec<Value>> {
    let row = |session: &str, state: &str, sent, lag: Option<f64>, own: bool| {
        vec![session.into(), state.into(), Value::Int(sent), lag.into(), own.into()]
    };
    vec![
        row("s-1", "catching_up", 10, Some(7.25), false),
        row("s-2", "live", 20, Some(0.5), false),
        row("s-3", "live", 30, None, true),
    ]
}

pub(crate) fn around() -> Surroundings {
    Surroundings {
        tables: &TABLES,
        version: "waldelta test".to_owned(),
        user: "somebody".to_owned(),
        database: "waldelta".to_owned(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
    }
}

/// It remembers what was asked of it.
#[derive(Default)]
pub(crate) struct Fixed(pub Mutex<Vec<(Command, String)>>);

impl Model for std::sync::Arc<Fixed> {
    fn version(&self) -> String {
        around().version
    }

    fn now(&self) -> SystemTime {
        around().now
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    async fn rows(&self, _: &'static Table) -> Result<Vec<Vec<Value>>, Refusal> {
        std::future::ready(Ok(rows())).await
    }

    async fn act(&self, command: Command, user: &str) -> Result<String, Refusal> {
        self.0.lock().unwrap().push((command, user.to_owned()));
        std::future::ready(Ok("it is done".to_owned())).await
    }
}
