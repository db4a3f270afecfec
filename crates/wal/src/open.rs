//! A transaction that is arriving: its changes so far, and cutting them into pieces.
//!
//! Rows are written into one buffer per piece and cut from it at the end, so a row costs no allocation.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::lsn::EndLsn;
use crate::skip::Skip;
use crate::table::Table;
use crate::transaction::{
    Author, Change, Operation, Piece, Repair, RepairReason, TransactionHead, TruncateOptions,
};

/// From this many unused bytes on a buffer is made smaller, since readers may keep it for long.
const SLACK_BYTES_MAX: usize = 4096;

/// The transaction between its Begin and its Commit.
pub(crate) struct OpenTransaction {
    pub(crate) head: TransactionHead,
    /// Already stored: what arrives of it is not looked at.
    pub(crate) durable: bool,
    /// Something arrived that someone waits for.
    pub(crate) urgent: bool,
    /// The buffer that the rows of the current piece lie in.
    pub(crate) arena: Vec<u8>,
    /// The order to leave all of it out.
    left_out: Option<Skip>,
    /// The tables that it concerns then.
    concerned: BTreeSet<u32>,
    /// The orders to leave single changes out, the next one last.
    skips: Vec<Skip>,
    author: Option<CurrentAuthor>,
    new_tables: Vec<Arc<Table>>,
    repairs: Vec<Repair>,
    origin: Option<Arc<str>>,
    drafts: Vec<Draft>,
    /// Bytes of the names that the drafts carry, of columns and authors.
    names_bytes: usize,
    first: bool,
    next_seq: u32,
}

/// Who makes the changes that follow.
struct CurrentAuthor {
    author: Arc<Author>,
    /// Whether a change carries the author already, by which they are told that the transaction is durable.
    told: bool,
}

/// A change whose rows still lie in the arena.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) row_key: Option<Range<usize>>,
    pub(crate) data: Option<Range<usize>>,
    pub(crate) old_data: Option<Range<usize>>,
    pub(crate) unchanged: Vec<String>,
    pub(crate) flagged: Vec<String>,
    pub(crate) truncate: TruncateOptions,
}

struct Draft {
    seq: u32,
    operation: Operation,
    table: Option<Arc<Table>>,
    origin: Option<Arc<str>>,
    author: Option<Arc<Author>>,
    rows: Rows,
}

/// More changes than positions can number.
#[derive(Debug)]
pub(crate) struct TooManyChanges;

impl OpenTransaction {
    /// `orders` are those for this transaction, in the order of their places.
    pub(crate) fn new(head: TransactionHead, durable: bool, orders: &[Skip]) -> Self {
        let orders = if durable { &[] } else { orders };
        OpenTransaction {
            head,
            durable,
            urgent: false,
            arena: Vec::new(),
            left_out: orders.iter().find(|order| order.seq.is_none()).cloned(),
            concerned: BTreeSet::new(),
            skips: orders.iter().rev().filter(|order| order.seq.is_some()).cloned().collect(),
            author: None,
            new_tables: Vec::new(),
            repairs: Vec::new(),
            origin: None,
            drafts: Vec::new(),
            names_bytes: 0,
            first: true,
            next_seq: 0,
        }
    }

    /// Whether all of it is left out: nothing of it may be added.
    pub(crate) fn is_left_out(&self) -> bool {
        self.left_out.is_some()
    }

    /// Something of a table is in this transaction, which is left out.
    pub(crate) fn concerns(&mut self, table_oid: u32) {
        self.concerned.insert(table_oid);
    }

    /// The number that the next change will have.
    pub(crate) fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// Whether the next change is to be left out.
    pub(crate) fn skips_next(&self) -> bool {
        self.skips.last().is_some_and(|order| order.seq == Some(self.next_seq))
    }

    /// Adds what stands in the place of the next change, which is left out; nothing where it is not to be.
    pub(crate) fn skip_next(
        &mut self,
        table: Option<Arc<Table>>,
        row_key: Option<Range<usize>>,
    ) -> Result<(), TooManyChanges> {
        let next_seq = self.next_seq;
        let Some(order) = self.skips.pop_if(|order| order.seq == Some(next_seq)) else { return Ok(()) };
        if let Some(table) = &table {
            self.needs_repair(Repair { table_oid: table.oid, reason: RepairReason::Skipped });
        }
        self.add_skip(&order, table, row_key)
    }

    fn add_skip(
        &mut self,
        order: &Skip,
        table: Option<Arc<Table>>,
        row_key: Option<Range<usize>>,
    ) -> Result<(), TooManyChanges> {
        let start = self.arena.len();
        self.arena.extend_from_slice(order.to_json().as_bytes());
        let rows = Rows { row_key, data: Some(start..self.arena.len()), ..Rows::default() };
        self.add(Operation::Skip, table, rows)
    }

    /// Adds a change, made by whoever is the author now.
    pub(crate) fn add(
        &mut self,
        operation: Operation,
        table: Option<Arc<Table>>,
        rows: Rows,
    ) -> Result<(), TooManyChanges> {
        let seq = self.next_seq;
        // The last index stands for the whole transaction.
        self.next_seq = seq.checked_add(1).ok_or(TooManyChanges)?;
        // A shape and a reset are nobody's: the client who made the other changes has to be told of them too.
        let is_nobodys = matches!(operation, Operation::Schema | Operation::Reset);
        let author = self.author.as_mut().filter(|_| !is_nobodys).map(|current| {
            current.told = true;
            Arc::clone(&current.author)
        });
        // The first change that carries an author makes it stay.
        if let Some(author) = author.as_ref().filter(|author| Arc::strong_count(author) == 2) {
            self.names_bytes += author.client_id.len() + author.metadata.as_ref().map_or(0, String::len);
        }
        let names = rows.unchanged.iter().chain(&rows.flagged);
        self.names_bytes += names.map(|name| size_of::<String>() + name.len()).sum::<usize>();
        let origin = self.origin.clone();
        self.drafts.push(Draft { seq, operation, table, origin, author, rows });
        Ok(())
    }

    /// Names the author of the changes that follow. One who made none so far is told by a change without data, unless the
    /// same client just says more.
    pub(crate) fn set_author(&mut self, author: Author) -> Result<(), TooManyChanges> {
        if self.author.as_ref().is_some_and(|current| current.author.client_id != author.client_id) {
            self.tell_author()?;
        }
        let told = self.author.as_ref().is_some_and(|current| current.told);
        let same_client =
            self.author.as_ref().is_some_and(|current| current.author.client_id == author.client_id);
        self.author = Some(CurrentAuthor { author: Arc::new(author), told: told && same_client });
        Ok(())
    }

    fn tell_author(&mut self) -> Result<(), TooManyChanges> {
        if self.author.as_ref().is_some_and(|current| !current.told) {
            if self.skips_next() {
                return self.skip_next(None, None);
            }
            self.add(Operation::Message, None, Rows::default())?;
        }
        Ok(())
    }

    /// Says that a shape is used here for the first time.
    pub(crate) fn announce(&mut self, table: Arc<Table>) {
        self.new_tables.push(table);
    }

    /// Says that a table's rows change here in a way that no change tells.
    pub(crate) fn needs_repair(&mut self, repair: Repair) {
        self.repairs.push(repair);
    }

    /// Says where what follows was made first.
    pub(crate) fn set_origin(&mut self, name: &[u8]) {
        self.origin = Some(String::from_utf8_lossy(name).into());
    }

    /// About how many bytes the current piece takes.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.arena.len()
            + self.names_bytes
            + self.drafts.len() * size_of::<Change>()
            + self.repairs.len() * size_of::<Repair>()
    }

    /// Cuts off what has arrived so far: more follows.
    pub(crate) fn cut(&mut self) -> Piece {
        let arena_bytes = self.arena.len();
        let piece = self.take_piece();
        // The next piece will be about as large; growing towards it step by step would copy it over and over.
        self.arena.reserve(arena_bytes);
        piece
    }

    /// The last piece.
    pub(crate) fn finish(mut self, end: EndLsn) -> Result<Piece, TooManyChanges> {
        if let Some(order) = self.left_out.take() {
            self.add_skip(&order, None, None)?;
            let concerned = std::mem::take(&mut self.concerned);
            let skipped = |table_oid| Repair { table_oid, reason: RepairReason::Skipped };
            self.repairs.extend(concerned.into_iter().map(skipped));
        }
        self.tell_author()?;
        let piece = self.take_piece();
        Ok(Piece { end: Some(end), ..piece })
    }

    fn take_piece(&mut self) -> Piece {
        let mut arena = std::mem::take(&mut self.arena);
        if arena.capacity() - arena.len() > SLACK_BYTES_MAX.max(arena.len() / 4) {
            arena.shrink_to_fit();
        }
        let arena = Bytes::from(arena);
        let row = |range: Option<Range<usize>>| range.map(|range| arena.slice(range));
        let change = |draft: Draft| Change {
            seq: draft.seq,
            operation: draft.operation,
            table: draft.table,
            row_key: row(draft.rows.row_key),
            data: row(draft.rows.data),
            old_data: row(draft.rows.old_data),
            unchanged: draft.rows.unchanged,
            flagged: draft.rows.flagged,
            truncate: draft.rows.truncate,
            origin: draft.origin,
            author: draft.author,
        };
        let mut repairs = std::mem::take(&mut self.repairs);
        repairs.sort_unstable();
        repairs.dedup();
        self.names_bytes = 0;
        Piece {
            head: self.head,
            first: std::mem::replace(&mut self.first, false),
            changes: self.drafts.drain(..).map(change).collect(),
            end: None,
            new_tables: std::mem::take(&mut self.new_tables),
            repairs,
            urgent: std::mem::replace(&mut self.urgent, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::position::Epoch;

    #[test]
    fn the_last_index_is_never_given_to_a_change() {
        let head = TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(1), xid: 1, committed_at_us: 0 };
        let mut open = OpenTransaction::new(head, false, &[]);
        open.next_seq = u32::MAX - 1;
        open.add(Operation::Message, None, Rows::default()).unwrap();
        open.add(Operation::Message, None, Rows::default()).unwrap_err();
        assert_eq!(open.cut().changes[0].seq, u32::MAX - 1);
    }
}
