//! Transactions made into frames for one session alone: while it catches up, and while a snapshot's overlap lasts.
//!
//! It decides change by change what the session is told; as what, its route says. Live sessions take shared frames instead
//! and come here only for what is too large to be kept ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use waldelta_wal::{Change, Operation, Position, Table, TableName, TransactionHead};

use crate::metrics::LeftOut;
use crate::scope::{SchemaFrame, cost};
use crate::subscription::{Misfit, Route, Selection, Tables, Telling, is_change};
use crate::wire::Utf8Bytes;
use crate::wire::server::{self, NotText};
use crate::wire::transaction::{self, Envelope, Told, TxAuthor};

/// Bytes of images after which a transaction is cut into another frame.
const PART_BYTES_MAX: usize = 256 * 1024;
/// How many tables' looks are kept between transactions, and about how many bytes of them: the rest is made anew. What they cost
/// by their filters is counted where the session enters its scope.
const ROUTES_MAX: usize = 64;
const ROUTES_BYTES_MAX: usize = 32 * 1024;

/// Says of a transaction id whether a snapshot shows what the transaction did.
pub(crate) type Shows = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// The overlap of a snapshot with the stream: which changes the snapshot already holds.
#[derive(Clone)]
pub(crate) struct Overlap {
    /// The tables that the snapshot was asked for…
    pub tables: Tables,
    /// …and of them those that it left out.
    pub without: Vec<TableName>,
    /// The position of the snapshot: it holds everything up to here.
    pub from: Position,
    /// From here on the snapshot plays no role.
    pub until: Position,
    /// Of what comes after `from`, the snapshot holds what it shows.
    pub shows: Shows,
}

impl Overlap {
    /// Whether the snapshot was asked for this table.
    fn is_of(&self, table: &TableName) -> bool {
        self.tables.has(table)
    }

    /// Whether what a transaction did to this table is not told any more: the snapshot has it. A table that was left out comes
    /// with a reset that lies after the snapshot's position; what lies before that would be dropped then.
    fn holds(&self, table: &TableName, head: &TransactionHead) -> bool {
        // What belongs to no transaction has no id that a snapshot could show.
        let shown = || head.xid != 0 && (self.shows)(head.xid) && !self.without.contains(table);
        self.is_of(table) && (head.position() <= self.from || shown())
    }
}

/// What one session has been told of shapes and of an unfinished transaction.
#[derive(Default)]
pub(crate) struct Delivery {
    pub overlaps: Vec<Overlap>,
    /// Transactions, or the runs of them that were read, of which something was not told.
    pub left_out: LeftOut,
    /// The version last told of each table.
    shapes: BTreeMap<u32, u32>,
    /// Whether only transactions are told.
    no_shapes: bool,
    /// How tables look, and messages, which have none.
    routes: Vec<(Option<Arc<Table>>, Option<Route>)>,
    /// What they cost, about.
    routes_bytes: usize,
    open: Option<Open>,
}

/// What becomes of a change.
enum Way {
    /// It is told if its rows are, by the route with this index.
    Told(usize),
    /// The client did it.
    Own,
    /// The client's snapshot shows it.
    InSnapshot,
    /// It is none of what the client follows.
    Unfollowed,
}

/// A transaction of which parts were told and the last was not.
struct Open {
    parts: u32,
    own: bool,
    /// Parts of it were told before, elsewhere: its end is told even if nothing of it is told here.
    goes_on: bool,
}

/// What a client is told of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub frames: Vec<Utf8Bytes>,
    /// What the last `tx` frame among them tells: shapes alone tell no cursor. Behind it may lie changes that are not told.
    pub cursor: Option<Position>,
    /// Changes that are told, shapes among them.
    pub changes: usize,
}

/// Why a client cannot be told of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undeliverable {
    /// No frame can be made of it.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// A table has a shape that a subscription does not fit. Nothing of it is told: it could be the wrong rows.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// Who gets the frames, and what it has been told before them.
#[derive(Clone, Copy)]
pub(crate) struct Recipient<'a> {
    pub client_id: &'a str,
    /// Whether its own changes in this transaction are told.
    pub gets_own: bool,
    pub selection: &'a Selection,
    /// The last cursor that it was told.
    pub prev: Position,
}

impl Delivery {
    /// For a client that is told transactions alone.
    pub(crate) fn without_shapes() -> Self {
        Delivery { no_shapes: true, ..Delivery::default() }
    }

    /// The first transaction is one that the client has a part of: its end is told in any case.
    pub(crate) fn goes_on(&mut self) {
        self.open = Some(Open { parts: 0, own: false, goes_on: true });
    }

    /// Notes that the client knows a table's shape.
    pub(crate) fn shape_told(&mut self, table: &Table) {
        self.shapes.insert(table.oid, table.version);
    }

    /// The `schema` frames that have to go before a shared frame.
    pub(crate) fn untold<'a>(&mut self, schemas: &'a [SchemaFrame]) -> impl Iterator<Item = &'a Utf8Bytes> {
        // Whoever shares frames makes none.
        self.forget_routes();
        schemas.iter().filter_map(|schema| {
            let before = self.shapes.insert(schema.oid, schema.version);
            (before != Some(schema.version)).then_some(&schema.frame)
        })
    }

    /// Another selection: tables look different from now on. Where that is so of tables which the client has, it is told their
    /// shapes again: they may have other columns, and a snapshot need not have them.
    pub(crate) fn selection_changed(&mut self, before: &Selection, after: &Selection) {
        self.forget_routes();
        if after.alters_copies_of(before) {
            self.shapes.clear();
        }
    }

    /// Each table's shape is told again before its next row.
    pub(crate) fn forget_shapes(&mut self) {
        self.shapes.clear();
    }

    /// Lets go of snapshots that no longer matter at this position.
    pub(crate) fn settle(&mut self, cursor: Position) {
        // In their order: one that is past still tells that those before it have no say in its tables any more.
        let past = self.overlaps.iter().take_while(|overlap| overlap.until <= cursor).count();
        self.overlaps.drain(..past);
    }

    /// Whether a snapshot shows what this transaction did to a table.
    pub(crate) fn holds(&self, table: &TableName, head: &TransactionHead) -> bool {
        // The newest has replaced the table's rows, also where it shows less than one before it: a shared snapshot may be older
        // than one that the client had.
        let newest = self.overlaps.iter().rev().find(|overlap| overlap.is_of(table));
        newest.is_some_and(|overlap| overlap.holds(table, head))
    }

    /// The transaction of which a part was told is told again from its beginning.
    pub(crate) fn begin_again(&mut self) {
        self.open = None;
    }

    /// Whether some of a transaction was told and its end was not.
    pub(crate) fn is_inside(&self) -> bool {
        self.open.is_some()
    }

    /// Frames of a transaction, or of the run of its changes that was read; `last` when it ends here.
    ///
    /// Nothing comes out when it does not concern the client, and nothing but `schema` frames when only shapes do. An
    /// author always gets at least an empty frame.
    pub(crate) fn frames(
        &mut self,
        to: Recipient<'_>,
        head: &TransactionHead,
        changes: &[Change],
        last: bool,
    ) -> Result<Frames, Undeliverable> {
        let mut own = self.open.as_ref().is_some_and(|open| open.own);
        let mut concerned: Vec<(&Change, usize)> = Vec::new();
        let mut left_out = LeftOut::default();
        let routes_before = self.routes.len();
        for change in changes {
            let is_own = change.author.as_ref().is_some_and(|author| author.client_id == to.client_id);
            own |= is_own;
            match self.route(to, head, change, is_own)? {
                Way::Told(route) => concerned.push((change, route)),
                Way::Own => left_out.own = 1,
                Way::InSnapshot => left_out.in_snapshot = 1,
                Way::Unfollowed => {}
            }
        }
        self.left_out += left_out;
        let told = concerned.into_iter().filter_map(|(change, route)| {
            let route = self.routes[route].1.as_ref()?;
            Some(Told { change, route, telling: route.telling(change)? })
        });
        let told: Vec<Told<'_>> = told.collect();
        let mut out = Frames { changes: told.len(), ..Frames::default() };
        let author = match to.selection.grant().is_everything() {
            true => TxAuthor::of(changes),
            // Who else wrote something is known from what may be seen alone.
            false => TxAuthor::of(told.iter().map(|told| told.change)),
        };
        let origin = transaction::origin_of(changes);
        let mut rest = &told[..];
        loop {
            let (chunk, after) = rest.split_at(chunk_len(rest));
            rest = after;
            let ends = last && rest.is_empty();
            let (parts, goes_on) = self.open.as_ref().map_or((0, false), |open| (open.parts, open.goes_on));
            let begun = parts > 0 || goes_on;
            if !self.no_shapes {
                tell_shapes(&mut self.shapes, chunk, &mut out.frames);
            }
            let shapes_alone = chunk.iter().all(|told| told.telling == Telling::Shape);
            if shapes_alone && !(ends && (begun || own)) {
                match rest.is_empty() {
                    true => break,
                    false => continue,
                }
            }
            let whole = head.position();
            let cursor = match chunk.last() {
                Some(told) if !ends => Position { index: told.change.seq, ..whole },
                _ => whole,
            };
            let part = (begun || !ends).then_some(parts);
            let prev = to.prev;
            let envelope = Envelope { head, cursor, prev, own, author, origin, part, last: ends };
            out.frames.push(transaction::encode_told(&envelope, chunk.iter())?);
            out.cursor = Some(cursor);
            self.open = (!ends).then_some(Open { parts: parts + 1, own, goes_on });
            if rest.is_empty() {
                break;
            }
        }
        if last {
            self.open = None;
        } else if own && self.open.is_none() {
            // Its author is told at the end, even if nothing of it is told before.
            self.open = Some(Open { parts: 0, own, goes_on: false });
        } else if let Some(open) = &mut self.open {
            open.own = own;
        }
        // Shapes may be made anew for each page that is read: routes do not pile up. Those of long filters are kept as far as
        // the session's share counts them: to bind them for each transaction would take long. What did not grow was found to be
        // in bounds before.
        let is_large = self.routes.len() > routes_before
            && self.routes_bytes > ROUTES_BYTES_MAX
            && self.routes_bytes > cost::of_session(to.selection);
        if self.routes.len() > ROUTES_MAX || is_large {
            self.forget_routes();
        }
        Ok(out)
    }

    fn forget_routes(&mut self) {
        (self.routes, self.routes_bytes) = (Vec::new(), 0);
    }

    /// What is to become of a change.
    fn route(
        &mut self,
        to: Recipient<'_>,
        head: &TransactionHead,
        change: &Change,
        is_own: bool,
    ) -> Result<Way, Misfit> {
        let table = change.table.as_ref();
        if !is_change(change) {
            return Ok(Way::Unfollowed);
        }
        // Who changes a row of a table does not know that its shape has changed.
        let mut gets_own = to.gets_own || change.operation == Operation::Schema;
        if let Some(table) = table {
            // Whatever shape it had then: the snapshot came with one that fits.
            if self.holds(&table.name, head) {
                return Ok(Way::InSnapshot);
            }
            // Made while the client took a snapshot, which replaced what it had.
            gets_own |= self.overlaps.iter().any(|overlap| overlap.is_of(&table.name));
        }
        if is_own && !gets_own {
            return Ok(Way::Own);
        }
        let same = |other: &Option<Arc<Table>>| other.as_ref().map(Arc::as_ptr) == table.map(Arc::as_ptr);
        let index = match self.routes.iter().position(|(other, _)| same(other)) {
            Some(known) => known,
            None => {
                let table_of = table.map(Arc::as_ref);
                self.routes.push((table.cloned(), to.selection.route(table_of)?));
                self.routes_bytes += cost::of_route(to.selection, table_of);
                self.routes.len() - 1
            }
        };
        Ok(if self.routes[index].1.is_some() { Way::Told(index) } else { Way::Unfollowed })
    }
}

/// Tells the shapes that these changes have, where they were not told.
fn tell_shapes(shapes: &mut BTreeMap<u32, u32>, chunk: &[Told<'_>], frames: &mut Vec<Utf8Bytes>) {
    for told in chunk {
        if let Some(table) = told.change.table.as_deref()
            && shapes.insert(table.oid, table.version) != Some(table.version)
        {
            frames.push(server::schema(table, told.route.projection()));
        }
    }
}

/// How many changes go into one frame: up to the bound in bytes, and up to where a table changes its shape.
fn chunk_len(told: &[Told<'_>]) -> usize {
    let mut bytes = 0;
    let mut shapes: Vec<(u32, u32)> = Vec::new();
    for (index, Told { change, .. }) in told.iter().enumerate() {
        if let Some(table) = &change.table {
            match shapes.iter().find(|(oid, _)| *oid == table.oid) {
                Some((_, version)) if *version != table.version => return index,
                Some(_) => {}
                None => shapes.push((table.oid, table.version)),
            }
        }
        if bytes > PART_BYTES_MAX {
            return index;
        }
        bytes += transaction::image_bytes(change);
    }
    told.len()
}

#[cfg(test)]
mod tests;
