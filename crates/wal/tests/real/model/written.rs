//! What a source writes: the bytes of it, and in other words what is to come of them.

use std::collections::{BTreeMap, BTreeSet};

/// Object ids and names: two tables that are captured, one by its key and one with whole old rows, and two of ours.
const TABLES: [(u32, &str, &str, bool); 4] = [
    (100, "public", "t", false),
    (101, "public", "u", true),
    (102, "waldelta", "canary", false),
    (103, "waldelta", "leases", false),
];
const CANARY: usize = 2;
const OURS: usize = 3;
const START: u64 = 50;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Transaction {
        gap: u64,
        bytes: u64,
        has_origin: bool,
        ops: Vec<Op>,
    },
    /// A logical message of no transaction; a fence of that kind is nothing.
    Alone {
        gap: u64,
        fence: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Insert {
        table: usize,
        id: u8,
    },
    Update {
        table: usize,
        from: u8,
        to: u8,
        tells_old: bool,
        sends_v: bool,
    },
    Delete {
        table: usize,
        id: u8,
    },
    Truncate {
        tables: Vec<usize>,
        cascade: bool,
        restart_identity: bool,
    },
    /// Says who makes the changes that follow; again, perhaps with other metadata.
    Author {
        client: u8,
        more: u8,
    },
    /// The same, and it is not one.
    NoAuthor,
    Message,
    Fence,
    Canary,
    /// A row of another table of ours.
    Ours,
    Reset {
        table: usize,
    },
    /// The catalog says something new of a table that its shape does not tell; its rows may have changed too.
    Altered {
        table: usize,
        repairs: bool,
    },
    /// A column is added or dropped.
    Reshaped {
        table: usize,
    },
    /// The shape is sent again as it is.
    ShapeAgain {
        table: usize,
    },
}

/// What comes, in its order.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Message(Vec<u8>),
    /// Not in the stream: what the catalog says of a table is something else from here on.
    Altered(u32),
}

/// A transaction and where it is.
struct Placed {
    commit: u64,
    end: u64,
    xid: u32,
    act: Act,
}

pub(super) struct Written(Vec<Placed>);

impl Written {
    pub(super) fn new(acts: &[Act]) -> Self {
        let mut at = START;
        let place = |(xid, act): (u32, &Act)| {
            let (commit, end) = match act {
                Act::Transaction { gap, bytes, .. } => (at + gap, at + gap + bytes),
                Act::Alone { gap, .. } => (at + gap, at + gap + 1),
            };
            at = end;
            Placed { commit, end, xid, act: act.clone() }
        };
        Written((1..).zip(acts).map(place).collect())
    }

    pub(super) fn begin(&self) -> u64 {
        START
    }

    /// The first one that commits at this place or later.
    pub(super) fn at(&self, durable: u64) -> usize {
        self.0.partition_point(|placed| placed.commit < durable)
    }

    /// Where that one commits.
    pub(super) fn next_commit(&self, durable: u64) -> u64 {
        self.0.get(self.at(durable)).map_or(durable, |placed| placed.commit)
    }

    pub(super) fn altered_before(&self, begin: usize) -> BTreeMap<u32, i16> {
        let mut altered = BTreeMap::new();
        for op in self.0[..begin].iter().flat_map(|placed| placed.act.ops()) {
            if let Op::Altered { table, .. } = op {
                *altered.entry(TABLES[*table].0).or_default() += 1;
            }
        }
        altered
    }

    /// The messages of a connection that begins here.
    pub(super) fn sent_from(&self, begin: usize) -> Vec<Sent> {
        let mut walsender = Walsender { is_wide: [false; 2], shown: BTreeSet::new(), sent: Vec::new() };
        for op in self.0[..begin].iter().flat_map(|placed| placed.act.ops()) {
            if let Op::Reshaped { table } = op {
                walsender.is_wide[*table] ^= true;
            }
        }
        self.0[begin..].iter().for_each(|placed| walsender.send(placed));
        walsender.sent
    }

    /// What is to be stored of all of it.
    pub(super) fn expected(&self) -> Vec<String> {
        let mut tables = [Seen::default(), Seen::default()];
        self.0.iter().filter_map(|placed| placed.expected(&mut tables)).collect()
    }
}

impl Act {
    fn ops(&self) -> &[Op] {
        match self {
            Act::Transaction { ops, .. } => ops,
            Act::Alone { .. } => &[],
        }
    }
}

/// A table as it is, and the shape that rows last had.
#[derive(Default)]
struct Seen {
    now: (bool, i16),
    used: Option<(bool, i16)>,
    version: u32,
}

/// A change without what all changes of the transaction have.
struct Draft {
    text: String,
    author: Option<String>,
}

impl Placed {
    fn expected(&self, tables: &mut [Seen; 2]) -> Option<String> {
        let (commit, end) = (self.commit, self.end);
        let Act::Transaction { ops, has_origin, .. } = &self.act else {
            let message =
                format!("{commit}..{end} of 0\n  message data {{\"prefix\":\"app\",\"content\":\"alone\"}}");
            return matches!(self.act, Act::Alone { fence: false, .. }).then_some(message);
        };
        let mut drafts: Vec<Draft> = Vec::new();
        let mut repairs = BTreeSet::new();
        let mut urgent = "";
        // The author, as it last said it is, and whether any change has it since it came.
        let mut author: Option<(u8, String, bool)> = None;
        let silent = |author: &Option<(u8, String, bool)>| match author {
            Some((_, text, false)) => Some(Draft { text: "message".into(), author: Some(text.clone()) }),
            _ => None,
        };
        for op in ops {
            match op {
                Op::Author { client, more } => {
                    let stays = author.as_ref().is_some_and(|(before, ..)| before == client);
                    drafts.extend(silent(&author).filter(|_| !stays));
                    let acted = stays && author.as_ref().is_some_and(|(.., acted)| *acted);
                    author = Some((*client, format!("web-{client} {more}"), acted));
                    continue;
                }
                Op::Fence | Op::Canary => urgent = " urgent",
                Op::Truncate { tables, .. } if tables.contains(&CANARY) => urgent = " urgent",
                Op::Altered { table, repairs: true } => {
                    _ = repairs.insert(format!("\n  {} rewritten", TABLES[*table].0))
                }
                _ => {}
            }
            for (text, is_nobodys) in changes(op, tables) {
                let author = author.as_mut().filter(|_| !is_nobodys);
                let author = author.map(|(_, text, acted)| {
                    *acted = true;
                    text.clone()
                });
                drafts.push(Draft { text, author });
            }
        }
        drafts.extend(silent(&author));
        let origin = if *has_origin { " from elsewhere" } else { "" };
        let mut text = format!("{commit}..{end} of {}{urgent}", (1u64 << 32) + u64::from(self.xid));
        text.extend(repairs);
        for Draft { text: change, author } in drafts {
            let author = author.map(|author| format!(" by {author}")).unwrap_or_default();
            text += &format!("\n  {change}{origin}{author}");
        }
        Some(text)
    }
}

/// What comes of an operation, and whether it is nobody's.
fn changes(op: &Op, tables: &mut [Seen; 2]) -> Vec<(String, bool)> {
    let mut changes = Vec::new();
    let mut of = |table: usize| {
        let (name, seen) = (TABLES[table].2, &mut tables[table]);
        if seen.used.replace(seen.now) != Some(seen.now) {
            seen.version += 1;
            if seen.version > 1 {
                changes.push((format!("schema {name}@{}", seen.version), true));
            }
        }
        (format!("{name}@{}", seen.version), seen.now.0)
    };
    let row = |id: u8, is_wide: bool| {
        if is_wide {
            format!(r#"{{"id":{id},"v":"v{id}","w":null}}"#)
        } else {
            format!(r#"{{"id":{id},"v":"v{id}"}}"#)
        }
    };
    let text = match op {
        Op::Insert { table, id } => {
            let (table, is_wide) = of(*table);
            format!("insert {table} key [{id}] data {}", row(*id, is_wide))
        }
        Op::Update { table, from, to, tells_old, sends_v } => {
            let is_full = TABLES[*table].3;
            let (table, is_wide) = of(*table);
            let old = match (is_full, tells_old) {
                (true, _) => format!(" old {}", row(*from, is_wide)),
                (false, true) => format!(r#" old {{"id":{from}}}"#),
                (false, false) => String::new(),
            };
            // What is not sent did not change: it is the old row's, where that is known.
            let (v, unchanged) = match (sends_v, is_full) {
                (true, _) => (format!(r#","v":"v{to}""#), ""),
                (false, true) => (format!(r#","v":"v{from}""#), ""),
                (false, false) => (String::new(), " unchanged [\"v\"]"),
            };
            let w = if is_wide { r#","w":null"# } else { "" };
            format!(r#"update {table} key [{to}] data {{"id":{to}{v}{w}}}{old}{unchanged}"#)
        }
        Op::Delete { table, id } => {
            let is_full = TABLES[*table].3;
            let (table, is_wide) = of(*table);
            let old = if is_full { row(*id, is_wide) } else { format!(r#"{{"id":{id}}}"#) };
            format!("delete {table} key [{id}] old {old}")
        }
        Op::Truncate { tables: truncated, cascade, restart_identity } => {
            let mut all = Vec::new();
            for table in truncated.iter().filter(|table| **table < 2) {
                let (table, _) = of(*table);
                let options = match (cascade, restart_identity) {
                    (false, false) => String::new(),
                    _ => format!(" {cascade} {restart_identity}"),
                };
                all.push((format!("truncate {table}{options}"), false));
            }
            // The shapes are told each before its own table.
            return interleaved(changes, all);
        }
        Op::Message => r#"message data {"prefix":"app","content":"x"}"#.to_owned(),
        Op::NoAuthor => r#"message data {"prefix":"waldelta.author","content":"[]"}"#.to_owned(),
        Op::Reset { table } => {
            let (oid, _, name, _) = TABLES[*table];
            let told = format!(r#"reset data {{"oid":{oid},"name":"public.{name}","reason":"gap"}}"#);
            return vec![(told, true)];
        }
        Op::Altered { table, .. } => {
            tables[*table].now.1 += 1;
            return Vec::new();
        }
        Op::Reshaped { table } => {
            tables[*table].now.0 ^= true;
            return Vec::new();
        }
        Op::Author { .. } | Op::Fence | Op::Canary | Op::Ours | Op::ShapeAgain { .. } => return Vec::new(),
    };
    changes.push((text, false));
    changes
}

/// Puts each shape right before the change of its table.
fn interleaved(schemas: Vec<(String, bool)>, changes: Vec<(String, bool)>) -> Vec<(String, bool)> {
    let table = |text: &str| text.split(' ').nth(1).unwrap().to_owned();
    let mut all = Vec::new();
    for change in changes {
        all.extend(schemas.iter().find(|schema| table(&schema.0) == table(&change.0)).cloned());
        all.push(change);
    }
    all
}

/// Writes messages as pgoutput does.
struct Walsender {
    is_wide: [bool; 2],
    /// The tables whose shape was sent.
    shown: BTreeSet<usize>,
    sent: Vec<Sent>,
}

impl Walsender {
    fn push(&mut self, parts: &[&[u8]]) {
        self.sent.push(Sent::Message(parts.concat()));
    }

    fn send(&mut self, placed: &Placed) {
        let (commit, end) = (placed.commit.to_be_bytes(), placed.end.to_be_bytes());
        let (ops, has_origin) = match &placed.act {
            Act::Alone { fence, .. } => {
                let (prefix, content) = if *fence { ("waldelta.fence", "") } else { ("app", "alone") };
                return self.logical(false, placed.end, prefix, content);
            }
            Act::Transaction { ops, has_origin, .. } => (ops, *has_origin),
        };
        self.push(&[b"B", &commit, &[0; 8], &placed.xid.to_be_bytes()]);
        if has_origin {
            self.push(&[b"O", &[0; 8], b"elsewhere\0"]);
        }
        ops.iter().for_each(|op| self.op(op));
        self.push(&[b"C\0", &commit, &end, &[0; 8]]);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Insert { table, id } => {
                let new = self.row(*table, *id, true);
                self.of(*table, b'I', &[b"N", &new]);
            }
            Op::Update { table, from, to, tells_old, sends_v } => {
                let new = self.row(*table, *to, *sends_v);
                let (form, old) = self.old(*table, *from);
                match TABLES[*table].3 || *tells_old {
                    true => self.of(*table, b'U', &[&[form], &old, b"N", &new]),
                    false => self.of(*table, b'U', &[b"N", &new]),
                }
            }
            Op::Delete { table, id } => {
                let (form, old) = self.old(*table, *id);
                self.of(*table, b'D', &[&[form], &old]);
            }
            Op::Truncate { tables, cascade, restart_identity } => {
                tables.iter().for_each(|table| self.show(*table));
                let options = u8::from(*cascade) + 2 * u8::from(*restart_identity);
                let oids: Vec<u8> = tables.iter().flat_map(|table| TABLES[*table].0.to_be_bytes()).collect();
                let count = u32::try_from(tables.len()).unwrap().to_be_bytes();
                self.push(&[b"T", &count, &[options], &oids]);
            }
            Op::Author { client, more } => {
                let told = format!(r#"{{"client_id":"web-{client}","metadata":{more}}}"#);
                self.logical(true, 7, "waldelta.author", &told);
            }
            Op::NoAuthor => self.logical(true, 7, "waldelta.author", "[]"),
            Op::Message => self.logical(true, 7, "app", "x"),
            Op::Fence => self.logical(true, 7, "waldelta.fence", ""),
            Op::Canary => self.of(CANARY, b'I', &[b"N\0\x01t\0\0\0\x011"]),
            Op::Ours => self.of(OURS, b'I', &[b"N\0\x01t\0\0\0\x011"]),
            Op::Reset { table } => {
                let (oid, _, name, _) = TABLES[*table];
                let told = format!(r#"{{"tables":[{{"oid":{oid},"name":"public.{name}","reason":"gap"}}]}}"#);
                self.logical(true, 7, "waldelta.reset", &told);
            }
            Op::Altered { table, repairs } => {
                let oid = TABLES[*table].0;
                let repairs = if *repairs {
                    format!(r#"{{"table":{oid},"reason":"rewritten"}}"#)
                } else {
                    String::new()
                };
                self.sent.push(Sent::Altered(oid));
                let told = format!(r#"{{"repairs":[{repairs}],"forget":[{oid}]}}"#);
                self.logical(true, 7, "waldelta.ddl", &told);
            }
            Op::Reshaped { table } => {
                self.is_wide[*table] ^= true;
                self.shown.remove(table);
            }
            Op::ShapeAgain { table } => {
                self.shown.remove(table);
                self.show(*table);
            }
        }
    }

    fn logical(&mut self, transactional: bool, lsn: u64, prefix: &str, content: &str) {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let flags = [b'M', transactional.into()];
        self.push(&[&flags, &lsn.to_be_bytes(), prefix.as_bytes(), b"\0", &length, content.as_bytes()]);
    }

    fn of(&mut self, table: usize, kind: u8, parts: &[&[u8]]) {
        self.show(table);
        let begin = [&[kind][..], &TABLES[table].0.to_be_bytes()].concat();
        self.push(&[&begin, &parts.concat()]);
    }

    /// Sends a table's shape if the connection does not have it.
    fn show(&mut self, table: usize) {
        if !self.shown.insert(table) {
            return;
        }
        let (oid, schema, name, is_full) = TABLES[table];
        let names = format!("{schema}\0{name}\0{}", if is_full { 'f' } else { 'd' });
        let column = |is_key: bool, name: &str, type_oid: u8| {
            [&[u8::from(is_key || is_full)], name.as_bytes(), &[0, 0, 0, 0, type_oid], &[255; 4]].concat()
        };
        let mut columns = vec![column(true, "id", 23)];
        if table < 2 {
            columns.push(column(false, "v", 25));
        }
        if self.is_wide.get(table) == Some(&true) {
            columns.push(column(false, "w", 25));
        }
        let count = [0, u8::try_from(columns.len()).unwrap()];
        self.push(&[b"R", &oid.to_be_bytes(), names.as_bytes(), &count, &columns.concat()]);
    }

    /// A whole row, or one whose `v` is not sent.
    fn row(&self, table: usize, id: u8, sends_v: bool) -> Vec<u8> {
        let v = if sends_v { cell(&format!("v{id}")) } else { b"u".to_vec() };
        self.tuple(table, &[cell(&id.to_string()), v])
    }

    /// What is told of an old row, and in which form.
    fn old(&self, table: usize, id: u8) -> (u8, Vec<u8>) {
        match TABLES[table].3 {
            true => (b'O', self.row(table, id, true)),
            false => (b'K', self.tuple(table, &[cell(&id.to_string()), b"n".to_vec()])),
        }
    }

    fn tuple(&self, table: usize, cells: &[Vec<u8>]) -> Vec<u8> {
        let (count, w) = if self.is_wide[table] { (3, &b"n"[..]) } else { (2, &b""[..]) };
        [&[0, count], &cells.concat()[..], w].concat()
    }
}

fn cell(text: &str) -> Vec<u8> {
    [b"t", &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}
