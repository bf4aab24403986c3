//! What the demo says on the terminal: headings, rows, one progress line. It decides about colours and redrawing, and about nothing else.
//!
//! Into a pipe or a file it writes plain lines; `NO_COLOR` (any value but the empty one) takes the colours off a terminal too.

use std::io::{self, Write};
use std::time::{Duration, Instant};

pub(crate) use crate::terminal::thousands;
use crate::terminal::{Paint, is_live};

/// A plain line of progress is written at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(1);
const BAR: usize = 32;

/// The terminal, or what stands in for it.
pub(crate) struct Screen {
    live: bool,
    paint: Paint,
    last_progress: Option<Instant>,
}

impl Screen {
    /// Standard output as it is.
    pub(crate) fn stdout() -> Self {
        Self { live: is_live(&io::stdout()), paint: Paint::stdout(), last_progress: None }
    }

    pub(crate) fn blank(&self) {
        self.put("\n");
    }

    pub(crate) fn heading(&self, text: &str) {
        self.put(&format!("\n  {}\n", self.paint("1", text)));
    }

    /// A label and what there is to say of it.
    pub(crate) fn row(&self, label: &str, text: &str) {
        self.put(&format!("    {} {text}\n", self.paint("2", &format!("{label:<23}"))));
    }

    /// A label, two right-aligned figures and a remark: a row of a comparison.
    pub(crate) fn compare(&self, label: &str, [before, after]: [&str; 2], remark: &str) {
        let label = self.paint("2", &format!("{label:<23}"));
        let row = format!("    {label} {before:>12} {}   {}", self.paint("1", &format!("{after:>12}")), self.paint("2", remark));
        self.put(&format!("{}\n", row.trim_end()));
    }

    pub(crate) fn remark(&self, text: &str) {
        self.put(&format!("    {}\n", self.paint("2", text)));
    }

    pub(crate) fn good(&self, text: &str) {
        self.put(&format!("\n  {} {}\n", self.paint("32", "✓"), self.paint("1", text)));
    }

    pub(crate) fn bad(&self, text: &str) {
        self.put(&format!("\n  {} {}\n", self.paint("31", "✗"), self.paint("1", text)));
    }

    /// How far the work is: redrawn in place on a terminal, a line a second elsewhere.
    pub(crate) fn progress(&mut self, done: usize, total: usize, note: &str) {
        let figures = format!("{} / {} events   {note}", thousands(done as u64), thousands(total as u64));
        if self.live {
            let filled = BAR * done / total.max(1);
            let bar = format!("{}{}", self.paint("36", &"━".repeat(filled)), self.paint("2", &"━".repeat(BAR - filled)));
            self.put(&format!("\r\x1b[2K  {bar}  {figures}"));
        } else if self.last_progress.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) || done == total {
            self.last_progress = Some(Instant::now());
            self.put(&format!("  {figures}\n"));
        }
    }

    /// Leaves the progress line as it stands and goes on below it.
    pub(crate) fn end_progress(&self) {
        if self.live {
            self.put("\n");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        self.paint.code(code, text)
    }

    /// A reader that went away (`| head`) is no reason to stop: the exit code still tells the outcome.
    #[expect(clippy::unused_self, reason = "the one way out of this type")]
    fn put(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A duration in milliseconds with as many places as are worth reading.
pub(crate) fn millis(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_keep_a_decimal() {
        assert_eq!(millis(Duration::from_micros(1_840)), "1.8 ms");
        assert_eq!(millis(Duration::from_micros(23_400)), "23 ms");
    }
}
