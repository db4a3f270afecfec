//! `waldelta top`: a running service, watched from a terminal.

mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;

use self::view::{Shown, View};
use super::answer;
use super::asking::Asking;
use crate::cli::TopOptions;
use crate::human;

/// What a pipe is as wide and high as.
const SIZE: (u16, u16) = (80, 24);
/// A key is looked for at least so often.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// It is asked no faster.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Watches until `q`, or prints what there is once.
pub(crate) async fn run(options: &TopOptions) -> anyhow::Result<ExitCode> {
    let asking = Asking::new(&options.service)?;
    let shown = ask(&asking).await?;
    let view = View { has_colours: human::are_coloured(), ..View::default() };
    let interval = Duration::from_millis(options.interval_ms).max(INTERVAL_MIN);
    if options.json {
        return print(&asking, shown, (!options.once).then_some(interval)).await;
    }
    if options.once {
        let (width, height) = terminal::size().unwrap_or(SIZE);
        answer(lines(&shown, &view, width, height)?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::try_init().context("take over the terminal")?;
    let ended = watch(&mut terminal, &asking, shown, view, interval).await;
    ratatui::restore();
    ended.map(|()| ExitCode::SUCCESS)
}

/// An object a line, again and again, until nobody reads it or the service does not answer any more.
async fn print(
    asking: &Asking<'_>,
    mut shown: Shown,
    interval: Option<Duration>,
) -> anyhow::Result<ExitCode> {
    loop {
        let Shown { status, recent, .. } = &shown;
        answer(serde_json::json!({"status": status, "recent": recent}))?;
        let Some(interval) = interval else { return Ok(ExitCode::SUCCESS) };
        tokio::time::sleep(interval).await;
        shown = ask(asking).await?;
    }
}

async fn ask(asking: &Asking<'_>) -> anyhow::Result<Shown> {
    let status = asking.get("/v1/status").await?;
    // A service that cannot say what was has said what is.
    let recent = asking.get("/v1/recent").await.unwrap_or_default();
    Ok(Shown { status, recent, trouble: None })
}

async fn watch(
    terminal: &mut DefaultTerminal,
    asking: &Asking<'_>,
    mut shown: Shown,
    mut view: View,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut ask_at = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, &shown, &view)).context("draw")?;
        let patience = ask_at.saturating_duration_since(Instant::now()).min(KEYS_EVERY);
        let key = tokio::task::spawn_blocking(move || key(patience)).await.context("read a key")??;
        if key.is_some_and(|key| !take(&mut view, key)) {
            return Ok(());
        }
        if Instant::now() >= ask_at && !view.is_paused {
            match ask(asking).await {
                Ok(fresh) => shown = fresh,
                // What was known is still shown.
                Err(error) => shown.trouble = Some(format!("{error:#}")),
            }
            ask_at = Instant::now() + interval;
        }
    }
}

/// The next key, if it comes in time.
fn key(patience: Duration) -> anyhow::Result<Option<KeyEvent>> {
    if !event::poll(patience)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => Some(key),
        _ => None,
    })
}

/// Does what a key says; false: it is over.
fn take(view: &mut View, key: KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if is_interrupt => return false,
        KeyCode::Enter if view.is_typing => view.is_typing = false,
        KeyCode::Esc if view.is_typing => (view.is_typing, view.filter) = (false, String::new()),
        KeyCode::Backspace if view.is_typing => drop(view.filter.pop()),
        KeyCode::Char(letter) if view.is_typing => view.filter.push(letter),
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('/') => view.is_typing = true,
        KeyCode::Char('s') => view.sort = view.sort.next(),
        KeyCode::Char('p') => view.is_paused = !view.is_paused,
        _ => {}
    }
    true
}

/// All of it as text.
fn lines(shown: &Shown, view: &View, width: u16, height: u16) -> anyhow::Result<String> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).context("draw")?;
    terminal.draw(|frame| view::draw(frame, shown, view)).context("draw")?;
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width.max(1)));
    let lines =
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{busy, recent};

    fn shown() -> Shown {
        Shown { status: busy(), recent: recent(), trouble: None }
    }

    #[test]
    fn all_of_it_has_room_on_the_smallest_terminal() {
        let text = lines(&shown(), &View::default(), 80, 24).unwrap();
        for part in [
            "waldelta 0",
            "warning",
            "raise it",
            "lag",
            "source",
            "durable",
            "slot",
            "public.t",
            "needs_repair",
            "web-1",
            "live",
            "q quit",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 24, "{text}");
        // Nothing fits, and nothing panics.
        for (width, height) in [(1, 1), (20, 3), (300, 100)] {
            lines(&shown(), &View::default(), width, height).unwrap();
        }
    }

    #[test]
    fn keys_sort_filter_pause_and_end_it() {
        let press = |view: &mut View, code| take(view, KeyEvent::new(code, KeyModifiers::NONE));
        let mut view = View::default();
        assert!(press(&mut view, KeyCode::Char('p')) && view.is_paused);
        let first = view.sort;
        assert!(press(&mut view, KeyCode::Char('s')) && view.sort != first);
        for letter in "/web-2".chars() {
            assert!(press(&mut view, KeyCode::Char(letter)));
        }
        assert_eq!((view.filter.as_str(), view.is_typing), ("web-2", true));
        let text = lines(&shown(), &view, 80, 24).unwrap();
        assert!(text.contains("web-2") && !text.contains("web-1"), "{text}");
        assert!(press(&mut view, KeyCode::Char('q')), "it is typed");
        assert!(press(&mut view, KeyCode::Backspace) && press(&mut view, KeyCode::Enter) && !view.is_typing);
        assert!(
            press(&mut view, KeyCode::Char('/')) && press(&mut view, KeyCode::Esc) && view.filter.is_empty()
        );
        assert!(!press(&mut view, KeyCode::Char('q')));
        assert!(!take(&mut view, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn sessions_come_in_the_order_that_is_asked_for() {
        let mut view = View::default();
        let order = |view: &View| {
            let text = lines(&shown(), view, 80, 24).unwrap();
            let place = |client: &str| text.find(client).unwrap_or_else(|| panic!("{client}: {text}"));
            place("web-1") < place("web-2")
        };
        assert!(order(&view), "by client");
        while view.sort != view::Sort::Sent {
            view.sort = view.sort.next();
        }
        assert!(!order(&view), "the most first");
    }
}
