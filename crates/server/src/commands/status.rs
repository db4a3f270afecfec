//! `waldelta status`: where a running service is.

use std::process::ExitCode;

use waldelta_wal::Code;

use super::answer;
use super::asking::Asking;
use crate::cli::StatusOptions;
use crate::clients::Clients;
use crate::failure::EXIT_FAILED;
use crate::human::{BAD, GOOD, WARNING, styled};
use crate::role::Role;
use crate::service::{ConfigStatus, RuleStatus};
use crate::status::{CaptureStatus, SessionStatus, SlotStatus, Status, WriterStatus};

/// The clients that are shown at most.
const CLIENTS: &str = "/v1/clients?limit=20";

/// Asks the service and shows its answer; exit code 1 when it is not ready.
pub(crate) async fn run(options: &StatusOptions) -> anyhow::Result<ExitCode> {
    let asking = Asking::new(&options.service)?;
    let status: Status = asking.get("/v1/status").await?;
    if options.json {
        answer(serde_json::to_string_pretty(&status)?)?;
    } else {
        show(&status)?;
        // A service that cannot say which clients it knows has said everything else.
        if let Ok(known) = asking.get(CLIENTS).await {
            show_clients(&known)?;
        }
    }
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn show(status: &Status) -> anyhow::Result<()> {
    answer(format_args!(
        "waldelta {}: {}{}",
        status.version,
        if status.ready { styled(GOOD, "ready") } else { styled(BAD, "NOT READY") },
        match status.role {
            Role::All => "",
            Role::Capture => " (captures, serves no clients)",
            Role::Fanout => " (serves clients, does not capture)",
        }
    ))?;
    if let Some(capture) = &status.capture {
        show_capture(capture)?;
    }
    if let Some(writer) = &status.writer {
        show_writer(writer)?;
    }
    for table in &status.needs_repair {
        answer(format_args!(
            "{}    {} since {} ({:.0} s ago): {}: {}",
            styled(WARNING, "REPAIR"),
            table.table,
            table.since_lsn,
            table.since_seconds,
            table.reason,
            table.explanation
        ))?;
    }
    for table in &status.joining {
        answer(format_args!(
            "joining   {} since {} ({:.0} s ago): {}",
            table.table, table.since_lsn, table.since_seconds, table.explanation
        ))?;
        if let Some(waits_for) = &table.waits_for {
            answer(format_args!("          waits for {waits_for}"))?;
        }
    }
    show_config(&status.config)?;
    answer(format_args!("history   epoch {}, head {}", status.history.epoch, status.history.head))?;
    if let Some(kept) = &status.history.retained {
        answer(kept.line())?;
    }
    if let Some(sealed) = &status.history.sealed {
        answer(format_args!("sealed    up to {}: {}", sealed.upto, sealed.seal))?;
    }
    if let Some(capture) = &status.capture {
        show_slot(status.slot.as_ref())?;
        answer(format_args!(
            "stored    {} transactions, {} changes since the start",
            capture.transactions, capture.changes
        ))?;
    }
    if status.role.serves() {
        show_sessions(&status.sessions)?;
    }
    Ok(())
}

fn show_capture(capture: &CaptureStatus) -> anyhow::Result<()> {
    answer(format_args!("capture   {}", capture.headline()))?;
    if let (Some(code), Some(message)) = (&capture.code, &capture.message) {
        answer(format_args!("          {}: {message}", styled(BAD, code)))?;
    }
    if let Some(fix) = &capture.fix {
        answer(format_args!("          fix: {fix}"))?;
    }
    if capture.commits_wait {
        let (code, fix) = (Code::SynchronousStandby.as_str(), Code::SynchronousStandby.explanation().fix);
        let mark = styled(WARNING, "WARNING");
        answer(format_args!("{mark}   {code}: commits at the source wait for capture"))?;
        answer(format_args!("          fix: {fix}"))?;
    }
    let seconds =
        capture.lag_seconds.map_or_else(|| "not known in seconds".to_owned(), |s| format!("{s:.3} s"));
    answer(format_args!(
        "lag       {} bytes (to receive {}, to decode {}, to store {}, to report {}), {seconds}",
        capture.lag_bytes,
        capture.receive_lag_bytes,
        capture.decode_lag_bytes,
        capture.store_lag_bytes,
        capture.report_lag_bytes
    ))?;
    answer(format_args!(
        "lsn       source {}, received {}, decoded {}, durable {}, reported {}",
        capture.source_lsn,
        capture.received_lsn,
        capture.decoded_lsn,
        capture.durable_lsn,
        capture.reported_lsn
    ))
}

fn show_config(config: &ConfigStatus) -> anyhow::Result<()> {
    if let (Some(code), Some(message)) = (&config.code, &config.message) {
        let mark = styled(BAD, "CONFIG");
        answer(format_args!("{mark}    the file is not taken: {code}: {message}"))?;
        answer(format_args!("          what was read {:.0} s ago is in force", config.read_seconds))?;
    }
    for setting in &config.waiting {
        answer(format_args!("config    {setting} differs in the file and waits for a restart"))?;
    }
    for rule in &config.rules {
        let RuleStatus { rule: number, table, code, message, fix } = rule;
        let mark = styled(WARNING, "RULE");
        answer(format_args!("{mark}      {number}, for {table}: {code}: {message}"))?;
        if let Some(fix) = fix {
            answer(format_args!("          fix: {fix};"))?;
        }
    }
    Ok(())
}

fn show_writer(writer: &WriterStatus) -> anyhow::Result<()> {
    answer(format_args!("writer    {}", writer.headline()))?;
    if let (Some(code), Some(fix)) = (&writer.code, &writer.fix) {
        answer(format_args!("          {code}: {fix}"))?;
    }
    match writer.unmoved_seconds {
        Some(unmoved) => answer(format_args!("moved     {unmoved:.1} s ago")),
        None => Ok(()),
    }
}

fn show_sessions(sessions: &[SessionStatus]) -> anyhow::Result<()> {
    answer(format_args!("sessions  {}", sessions.len()))?;
    for session in sessions {
        answer(format_args!(
            "  {}  {}  {}  at {}  acked {}  {} bytes",
            session.session,
            session.client_id,
            session.state,
            session.cursor,
            session.acked.as_deref().unwrap_or("never"),
            session.sent_bytes
        ))?;
    }
    Ok(())
}

fn show_clients(known: &Clients) -> anyhow::Result<()> {
    if known.clients.is_empty() {
        return Ok(());
    }
    answer(
        "clients   those that were here last, on any process (forgotten after server.forget_clients_after_days)",
    )?;
    for client in &known.clients {
        answer(format_args!(
            "  {}  {}seen {}  acked {}  {}",
            client.client_id,
            if client.connected { "connected  " } else { "" },
            client.seen_at,
            client.acked.as_deref().unwrap_or("never"),
            client.user_agent.as_deref().unwrap_or("")
        ))?;
    }
    Ok(())
}

fn show_slot(slot: Option<&SlotStatus>) -> anyhow::Result<()> {
    let Some(slot) = slot else {
        return answer("slot      unknown: the source did not tell, or there is none");
    };
    let active = if slot.active { "active" } else { "inactive" };
    answer(format_args!("slot      {} ({active}), {}", slot.name, slot.room()))?;
    if let Some(fix) = &slot.fix {
        answer(format_args!("          {}: {fix}", styled(WARNING, slot.verdict.to_uppercase())))?;
    }
    Ok(())
}
