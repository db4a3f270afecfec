//! A source and its walsender: a list of what was written, and the bytes of it.

use std::collections::VecDeque;

/// A keepalive that tells as much as it can.
pub(super) const KEEPALIVE_MAX: u64 = 4;
const START: u64 = 1_000;
const TABLES: [(u32, &str, &str); 3] =
    [(16_400, "public", "t"), (16_401, "public", "u"), (16_402, "waldelta", "canary")];
const CANARY: usize = 2;

#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// A transaction with rows of these tables, whose commit record has so many bytes. From the next connection on it may be
    /// ordered to be left out.
    Transaction { rows: Vec<usize>, bytes: u64, left_out: bool },
    /// A transaction in which there is nothing but a sign of life.
    Sign { bytes: u64, canary: bool },
    /// A logical message of no transaction.
    Message,
    /// The same by which nobody can wait for anything.
    Fence,
    /// WAL in which there is nothing for us.
    Foreign { bytes: u64 },
}

/// What was written, and where: a transaction by its commit record.
struct Written {
    commit: u64,
    end: u64,
    deed: Deed,
    /// Whether it was ordered to be left out before it was stored.
    is_left_out: bool,
    /// A number that is nowhere else.
    first_value: usize,
}

/// A message, and how much a keepalive right before it may tell.
struct Message {
    bytes: Vec<u8>,
    told: (u64, u64),
}

pub(super) struct Source {
    wal: Vec<Written>,
    end: u64,
    values: usize,
    // The walsender.
    /// How much of the WAL became messages.
    sent: usize,
    messages: VecDeque<Message>,
    knows: [bool; TABLES.len()],
}

impl Source {
    pub(super) fn new() -> Self {
        Source {
            wal: Vec::new(),
            end: START,
            values: 0,
            sent: 0,
            messages: VecDeque::new(),
            knows: [false; TABLES.len()],
        }
    }

    pub(super) fn begins_at(&self) -> u64 {
        START
    }

    /// Where the WAL ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn write(&mut self, gap: u64, deed: &Deed) {
        let begin = self.end + gap;
        let (commit, end) = match deed {
            Deed::Transaction { bytes, .. } | Deed::Sign { bytes, .. } => (begin, begin + bytes),
            // Its position is the last byte of its record.
            Deed::Message | Deed::Fence => (begin, begin + 1),
            Deed::Foreign { bytes } => {
                self.end = begin + bytes;
                return;
            }
        };
        self.wal.push(Written {
            commit,
            end,
            deed: deed.clone(),
            is_left_out: false,
            first_value: self.values,
        });
        self.values += 10;
        self.end = end;
    }

    /// The transactions that are left out.
    pub(super) fn left_out(&self) -> impl Iterator<Item = u64> {
        self.wal.iter().filter(|written| written.is_left_out).map(|written| written.commit)
    }

    /// What history is to have of what was written.
    pub(super) fn captured(&self) -> impl Iterator<Item = (u64, Vec<String>)> {
        self.wal.iter().filter_map(|written| {
            let values = written.first_value..;
            let row = |(_, value)| format!(r#"insert {{"v":{value}}}"#);
            let lsn = waldelta_wal::Lsn(written.commit);
            let changes = match &written.deed {
                Deed::Transaction { .. } if written.is_left_out => {
                    vec![format!(r#"skip {{"lsn":"{lsn}","seq":null,"by":"me","why":"test"}}"#)]
                }
                Deed::Transaction { rows, .. } => rows.iter().zip(values).map(row).collect(),
                Deed::Message => {
                    vec![format!(r#"message {{"prefix":"app","content":"{}"}}"#, written.first_value)]
                }
                Deed::Sign { .. } | Deed::Fence | Deed::Foreign { .. } => Vec::new(),
            };
            (!changes.is_empty()).then_some((written.commit, changes))
        })
    }

    /// A connection that sends what history has not, and some transactions before that: none that the slot has forgotten. What is
    /// to be left out is known to it.
    pub(super) fn begin(&mut self, forgotten: u64, durable: u64, back: usize) {
        let place = |lsn| self.wal.partition_point(|written| written.commit < lsn);
        let (first, missing) = (place(forgotten), place(durable));
        self.sent = missing.saturating_sub(back).max(first);
        self.messages.clear();
        self.knows = [false; TABLES.len()];
        for written in &mut self.wal[missing..] {
            written.is_left_out = matches!(written.deed, Deed::Transaction { left_out: true, .. });
        }
    }

    /// Whether all that was written was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.messages.is_empty() && self.sent == self.wal.len()
    }

    /// The next messages, and a keepalive behind them: how much of what it can tell it does, and whether it wants an answer.
    pub(super) fn send(&mut self, count: usize, keepalive: Option<(u64, bool)>) -> Vec<u8> {
        let mut block = Vec::new();
        for _ in 0..count {
            self.next_messages();
            let Some(message) = self.messages.pop_front() else { break };
            block.extend(copy_data(&[&b"w"[..], &[0; 24], &message.bytes].concat()));
        }
        if let Some((share, asks)) = keepalive {
            self.next_messages();
            let (least, most) = self.messages.front().map_or((self.last_end(), self.end), |next| next.told);
            let told = least + (most - least) * share / KEEPALIVE_MAX;
            let body = [&b"k"[..], &told.to_be_bytes(), &[0; 8], &[asks.into()]].concat();
            block.extend(copy_data(&body));
        }
        block
    }

    fn last_end(&self) -> u64 {
        self.wal.last().map_or(START, |last| last.end)
    }

    fn next_messages(&mut self) {
        if self.messages.is_empty() && self.sent < self.wal.len() {
            let before = self.sent.checked_sub(1).map_or(START, |before| self.wal[before].end);
            let told = (before, self.wal[self.sent].commit);
            let messages = self.messages_of(self.sent);
            self.messages.extend(messages.into_iter().map(|bytes| Message { bytes, told }));
            self.sent += 1;
        }
    }

    /// What the plugin writes of it.
    fn messages_of(&mut self, place: usize) -> Vec<Vec<u8>> {
        let Written { commit, end, deed, first_value, .. } = &self.wal[place];
        let (commit, end, value) = (commit.to_be_bytes(), end.to_be_bytes(), *first_value);
        let logical = |transactional: bool, prefix: &str, content: &str| {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            let flags = [b'M', transactional.into()];
            [&flags, &end[..], prefix.as_bytes(), b"\0", &length, content.as_bytes()].concat()
        };
        let rows = match deed {
            Deed::Message => return vec![logical(false, "app", &value.to_string())],
            Deed::Fence => return vec![logical(false, "waldelta.fence", "")],
            Deed::Foreign { .. } => return Vec::new(),
            Deed::Transaction { rows, .. } => rows.clone(),
            Deed::Sign { canary, .. } => {
                if *canary {
                    vec![CANARY]
                } else {
                    Vec::new()
                }
            }
        };
        let mut messages = vec![[&b"B"[..], &commit, &[0; 8], &[0, 0, 0, 9]].concat()];
        if matches!(deed, Deed::Sign { canary: false, .. }) {
            messages.push(logical(true, "waldelta.fence", ""));
        }
        for (value, table) in (value..).zip(rows) {
            let (oid, schema, name) = TABLES[table];
            let oid = oid.to_be_bytes();
            if !std::mem::replace(&mut self.knows[table], true) {
                let names = format!("{schema}\0{name}\0d\0\x01\x01v\0");
                messages.push([b"R", &oid[..], names.as_bytes(), &[0, 0, 0, 23], &[255; 4]].concat());
            }
            let text = value.to_string();
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            messages.push([b"I", &oid[..], b"N\0\x01t", &length, text.as_bytes()].concat());
        }
        messages.push([&b"C\0"[..], &commit, &end, &[0; 8]].concat());
        messages
    }
}

fn copy_data(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&b"d"[..], &length, body].concat()
}
