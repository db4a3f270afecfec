//! What a scope is given of a transaction whose changes are here: a frame that its sessions share, or that they read it by
//! themselves.

use std::sync::Arc;

use waldelta_wal::{Change, Table, TransactionHead};

use super::{Destination, push, push_large};
use crate::index::Which;
use crate::pace::{CHANGE_BYTES, EVALUATION_BYTES, Pace};
use crate::registry::Client;
use crate::scope::{Content, Look, SchemaFrame, Scope};
use crate::subscription::{Misfit, Telling, is_change};
use crate::wire::Utf8Bytes;
use crate::wire::server::NotText;
use crate::wire::transaction::{self, Envelope, Told, TxAuthor, image_bytes};

/// A transaction with more bytes of images than this is not kept ready: sessions read it in parts.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// A transaction, looked through once for all scopes.
pub(super) struct Whole<'a> {
    pub head: &'a TransactionHead,
    pub changes: &'a [Change],
    pub author: TxAuthor<'a>,
    pub origin: Option<&'a str>,
}

/// No frame of a transaction can be shared: each session of the scope finds out by itself why.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unframed {
    #[error("make a frame")]
    NotText(#[from] NotText),
    #[error("find out how a table looks")]
    Misfit(#[from] Misfit),
}

/// Gives the scope what it is told of the transaction, if it is told anything.
pub(super) async fn frame_and_push(
    Destination { scope, which, authors }: &Destination,
    transaction: &Whole<'_>,
    pace: &mut Pace,
) -> Result<(), Unframed> {
    let looks = looks(scope, which, transaction.changes, pace).await?;
    let (told, schemas) = told(&looks, scope, which.of(transaction.changes), pace).await;
    if too_large(&told) || changes_shape(&schemas) {
        push_large(scope, transaction.head, pace);
        return Ok(());
    }
    let content = if told.is_empty() {
        Content::AuthorsOnly
    } else if told.iter().all(|told| told.telling == Telling::Shape) {
        Content::Shapes
    } else {
        let frame = frame(scope, transaction, &told, None)?;
        pace.did(frame.len()).await;
        Content::Frame(frame)
    };
    let mut own = Vec::with_capacity(authors.len());
    for client in authors {
        let frame = frame(scope, transaction, &told, Some(client))?;
        pace.did(frame.len()).await;
        own.push((client.key.clone(), frame));
    }
    // The index says whom a change may concern: where nothing is told, nobody is woken.
    if !told.is_empty() || !own.is_empty() {
        push(scope, transaction.head, content, own, schemas, pace);
    }
    Ok(())
}

/// The frame of these changes, for everybody or for one author.
fn frame(
    scope: &Scope,
    transaction: &Whole<'_>,
    told: &[Told<'_>],
    own: Option<&Client>,
) -> Result<Utf8Bytes, NotText> {
    // Who else wrote something is known from what may be seen alone.
    let author = match scope.selection.grant().is_everything() {
        true => transaction.author,
        false => TxAuthor::of(told.iter().map(|told| told.change)),
    };
    let envelope = Envelope {
        head: transaction.head,
        cursor: transaction.head.position(),
        prev: scope.newest(),
        own: own.is_some(),
        author,
        origin: transaction.origin,
        part: None,
        last: true,
    };
    let gets_own = own.is_none_or(|client| client.gets_own(transaction.head.xid));
    transaction::encode_told(&envelope, told.iter().filter(|told| gets_own || !is_by(told.change, own)))
}

/// The tables of a transaction that a scope selects, and messages, each with how it looks there.
type Looks<'a> = Vec<(Option<&'a Arc<Table>>, Arc<Look>)>;

fn same_table(one: Option<&Arc<Table>>, other: Option<&Arc<Table>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// How the tables of changes look to a scope.
async fn looks<'a>(
    scope: &Scope,
    which: &'a Which,
    changes: &'a [Change],
    pace: &mut Pace,
) -> Result<Looks<'a>, Misfit> {
    let mut seen: Vec<Option<&Arc<Table>>> = Vec::new();
    let mut looks = Looks::new();
    for change in which.of(changes) {
        let table = change.table.as_ref();
        if is_change(change) && !seen.iter().any(|other| same_table(*other, table)) {
            seen.push(table);
            if let Some(look) = scope.look(table)? {
                // It may have been made for this.
                pace.did(look.cost).await;
                looks.push((table, look));
            }
        }
        pace.did(CHANGE_BYTES).await;
    }
    Ok(looks)
}

/// Those of the changes that are told to a scope, and what is told of the shapes of their tables, each once.
async fn told<'a>(
    looks: &'a Looks<'a>,
    scope: &Scope,
    changes: impl Iterator<Item = &'a Change>,
    pace: &mut Pace,
) -> (Vec<Told<'a>>, Vec<SchemaFrame>) {
    let (mut told, mut schemas): (Vec<_>, Vec<SchemaFrame>) = (Vec::new(), Vec::new());
    for change in changes.filter(|change| is_change(change)) {
        let look = looks.iter().find(|(table, _)| same_table(*table, change.table.as_ref()));
        let Some((_, look)) = look else { continue };
        if !look.route.tells_all_rows() {
            let evaluations = scope.selection.subscriptions().len() * EVALUATION_BYTES;
            pace.did(evaluations + image_bytes(change)).await;
        }
        let Some(telling) = look.route.telling(change) else { continue };
        told.push(Told { change, route: &look.route, telling });
        if let Some(schema) = &look.schema
            && !schemas.iter().any(|known| (known.oid, known.version) == (schema.oid, schema.version))
        {
            schemas.push(schema.clone());
        }
    }
    (told, schemas)
}

fn is_by(change: &Change, client: Option<&Client>) -> bool {
    match (&change.author, client) {
        (Some(author), Some(client)) => *author.client_id == *client.id,
        _ => false,
    }
}

fn too_large(told: &[Told<'_>]) -> bool {
    told.iter().map(|told| image_bytes(told.change)).sum::<usize>() > FRAME_BYTES_MAX
}

/// Whether a table has two shapes here: the `schema` frame between them needs the transaction in parts. A change that
/// tells a shape has it already.
fn changes_shape(schemas: &[SchemaFrame]) -> bool {
    schemas
        .iter()
        .enumerate()
        .any(|(index, schema)| schemas[..index].iter().any(|other| other.oid == schema.oid))
}
