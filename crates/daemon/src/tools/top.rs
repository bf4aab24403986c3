//! `unstale top`: one sidecar on a terminal, as it moves: the same numbers as its live page, from the same answer (`GET /v1/overview`).
//!
//! What is drawn is a pure function of the last answers; the loop around it asks, draws and listens for keys.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};
use serde_json::Value;

use super::stats::connect;
use crate::cli::{Exit, Sidecar, Top};
use crate::commands::{complain, fail};
use crate::config::Loaded;
use crate::terminal::{age, clean, thousands};
use crate::web::Connection;

/// How often it asks.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Over how long rates and ages are taken.
const WINDOW: Duration = Duration::from_secs(15);
/// How many answers are kept, for the curves.
const KEPT: usize = 240;
const LANES: [&str; 4] = ["critical", "high", "normal", "low"];

/// The command.
pub async fn run(loaded: &Loaded, args: &Top) -> Exit {
    if !io::stdout().is_terminal() {
        complain("top needs a terminal; `unstale stats` prints the counts, and `GET /v1/overview` has all that top shows");
        return Exit::Usage;
    }
    // Asked once before the screen is taken, so that what is wrong can be read.
    if let Err(why) = connect(loaded, &args.sidecar).await {
        return fail(why);
    }
    let mut terminal = ratatui::init();
    let ended = Box::pin(watch(&mut terminal, loaded, &args.sidecar)).await;
    ratatui::restore();
    ended.map_or_else(|error| fail(format_args!("the terminal: {error}")), |()| Exit::Done)
}

async fn watch(terminal: &mut DefaultTerminal, loaded: &Loaded, sidecar: &Sidecar) -> io::Result<()> {
    let (mut view, mut connection) = (View::default(), None);
    loop {
        if !view.paused {
            view.answered(ask(&mut connection, loaded, sidecar).await);
        }
        terminal.draw(|frame| view.draw(frame))?;
        match tokio::task::block_in_place(|| key(EVERY))? {
            Some(Key::Quit) => return Ok(()),
            Some(Key::Pause) => view.paused = !view.paused,
            None => {}
        }
    }
}

/// Asks once, over a connection that is made anew after a failure.
async fn ask(connection: &mut Option<Connection>, loaded: &Loaded, sidecar: &Sidecar) -> Result<Value, String> {
    let asked = async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => connect(loaded, sidecar).await?,
        };
        let answer = open.json("/v1/overview").await.map_err(|why| why.to_string())?;
        *connection = Some(open);
        Ok(answer)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

enum Key {
    Quit,
    Pause,
}

/// The next key that means something, within this time; a change of the window's size ends the wait, too.
fn key(within: Duration) -> io::Result<Option<Key>> {
    if !event::poll(within)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => meaning(key),
        _ => None,
    })
}

fn meaning(key: KeyEvent) -> Option<Key> {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char(' ' | 'p') => Some(Key::Pause),
        _ => None,
    }
}

/// What is shown.
#[derive(Default)]
struct View {
    samples: VecDeque<(Instant, Value)>,
    problem: Option<String>,
    paused: bool,
}

impl View {
    fn answered(&mut self, answer: Result<Value, String>) {
        self.problem = answer.as_ref().err().cloned();
        let Ok(answer) = answer else { return };
        // Another process answers: nothing of before can be compared with it.
        if self.samples.back().is_some_and(|(_, last)| last["instance"] != answer["instance"]) {
            self.samples.clear();
        }
        self.samples.push_back((Instant::now(), answer));
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
    }

    fn now(&self) -> &Value {
        self.samples.back().map_or(&Value::Null, |(_, answer)| answer)
    }

    /// The answer to compare the newest with, and the seconds between.
    fn before(&self) -> (&Value, f64) {
        let Some((newest, _)) = self.samples.back() else { return (&Value::Null, 0.0) };
        let old = self.samples.iter().find(|(at, _)| newest.duration_since(*at) <= WINDOW);
        old.map_or((&Value::Null, 0.0), |(at, answer)| (answer, newest.duration_since(*at).as_secs_f64()))
    }

    /// How fast a count grows, each second.
    fn rate(&self, count: impl Fn(&Value) -> u64) -> Option<f64> {
        let (old, seconds) = self.before();
        (seconds > 0.5).then(|| real(count(self.now()).saturating_sub(count(old))) / seconds)
    }

    /// The age that a share of the last events stayed below, in seconds.
    fn age(&self, lane: &str, share: f64) -> Option<f64> {
        let counts = |answer: &Value| answer["lanes"][lane]["ages"].as_array().into_iter().flatten().map(whole).collect::<Vec<_>>();
        let (now, old) = (counts(self.now()), counts(self.before().0));
        let grown: Vec<u64> = now.iter().zip(old.iter().chain(std::iter::repeat(&0))).map(|(now, old)| now.saturating_sub(*old)).collect();
        let bounds: Vec<f64> = self.now()["age_bounds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        quantile(&bounds, &grown, share)
    }

    /// How a count grew from answer to answer.
    fn curve(&self, count: impl Fn(&Value) -> u64) -> Vec<u64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs.map(|((_, old), (_, new))| count(new).saturating_sub(count(old))).collect()
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let now = self.now();
        let problems = self.problems();
        let caches = now["stats"]["caches"].as_object().map_or(0, serde_json::Map::len);
        let instances = now["shared"]["instances"].as_array().map_or(0, Vec::len);
        let rows = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2);
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(u16::try_from(problems.len()).unwrap_or(3)),
            Constraint::Length(5),
            Constraint::Length(6),
            Constraint::Length(rows(caches).min(12)),
            Constraint::Length(rows(instances).min(8)),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas::<8>(frame.area());
        frame.render_widget(self.title(), areas[0]);
        frame.render_widget(Paragraph::new(problems).style(Color::Yellow), areas[1]);
        self.draw_figures(frame, areas[2]);
        let [lanes, streams] = Layout::horizontal([Constraint::Fill(1); 2]).areas(areas[3]);
        frame.render_widget(self.lanes(), lanes);
        frame.render_widget(self.streams(), streams);
        frame.render_widget(self.caches(), areas[4]);
        frame.render_widget(self.instances(), areas[5]);
        frame.render_widget(self.notices(), areas[6]);
        let keys = if self.paused { "paused   space goes on   q quits" } else { "space pauses   q quits" };
        frame.render_widget(Line::styled(keys, Modifier::DIM), areas[7]);
    }

    fn title(&self) -> Line<'_> {
        let now = self.now();
        let status = now["health"]["status"].as_str().unwrap_or("no answer yet");
        let color = match status {
            "ok" => Color::Green,
            "degraded" => Color::Yellow,
            _ => Color::Red,
        };
        let role = if now["reader"] == true { "reads the ordinary stream" } else { "stands by" };
        let rest = format!("  {} · {} · {} · {role}", text(&now["instance"]), text(&now["namespace"]), text(&now["version"]));
        Line::from(vec![
            Span::styled("unstale ", Modifier::BOLD),
            Span::styled(status.to_owned(), Style::new().fg(color).add_modifier(Modifier::BOLD)),
            Span::raw(rest),
        ])
    }

    fn problems(&self) -> Vec<Line<'_>> {
        let now = self.now();
        let reasons = now["health"]["reasons"].as_array().into_iter().flatten().map(|reason| text(&reason["detail"]));
        let shared = now["why"].as_str().map(|why| format!("what is shared can't be shown: {}", clean(why)));
        let own =
            self.problem.as_deref().map(|why| format!("no answer, this was the last: {}", clean(why.lines().next().unwrap_or_default())));
        own.into_iter().chain(reasons).chain(shared).take(4).map(Line::from).collect()
    }

    fn draw_figures(&self, frame: &mut Frame<'_>, area: Rect) {
        let deleted = |answer: &Value| whole(&answer["stats"]["totals"]["keys_deleted"]);
        let errors = |answer: &Value| whole(&answer["stats"]["totals"]["errors"]);
        let p99 = LANES.iter().filter_map(|lane| self.age(lane, 0.99)).reduce(f64::max);
        let depth = self.samples.iter().map(|(_, answer)| whole(&answer["stats"]["depth"])).collect();
        let figures = [
            ("events", per_second(self.rate(events)), self.curve(events)),
            ("keys deleted", per_second(self.rate(deleted)), self.curve(deleted)),
            ("age, p99", seconds(p99), Vec::new()),
            ("unread or unfinished", thousands(whole(&self.now()["stats"]["depth"])), depth),
            ("errors", per_second(self.rate(errors)), self.curve(errors)),
        ];
        let areas = Layout::horizontal([Constraint::Fill(1); 5]).areas::<5>(area);
        for ((title, value, curve), area) in figures.into_iter().zip(areas) {
            figure(frame, area, title, value, &curve);
        }
    }

    fn lanes(&self) -> Table<'_> {
        let row = |lane: &&str| {
            let counted = |answer: &Value| answer["lanes"][*lane]["ages"].as_array().and_then(|ages| ages.last()).map_or(0, whole);
            let ages = [self.age(lane, 0.5), self.age(lane, 0.99)].map(seconds);
            let waiting = thousands(whole(&self.now()["lanes"][*lane]["waiting"]));
            cells(&[(*lane).to_owned(), per_second(self.rate(counted)), waiting, ages[0].clone(), ages[1].clone()])
        };
        table("lanes", &["", "events", "waiting", "age p50", "p99"], LANES.iter().map(row))
    }

    fn streams(&self) -> Table<'_> {
        let streams = self.now()["streams"].as_array().into_iter().flatten();
        let row = move |stream: &Value| {
            let oldest = age(Duration::from_millis(whole(&stream["oldest_pending_ms"])));
            cells(&[text(&stream["key"]), thousands(whole(&stream["lag"])), thousands(whole(&stream["pending"])), oldest])
        };
        table("streams", &["", "unread", "unfinished", "oldest"], streams.map(row))
    }

    fn caches(&self) -> Table<'_> {
        let caches = self.now()["stats"]["caches"].as_object().into_iter().flatten();
        let row = move |(name, counts): (&String, &Value)| {
            let queued = self.rate(|answer| whole(&answer["stats"]["caches"][name]["queued"]));
            let saved = format!("{:.0} %", counts["coalescing_rate"].as_f64().unwrap_or(0.0) * 100.0);
            let rest = ["keys_deleted", "pending", "failed", "errors"].map(|count| thousands(whole(&counts[count])));
            cells(&[&[clean(name), per_second(queued), thousands(whole(&counts["queued"])), saved], &rest[..]].concat())
        };
        table("caches", &["", "targets", "asked for", "saved", "deleted", "under way", "failed", "errors"], caches.map(row))
    }

    fn instances(&self) -> Table<'_> {
        let instances = self.now()["shared"]["instances"].as_array().into_iter().flatten();
        let row = |instance: &Value| {
            let role = if instance["reader"] == true { "reads" } else { "stands by" };
            let behind = instance["behind"].as_u64().map_or_else(|| "–".to_owned(), thousands);
            let beat = format!("{} ago", age(Duration::from_millis(whole(&instance["beat_ms"]))));
            cells(&[text(&instance["name"]), role.to_owned(), beat, behind])
        };
        let dead = whole(&self.now()["shared"]["dead_letters"]["total"]);
        let title = if dead == 0 {
            "instances".to_owned()
        } else {
            format!("instances   {} dead letters: unstale dead-letters list", thousands(dead))
        };
        table(title, &["", "role", "beat", "behind"], instances.map(row))
    }

    fn notices(&self) -> Paragraph<'_> {
        let shared = &self.now()["shared"];
        let lines = shared["notices"].as_array().into_iter().flatten().map(|notice| {
            let ago = age(Duration::from_millis(whole(&shared["time"]).saturating_sub(whole(&notice["at"]))));
            let priority = notice["priority"].as_str().unwrap_or("flush");
            Line::from(format!("#{:<8} {ago:>4}  {priority:<8} {}", whole(&notice["seq"]), what(notice)))
        });
        Paragraph::new(lines.collect::<Vec<_>>()).block(Block::new().title(Line::styled("last notices", Modifier::DIM)))
    }
}

fn events(answer: &Value) -> u64 {
    answer["events"].as_object().into_iter().flatten().map(|(_, count)| whole(count)).sum()
}

/// What a notice drops.
fn what(notice: &Value) -> String {
    let texts = |list: &Value| list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
    let drops = notice["drop"].as_array().into_iter().flatten();
    let drop = |drop: &Value| format!("{} {} {}", text(&drop["cache"]), texts(&drop["keys"]), texts(&drop["patterns"]));
    let dropped = drops.map(drop).collect::<Vec<_>>().join("; ");
    if dropped.is_empty() { texts(&notice["flush"]) } else { dropped }
}

fn figure(frame: &mut Frame<'_>, area: Rect, title: &str, value: String, curve: &[u64]) {
    let [head, body, line] = Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::styled(title.to_owned(), Modifier::DIM), head);
    frame.render_widget(Line::styled(value, Modifier::BOLD), body);
    let width = usize::from(line.width.saturating_sub(2));
    let newest = &curve[curve.len().saturating_sub(width)..];
    frame.render_widget(Sparkline::default().data(newest).style(Color::Cyan), line);
}

/// A table with room for a name, and figures beside it.
fn table<'a>(title: impl Into<String>, head: &[&'static str], rows: impl Iterator<Item = Row<'a>>) -> Table<'a> {
    let widths = head.iter().enumerate().map(|(column, _)| if column == 0 { Constraint::Max(28) } else { Constraint::Length(11) });
    let head = head.iter().enumerate().map(|(column, name)| {
        let name = if column == 0 { String::new() } else { format!("{name:>10}") };
        Cell::new(name)
    });
    Table::new(rows, widths)
        .flex(Flex::Start)
        .header(Row::new(head).style(Modifier::DIM))
        .block(Block::new().title(Line::styled(title.into(), Modifier::DIM)))
}

fn cells<'a>(texts: &[String]) -> Row<'a> {
    let cell = |(column, text): (usize, &String)| if column == 0 { text.clone() } else { format!("{text:>10}") };
    Row::new(texts.iter().enumerate().map(cell))
}

fn text(value: &Value) -> String {
    clean(value.as_str().unwrap_or_default())
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 takes centuries")]
fn real(count: u64) -> f64 {
    count as f64
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "–".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{rate:.0}/s"),
    }
}

fn seconds(age: Option<f64>) -> String {
    match age {
        None => "–".to_owned(),
        Some(age) if age.is_infinite() => "> 30 s".to_owned(),
        Some(age) if age < 0.01 => format!("{:.1} ms", age * 1000.0),
        Some(age) if age < 1.0 => format!("{:.0} ms", age * 1000.0),
        Some(age) => format!("{age:.1} s"),
    }
}

/// The value below which a share of observations lies, from counts of those at most as large as each bound, and of all: between two bounds they are
/// taken as evenly spread, as Prometheus does.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all = counts.last().copied().filter(|all| *all > 0)?;
    let wanted = real(all) * share;
    let at = counts.iter().position(|count| real(*count) >= wanted)?;
    let Some(high) = bounds.get(at) else { return Some(f64::INFINITY) };
    let (low, below) = at.checked_sub(1).map_or((0.0, 0), |before| (bounds[before], counts[before]));
    Some(low + (high - low) * (wanted - real(below)) / real((counts[at] - below).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn answer(routed: u64) -> Value {
        let lane = |ages: [u64; 3]| json!({"waiting": 2, "ages": ages});
        let counts = json!({"queued": routed, "coalescing_rate": 0.25, "keys_deleted": routed, "pending": 3, "failed": 0, "errors": 7});
        json!({
            "instance": "api-1-abcde", "namespace": "shop", "version": "9.9.9", "reader": true, "why": null,
            "health": {"status": "degraded", "reasons": [{"code": "lag", "detail": "11 entries unread\u{1b}[2J"}]},
            "events": {"routed": routed, "unrouted": 0, "dead_lettered": 0}, "age_bounds": [0.1, 1.0],
            "lanes": {"critical": lane([routed, routed, routed]), "high": lane([0; 3]), "normal": lane([0; 3]), "low": lane([0; 3])},
            "streams": [{"key": "shop:events", "lag": 11, "pending": 1234, "oldest_pending_ms": 61_000}],
            "stats": {"totals": counts, "caches": {"product": counts}, "depth": 1245},
            "shared": {
                "time": 10_000, "instances": [{"name": "api-1-abcde", "beat_ms": 900, "reader": true, "behind": null}],
                "notices": [{"seq": 47, "at": 7_000, "priority": "high", "flush": [], "drop": [{"cache": "product", "keys": ["#00000001"], "patterns": []}]}],
                "dead_letters": {"total": 3, "newest": []},
            },
        })
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn one_screen_shows_all_that_matters() {
        let mut view = View::default();
        let start = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        view.samples.push_back((start, answer(100)));
        view.samples.push_back((start + Duration::from_secs(10), answer(600)));
        let screen = drawn(&view, 120, 30);
        for part in [
            "unstale degraded  api-1-abcde · shop · 9.9.9 · reads the ordinary stream",
            "11 entries unread\\u{1b}[2J",
            "50/s",
            "99 ms",
            "1,245",
            "shop:events",
            "25 %",
            "instances   3 dead letters: unstale dead-letters list",
            "#47         3s  high     product #00000001",
            "space pauses   q quits",
        ] {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
    }

    #[test]
    fn small_and_empty_screens_do_no_harm() {
        let mut view = View::default();
        for (width, height) in [(1, 1), (20, 5), (80, 24)] {
            drawn(&view, width, height);
        }
        view.answered(Err("can't reach http://127.0.0.1:1".into()));
        assert!(drawn(&view, 80, 24).contains("no answer, this was the last: can't reach"), "{}", drawn(&view, 80, 24));
        view.answered(Ok(answer(1)));
        for (width, height) in [(1, 1), (20, 5), (80, 24)] {
            drawn(&view, width, height);
        }
        assert!(!drawn(&view, 80, 24).contains("no answer"));
    }

    #[test]
    fn another_process_begins_anew() {
        let mut view = View::default();
        view.answered(Ok(answer(100)));
        let mut other = answer(1);
        other["instance"] = json!("api-1-other");
        view.answered(Ok(other));
        assert_eq!(view.samples.len(), 1);
    }

    #[test]
    fn quantiles_lie_between_the_bounds_of_their_bucket() {
        let bounds = [0.1, 1.0];
        let of = |counts: [u64; 3], share| quantile(&bounds, &counts, share).map(|value| (value * 1000.0).round() / 1000.0);
        assert_eq!(of([0, 0, 0], 0.5), None);
        assert_eq!(of([10, 10, 10], 0.5), Some(0.05));
        assert_eq!(of([0, 10, 10], 0.5), Some(0.55));
        assert_eq!(of([0, 0, 10], 0.5), Some(f64::INFINITY));
    }
}
