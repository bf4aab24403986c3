//! What people see on a terminal: colours where they are wanted, texts from elsewhere made harmless, times and ages in few letters.

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many characters of a text from elsewhere are shown.
const LONGEST: usize = 400;

/// Puts colours on texts, or doesn't.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output: colours on a terminal that can show them, unless `NO_COLOR` is set (to anything but nothing).
    pub(crate) fn stdout() -> Self {
        Self { on: is_live(&io::stdout()) && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// None, for tests.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { on: false }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.code("2", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    /// With one of the codes of ANSI terminals.
    pub(crate) fn code(self, code: &str, text: &str) -> String {
        if self.on && !text.trim().is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether this is a terminal on which a line can be drawn again.
pub(crate) fn is_live(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A text from elsewhere on one line, without anything that a terminal would obey, and not too long.
pub(crate) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    let mut characters = text.chars();
    for character in characters.by_ref().take(LONGEST) {
        if character.is_control() || is_deceptive(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Characters that turn the direction of writing, or are not seen at all.
fn is_deceptive(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A time of Redis' clock, in milliseconds since 1970, as RFC 3339 writes it.
pub(crate) fn time(ms: u64) -> String {
    // Any entry id may be written by hand; what no calendar has is shown as the number.
    const LAST: u64 = 253_402_300_799_999;
    if ms > LAST {
        return ms.to_string();
    }
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// How long ago that was, by this machine's clock: `12s`, `3m`, `2h`, `4d`.
pub(crate) fn ago(ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    age(now.saturating_sub(Duration::from_millis(ms)))
}

/// A duration in its largest whole unit.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `10001` as `10,001`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How far long work is, on one line of standard error that is drawn again; nothing if that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    live: bool,
    drawn: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { live: is_live(&io::stderr()), drawn: false }
    }

    pub(crate) fn at(&mut self, text: &str) {
        if self.live {
            eprint!("\r\x1b[2K{text}");
            self.drawn = true;
        }
    }

    /// Takes the line away, so that something else can be written.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_can_not_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(clean("grün `x` \"y\" #1"), "grün `x` \"y\" #1");
        assert_eq!(clean(&"x".repeat(401)), "x".repeat(400) + "…");
    }

    #[test]
    fn ages_have_one_unit() {
        let shown = [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "47h", "2d"]);
    }

    #[test]
    fn times_are_those_of_a_calendar() {
        assert_eq!(time(1_789_000_000_123), "2026-09-10T00:26:40.123Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn thousands_are_set_apart() {
        let written: Vec<String> = [0, 999, 1000, 10_001, 1_234_567].map(thousands).into();
        assert_eq!(written, ["0", "999", "1,000", "10,001", "1,234,567"]);
    }
}
