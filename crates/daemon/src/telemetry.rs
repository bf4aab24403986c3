//! The log: text for people or JSON for programs, on standard error; and repeated warnings at most once a second.
//!
//! Metrics are not here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber, callsite};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Within this time a warning of the same place in the code is written once.
const QUIET: Duration = Duration::from_secs(1);

/// Starts the log. A second call changes nothing.
pub fn init(log: &Log) {
    let level = parse_level(&log.level).unwrap_or_default();
    let output = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let output = match log.format {
        LogFormat::Text => output.event_format(Quiet::new(format::format(), |count| format!(" repeated={count}"), "")).boxed(),
        LogFormat::Json => {
            let json = format::format().json().flatten_event(true).with_span_list(false);
            output.json().event_format(Quiet::new(json, |count| format!(",\"repeated\":{count}}}"), "}")).boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(level).with(output).try_init();
}

/// A level, or levels of single modules.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_level(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |level: &str| LEVELS.contains(&level.to_ascii_lowercase().as_str());
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !known(level) {
            return Err(format!("{level:?} is no level"));
        }
    }
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())
}

/// A format that writes the first warning or error of a place in the code at once, and then at most one a second, with the count of
/// those that it stands for. What was held back last is written at the latest with the next line that comes after the second.
struct Quiet<F> {
    inner: F,
    /// What to put in place of `end`, for a count.
    count: fn(u64) -> String,
    end: &'static str,
    places: Mutex<HashMap<callsite::Identifier, Place>>,
}

/// A place in the code that warned.
struct Place {
    written: Instant,
    held_back: u64,
    last: String,
}

impl<F> Quiet<F> {
    fn new(inner: F, count: fn(u64) -> String, end: &'static str) -> Self {
        Self { inner, count, end, places: Mutex::default() }
    }

    /// What is to be written for a line that a place warns with.
    fn admit(&self, place: callsite::Identifier, line: String, now: Instant) -> Option<String> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = places.get_mut(&place) else {
            places.insert(place, Place { written: now, held_back: 0, last: String::new() });
            return Some(line);
        };
        known.held_back += 1;
        known.last = line;
        known.release(now).map(|(line, count)| self.counted(&line, count))
    }

    /// What was held back and is due.
    fn due(&self, now: Instant) -> Vec<String> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let due = places.values_mut().filter_map(|place| place.release(now)).collect::<Vec<_>>();
        due.iter().map(|(line, count)| self.counted(line, *count)).collect()
    }

    fn counted(&self, line: &str, count: u64) -> String {
        if count == 1 {
            return line.to_owned();
        }
        let line = line.trim_end();
        format!("{}{}\n", line.strip_suffix(self.end).unwrap_or(line), (self.count)(count))
    }
}

impl Place {
    fn release(&mut self, now: Instant) -> Option<(String, u64)> {
        if self.held_back == 0 || now.saturating_duration_since(self.written) < QUIET {
            return None;
        }
        self.written = now;
        Some((std::mem::take(&mut self.last), std::mem::take(&mut self.held_back)))
    }
}

impl<S, N, F> FormatEvent<S, N> for Quiet<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = Instant::now();
        if *event.metadata().level() > Level::WARN {
            self.due(now).iter().try_for_each(|line| writer.write_str(line))?;
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let admitted = self.admit(event.metadata().callsite(), line, now);
        self.due(now).iter().chain(&admitted).try_for_each(|line| writer.write_str(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn place() -> callsite::Identifier {
        struct Site;
        impl tracing::Callsite for Site {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("nobody asks")
            }
        }
        static SITE: Site = Site;
        callsite::Identifier(&SITE)
    }

    #[test]
    fn one_warning_a_second_stands_for_all_of_them() {
        let quiet = Quiet::new((), |count| format!(" repeated={count}"), "");
        let start = Instant::now();
        assert_eq!(quiet.admit(place(), "one\n".into(), start).as_deref(), Some("one\n"));
        for line in ["two\n", "three\n"] {
            assert_eq!(quiet.admit(place(), line.into(), start + QUIET / 2), None);
        }
        assert!(quiet.due(start + QUIET / 2).is_empty());
        assert_eq!(quiet.admit(place(), "four\n".into(), start + QUIET).as_deref(), Some("four repeated=3\n"));
        assert_eq!(quiet.admit(place(), "five\n".into(), start + QUIET), None);
        assert_eq!(quiet.due(start + QUIET * 2), ["five\n"]);
        assert!(quiet.due(start + QUIET * 9).is_empty());
    }

    #[test]
    fn a_counted_json_line_is_still_json() {
        let quiet = Quiet::new((), |count| format!(",\"repeated\":{count}}}"), "}");
        assert_eq!(quiet.counted("{\"a\":{}}\n", 2), "{\"a\":{},\"repeated\":2}\n");
    }

    #[test]
    fn a_storm_of_warnings_is_one_line_and_the_rest_of_the_log_goes_on() {
        let output = Output::default();
        let writer = output.clone();
        let quiet = Quiet::new(format::format(), |count| format!(" repeated={count}"), "");
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false).event_format(quiet);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for attempt in 0..1000 {
                tracing::warn!(attempt, "no connection");
            }
            tracing::info!("still here");
        });
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert!(text.matches("no connection").count() <= 2, "{text}");
        assert!(text.contains("still here"), "{text}");
    }

    #[test]
    fn levels_are_levels() {
        for text in ["info", "WARN", "off", "info,unstale_sink=debug", " debug "] {
            assert!(parse_level(text).is_ok(), "{text}");
        }
        for text in ["inof", "", "info,unstale_sink", "a=b"] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }
}
