//! Comparing history with its seals, beside the writer and everybody else.
//!
//! First the chain, all of it, which is quick; then the stretches, which are read again. What was pruned meanwhile is asked for after
//! something was found, never before: a prune moves that place before it removes anything.

use std::pin::pin;

use futures_util::TryStreamExt;
use waldelta_wal::{EndLsn, Epoch, Position};

use super::chain::Chain;
use super::report::{Finding, Problem, Unsealed, Verification};
use super::seal::{Place, Seal, SealName};
use super::stretch::{Reader, State};
use crate::{Error, History};

const READ: &str = include_str!("../../../../sql/queries/read_seals.sql");
const COUNT: &str = include_str!("../../../../sql/queries/count_unsealed.sql");

/// Seals that are read at once while their stretches are compared.
const SEALS_AT_ONCE: i64 = 200;
/// What is not sealed is counted up to here.
const UNSEALED_MAX: i64 = 1_000_000;
/// More than any number of seals: the chain is read in one statement, which shows it as it is in one moment.
const ALL: i64 = i64::MAX;

impl History {
    /// Compares what is stored with its seals, as far as it reaches beyond `from`; the chain is looked at as a whole. `noted` is a
    /// seal whose name was kept elsewhere.
    pub async fn verify(
        &self,
        from: Option<Position>,
        noted: Option<SealName>,
    ) -> Result<Verification, Error> {
        let reader = Reader::connect(self, Error::Verify).await?;
        let mut report = Verification::default();
        let mut chain = Chain::new(noted);
        let state = state(&reader).await?;
        let unknown = walk(&reader, &state, &mut chain, &mut report).await.map_err(Error::Verify)?;
        // Asked again: seals are removed after this place has moved.
        let state = self::state(&reader).await?;
        report.unsealed = unsealed(&reader, &state, &chain).await.map_err(Error::Verify)?;
        // An epoch may have begun since; otherwise there is none.
        if let Some(seal) = unknown.filter(|seal| state.start_of(seal.epoch).is_none()) {
            report.add(Finding::at(&seal, Problem::Misplaced));
        }
        let (findings, noted) = chain.end(|epoch| state.pruned_in(epoch));
        report.noted = noted;
        findings.into_iter().for_each(|finding| report.add(finding));
        compare(&reader, state, from, &mut report).await?;
        Ok(report)
    }
}

async fn state(reader: &Reader) -> Result<State, Error> {
    reader.state(None).await.map_err(Error::Verify)?.ok_or(Error::NotBegun)
}

/// Walks along the whole chain. Gives a seal of an epoch that is not known yet.
async fn walk(
    reader: &Reader,
    state: &State,
    chain: &mut Chain,
    report: &mut Verification,
) -> Result<Option<Seal>, tokio_postgres::Error> {
    let read = reader.client.prepare(READ).await?;
    let seals = reader.client.query_raw(&read, after(None, ALL)).await?;
    let mut seals = pin!(seals);
    let mut unknown = None;
    while let Some(row) = seals.try_next().await? {
        let seal = Seal::read(&row)?;
        let Some(start) = state.start_of(seal.epoch) else {
            unknown.get_or_insert(seal);
            continue;
        };
        for problem in chain.take(&seal, start) {
            report.add(Finding::at(&seal, problem));
        }
        (report.newest, report.newest_at_us) = (Some(seal.name().to_string()), Some(seal.sealed_at_us));
        if let (Some(epoch), Some((_, _, since))) = (report.epoch(seal.epoch), chain.until()) {
            epoch.seals += 1;
            epoch.has_ended = since == Place::END;
            epoch.sealed_until = since.upto(seal.epoch).to_string();
        }
    }
    Ok(unknown)
}

/// What [`READ`] begins behind, and how many it gives.
fn after(last: Option<(Epoch, u64)>, limit: i64) -> [i64; 3] {
    match last {
        Some((epoch, number)) => [epoch.0.cast_signed().into(), number.cast_signed(), limit],
        None => [i32::MIN.into(), i64::MIN, limit],
    }
}

/// Reads the stretches again.
async fn compare(
    reader: &Reader,
    mut state: State,
    from: Option<Position>,
    report: &mut Verification,
) -> Result<(), Error> {
    let read = reader.client.prepare(READ).await.map_err(Error::Verify)?;
    let mut last = None;
    loop {
        let page = reader.client.query_raw(&read, after(last, SEALS_AT_ONCE)).await.map_err(Error::Verify)?;
        let page: Vec<_> = page.try_collect().await.map_err(Error::Verify)?;
        let seals = page.iter().map(Seal::read).collect::<Result<Vec<_>, _>>().map_err(Error::Verify)?;
        for seal in &seals {
            compare_one(reader, &mut state, from, seal, report).await?;
        }
        let Some(seal) = seals.last() else { break };
        last = Some((seal.epoch, seal.number));
    }
    let pruned = state.pruned.map(|(epoch, lsn)| Position::before(epoch, EndLsn(lsn)).to_string());
    report.pruned = pruned;
    Ok(())
}

/// Reads one stretch again, and counts what came of it.
async fn compare_one(
    reader: &Reader,
    state: &mut State,
    from: Option<Position>,
    seal: &Seal,
    report: &mut Verification,
) -> Result<(), Error> {
    let mut count = Count::Before;
    if from.is_none_or(|from| seal.upto() > from) {
        count = match seal.from < state.pruned_in(seal.epoch) {
            true => Count::Pruned,
            false => look(reader, seal).await?,
        };
        if let Count::Differs(_) = count {
            *state = self::state(reader).await?;
            if seal.from < state.pruned_in(seal.epoch) {
                count = Count::Pruned;
            }
        }
    }
    let known = report.epochs.iter_mut().find(|known| known.epoch == seal.epoch.0);
    match (count, known) {
        (Count::Before, Some(epoch)) => epoch.seals_before += 1,
        (Count::Pruned, Some(epoch)) => epoch.pruned_seals += 1,
        (Count::Good, Some(epoch)) => {
            epoch.good_seals += 1;
            epoch.good_changes += seal.changes.rows;
        }
        (Count::Differs(problems), _) => {
            problems.into_iter().for_each(|problem| report.add(Finding::at(seal, problem)));
        }
        // Sealed since the chain was looked at, or told already.
        (Count::Before | Count::Pruned | Count::Good | Count::Told, _) => {}
    }
    Ok(())
}

/// What came of a stretch.
enum Count {
    Before,
    Pruned,
    Good,
    Told,
    Differs(Vec<Problem>),
}

async fn look(reader: &Reader, seal: &Seal) -> Result<Count, Error> {
    // Its bounds may be what was altered: nothing that is read within them says anything.
    if seal.computed() != seal.digest {
        return Ok(Count::Told);
    }
    let found = async {
        let changes = reader.changes(seal.epoch, seal.from, seal.to, u64::MAX).await?;
        Ok((changes.sum, reader.shapes(seal.epoch, seal.from, seal.to).await?))
    };
    let (changes, shapes) = match found.await {
        Ok(found) => found,
        Err(source) => {
            let sqlstate = damage(&source).ok_or(Error::Verify(source))?;
            return Ok(Count::Differs(vec![Problem::Unreadable { sqlstate }]));
        }
    };
    let mut problems = Vec::new();
    if changes != seal.changes {
        problems.push(Problem::ChangesDiffer { sealed: seal.changes.rows, found: changes.rows });
    }
    if shapes != seal.shapes {
        problems.push(Problem::ShapesDiffer { sealed: seal.shapes.rows, found: shapes.rows });
    }
    Ok(if problems.is_empty() { Count::Good } else { Count::Differs(problems) })
}

/// The code of an error that says that what is stored cannot be read: damage, a value that is none any more, a file that is gone.
fn damage(error: &tokio_postgres::Error) -> Option<String> {
    let code = error.code()?.code();
    ["XX", "22", "58"].iter().any(|class| code.starts_with(class)).then(|| code.to_owned())
}

/// Counts what no seal covers yet.
async fn unsealed(reader: &Reader, state: &State, chain: &Chain) -> Result<Unsealed, tokio_postgres::Error> {
    let sealed = chain.until();
    let mut changes = 0;
    for (epoch, start) in &state.epochs {
        let (start, pruned) = (Place::at(*start), state.pruned_in(*epoch));
        let (before, since) = match sealed {
            Some((last, _, _)) if *epoch < last => continue,
            Some((last, before, since)) if *epoch == last => (before, since),
            _ => (Place::BEGIN, start),
        };
        for (from, to) in [(before.max(pruned), start), (since.max(pruned), Place::END)] {
            if from < to && changes <= UNSEALED_MAX {
                changes += count(reader, *epoch, from, to).await?;
            }
        }
    }
    let is_more = changes > UNSEALED_MAX;
    Ok(Unsealed { changes: changes.min(UNSEALED_MAX).unsigned_abs(), is_more })
}

async fn count(reader: &Reader, epoch: Epoch, from: Place, to: Place) -> Result<i64, tokio_postgres::Error> {
    let ((from_lsn, from_seq), (to_lsn, to_seq)) = (from.columns(), to.columns());
    let most = UNSEALED_MAX + 1;
    let row = reader
        .client
        .query_one(COUNT, &[&epoch.0.cast_signed(), &from_lsn, &from_seq, &to_lsn, &to_seq, &most])
        .await?;
    row.try_get(0)
}
