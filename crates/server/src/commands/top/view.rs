//! What is drawn, for any size of terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table};

use crate::human::{duration, size};
use crate::status::{CaptureStatus, RecentReading, SessionStatus, Severity, Status};

/// What a service has said.
pub(super) struct Shown {
    pub status: Status,
    pub recent: RecentReading,
    /// Why it could not be asked again.
    pub trouble: Option<String>,
}

/// How it is looked at.
#[derive(Default)]
pub(super) struct View {
    pub sort: Sort,
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    pub has_colours: bool,
}

/// By what sessions are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Client,
    State,
    /// The one that is furthest behind first.
    Cursor,
    /// The one that was sent most first.
    Sent,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Sort::Client => Sort::State,
            Sort::State => Sort::Cursor,
            Sort::Cursor => Sort::Sent,
            Sort::Sent => Sort::Client,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sort::Client => "client",
            Sort::State => "state",
            Sort::Cursor => "cursor",
            Sort::Sent => "sent",
        }
    }

    fn order(self, sessions: &mut [&SessionStatus]) {
        match self {
            Sort::Client => sessions.sort_by(|one, other| one.client_id.cmp(&other.client_id)),
            Sort::State => sessions.sort_by(|one, other| one.state.cmp(&other.state)),
            // Cursors are compared as text.
            Sort::Cursor => sessions.sort_by(|one, other| one.cursor.cmp(&other.cursor)),
            Sort::Sent => sessions.sort_by_key(|session| std::cmp::Reverse(session.sent_bytes)),
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown, view: &View) {
    let tables = u16::try_from(shown.status.tables.len().clamp(1, 5)).unwrap_or(5) + 1;
    let [verdict, lag, plot, stages, slot, tables, sessions, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Length(tables),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(verdict_lines(shown, view)), verdict);
    frame.render_widget(Paragraph::new(lag_line(&shown.status)), lag);
    draw_plot(frame, &shown.recent, view, plot);
    frame.render_widget(Paragraph::new(stage_lines(shown.status.capture.as_ref())), stages);
    frame.render_widget(Paragraph::new(slot_line(&shown.status)), slot);
    draw_tables(frame, &shown.status, view, tables);
    draw_sessions(frame, &shown.status, view, sessions);
    frame.render_widget(Paragraph::new(keys_line(view)).style(view.style(Color::DarkGray)), keys);
}

impl View {
    fn style(&self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn of(&self, severity: Severity) -> Style {
        let colour = match severity {
            Severity::Critical => Color::Red,
            Severity::Warning => Color::Yellow,
            Severity::Info | Severity::Ok => Color::Green,
        };
        self.style(colour).add_modifier(Modifier::BOLD)
    }
}

/// What is worst, and what mends it.
fn verdict_lines<'a>(shown: &'a Shown, view: &View) -> Vec<Line<'a>> {
    let name = Span::raw(format!("waldelta {}  ", shown.status.version));
    if let Some(trouble) = &shown.trouble {
        let lost = Span::styled(format!("no answer: {trouble}"), view.of(Severity::Critical));
        return vec![Line::from(vec![name, lost])];
    }
    let worst = shown.status.checks.first().filter(|check| check.severity <= Severity::Warning);
    let Some(worst) = worst else {
        return vec![Line::from(vec![name, Span::styled("all is well", view.of(Severity::Ok))])];
    };
    let words = worst.message.as_deref().unwrap_or(&worst.name);
    let code = worst.code.as_ref().map_or_else(String::new, |code| format!("{code}: "));
    let found = format!("{} {}: {code}{words}", worst.severity.as_str(), worst.of);
    let fix = worst.fix.as_deref().unwrap_or_default();
    vec![Line::from(vec![name, Span::styled(found, view.of(worst.severity))]), Line::raw(fix)]
}

fn lag_line(status: &Status) -> String {
    match (&status.capture, &status.writer) {
        (Some(capture), _) => {
            let seconds =
                capture.lag_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.3} s"));
            format!("capture {}, lag {seconds}, {}", capture.headline(), size(capture.lag_bytes))
        }
        (None, Some(writer)) => writer.headline(),
        (None, None) => String::new(),
    }
}

/// Milliseconds of lag, the newest at the right.
fn draw_plot(frame: &mut Frame<'_>, recent: &RecentReading, view: &View, place: Rect) {
    let newest = recent.samples.iter().rev().take(usize::from(place.width)).rev();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is drawn eight steps high"
    )]
    let data: Vec<u64> =
        newest.map(|sample| (sample.lag_seconds.unwrap_or(0.0).max(0.0) * 1_000.0) as u64).collect();
    frame.render_widget(Sparkline::default().data(data).style(view.style(Color::Blue)), place);
}

fn stage_lines(capture: Option<&CaptureStatus>) -> Vec<Line<'static>> {
    let Some(capture) = capture else { return vec![Line::raw("this process does not capture")] };
    let stage = |name: &str, lsn: &str, behind: Option<u64>| {
        let behind = behind.filter(|bytes| *bytes > 0);
        let behind = behind.map_or_else(String::new, |bytes| format!(" (-{})", size(bytes)));
        format!("{name} {lsn}{behind}")
    };
    vec![
        Line::raw(format!(
            "{} > {}",
            stage("source", &capture.source_lsn, None),
            stage("received", &capture.received_lsn, Some(capture.receive_lag_bytes))
        )),
        Line::raw(format!(
            " > {} > {}",
            stage("decoded", &capture.decoded_lsn, Some(capture.decode_lag_bytes)),
            stage("durable", &capture.durable_lsn, Some(capture.store_lag_bytes))
        )),
        Line::raw(format!(
            " > {}   {} transactions, {} changes",
            stage("reported", &capture.reported_lsn, Some(capture.report_lag_bytes)),
            capture.transactions,
            capture.changes
        )),
    ]
}

fn slot_line(status: &Status) -> String {
    let Some(slot) = &status.slot else { return String::new() };
    let until = slot
        .seconds_until_lost
        .filter(|_| slot.verdict != "ok")
        .map_or_else(String::new, |seconds| format!(", lost in {}", duration(seconds)));
    let room = slot
        .safe_wal_bytes
        .map_or_else(|| "no limit".to_owned(), |bytes| format!("room for {}", size(bytes)));
    let reader = if slot.active { "read" } else { "read by nobody" };
    format!(
        "slot {} {}, {reader}, keeps {}, {room}{until}",
        slot.name,
        slot.verdict,
        size(slot.retained_bytes)
    )
}

fn draw_tables(frame: &mut Frame<'_>, status: &Status, view: &View, place: Rect) {
    let mut tables: Vec<_> = status.tables.iter().collect();
    // The busiest first.
    tables.sort_by(|one, other| other.changes_per_second.total_cmp(&one.changes_per_second));
    let state = |name: &str| {
        let is = |table: &&crate::status::RepairStatus| table.table == name;
        if status.needs_repair.iter().any(|table| is(&table)) {
            ("needs_repair", Severity::Warning)
        } else if status.joining.iter().any(|table| is(&table)) {
            ("joining", Severity::Info)
        } else {
            ("ok", Severity::Ok)
        }
    };
    let rows = tables.iter().map(|table| {
        let (name, severity) = state(&table.table);
        Row::new([
            Cell::from(table.table.as_str()),
            Cell::from(table.changes.to_string()),
            Cell::from(format!("{:.1}/s", table.changes_per_second)),
            Cell::from(name).style(view.of(severity)),
        ])
    });
    let widths =
        [Constraint::Min(20), Constraint::Length(14), Constraint::Length(12), Constraint::Length(13)];
    frame.render_widget(
        Table::new(rows, widths).header(Row::new(["table", "changes", "rate", "state"]).style(bold())),
        place,
    );
}

fn draw_sessions(frame: &mut Frame<'_>, status: &Status, view: &View, place: Rect) {
    let wanted = view.filter.to_lowercase();
    let fits = |session: &&SessionStatus| {
        let subject = session.subject.as_deref().unwrap_or_default();
        [session.session.as_str(), &session.client_id, subject, &session.state]
            .iter()
            .any(|text| text.to_lowercase().contains(&wanted))
    };
    let mut sessions: Vec<&SessionStatus> = status.sessions.iter().filter(fits).collect();
    view.sort.order(&mut sessions);
    let rows = sessions.iter().map(|session| {
        let severity = if session.state == "live" { Severity::Ok } else { Severity::Warning };
        Row::new([
            Cell::from(session.client_id.as_str()),
            Cell::from(session.state.as_str()).style(view.of(severity)),
            Cell::from(session.cursor.as_str()),
            Cell::from(size(session.sent_bytes)),
        ])
    });
    let widths =
        [Constraint::Min(16), Constraint::Length(12), Constraint::Length(36), Constraint::Length(10)];
    let title = format!("{} of {} sessions", sessions.len(), status.sessions.len());
    let header = Row::new([title, "state".into(), "cursor".into(), "sent".into()]).style(bold());
    frame.render_widget(Table::new(rows, widths).header(header), place);
}

fn keys_line(view: &View) -> String {
    if view.is_typing {
        return format!("filter: {}_   Enter keeps it, Esc takes it back", view.filter);
    }
    let pause = if view.is_paused { "p go on (paused)" } else { "p pause" };
    let filter = if view.filter.is_empty() { String::new() } else { format!(" ({})", view.filter) };
    format!("q quit   s sort by: {}   / filter{filter}   {pause}", view.sort.name())
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}
