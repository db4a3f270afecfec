//! Transactions that stay open: a new slot, a table that is added, and the WAL that is kept wait for them.

use waldelta_wal::{Code, quote_ident};

use super::{Check, Subject};
use crate::Error;
use crate::ask::{ask, ask_one, literal};

pub(super) async fn transactions(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "transactions";
    let sql = include_str!("../../../../sql/source/check_transactions.sql");
    let limit = subject.options.old_transaction.as_secs_f64();
    let rows = ask(subject.client, "look for long transactions", sql, &[&limit]).await?;
    let (mut found, mut fixes) = (Vec::new(), Vec::new());
    for row in &rows {
        let (pid, user, database): (i32, &str, &str) =
            (row.read("pid")?, row.read("user_name")?, row.read("database")?);
        let holds = if row.read("writes")? { "has written" } else { "holds a snapshot" };
        let (state, since): (&str, &str) = (row.read("state")?, row.read("since")?);
        found.push(format!("pid {pid} ({user} in {database}, {state}) {holds}, open since {since}"));
        fixes.push(format!("SELECT pg_terminate_backend({pid});"));
    }
    if !found.is_empty() {
        let fix = fixes.join("\n");
        return Ok(Check::warning(NAME, Code::LongTransaction, found.join("; "), fix));
    }
    let sql = "SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all";
    if !ask_one(subject.client, "ask whose transactions can be seen", sql, &[])
        .await?
        .read::<bool>("sees_all")?
    {
        let found = "since when transactions of other roles are open may not be seen";
        let fix = format!("GRANT pg_read_all_stats TO {};", quote_ident(subject.source.target.user()));
        return Ok(Check::unknown(NAME, Code::PrivilegeMissing, found, Some(fix)));
    }
    Ok(Check::ok(NAME, "no transaction has been open for long"))
}

pub(super) async fn prepared(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "prepared";
    let sql = "SELECT gid, owner::text, database::text, date_trunc('second', prepared)::text AS since
               FROM pg_prepared_xacts WHERE prepared < now() - make_interval(secs => $1) ORDER BY prepared LIMIT 20";
    let limit = subject.options.old_transaction.as_secs_f64();
    let rows = ask(subject.client, "look for prepared transactions", sql, &[&limit]).await?;
    let (mut found, mut fixes) = (Vec::new(), Vec::new());
    for row in &rows {
        let (gid, owner, database): (&str, &str, &str) =
            (row.read("gid")?, row.read("owner")?, row.read("database")?);
        found.push(format!("{} ({owner} in {database}) since {}", literal(gid), row.read::<&str>("since")?));
        fixes.push(format!("ROLLBACK PREPARED {}; -- or COMMIT PREPARED", literal(gid)));
    }
    if found.is_empty() {
        return Ok(Check::ok(NAME, "no transaction has been prepared for long"));
    }
    Ok(Check::warning(NAME, Code::PreparedTransaction, found.join("; "), fixes.join("\n")))
}
