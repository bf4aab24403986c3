//! How events, notices and keys are shown: for people on one line, for programs as JSON; with fingerprints, or as they are.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use unstale_events::{Entry, Event, Notice, Position, fingerprint};

use crate::letters::{Head, Letter};
use crate::terminal::{self, Paint, clean};

/// How many keys of a notice, or values of an event, a line names.
const NAMED: usize = 4;

/// Whether keys and values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reveal(pub(super) bool);

impl Reveal {
    /// A key, pattern or value, or what stands for it.
    pub(super) fn text(self, text: &str) -> String {
        if self.0 { text.to_owned() } else { fingerprint(text) }
    }

    fn bytes(self, value: &Bytes) -> String {
        self.text(&String::from_utf8_lossy(value))
    }
}

/// A notice of the log, or why its entry is none.
pub(super) fn notice(entry: &Entry) -> Result<Notice, String> {
    let field = |name: &str| entry.fields.iter().flatten().find(|(known, _)| known == name).map(|(_, value)| value);
    let seq = field("seq").and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
    let (Some(seq), Some(text)) = (seq, field("notice")) else {
        return Err(format!("the entry {} of the log is no notice", entry.id));
    };
    Notice::from_log(Position { id: entry.id, seq }, text)
        .map_err(|error| format!("the entry {} of the log is no notice: {error}", entry.id))
}

/// A notice on one line.
pub(super) fn notice_line(notice: &Notice, reveal: Reveal, paint: Paint) -> String {
    let position = notice.position().unwrap_or_default();
    let mut words = vec![paint.faint(&terminal::time(position.id.ms)), format!("#{}", position.seq)];
    words.push(notice.priority.map_or_else(|| "flush".to_owned(), |priority| format!("{:<8}", priority.name())));
    words.extend((!notice.flush.is_empty()).then(|| paint.yellow(&clean(&notice.flush.join(", ")))));
    for drop in &notice.drop {
        words.push(paint.bold(&clean(&drop.cache)));
        words.push(few(&drop.keys, "key", reveal));
        words.push(few(&drop.patterns, "pattern", reveal));
    }
    words.push(origin(notice, paint));
    words.retain(|word| !word.is_empty());
    words.join("  ")
}

/// Where a notice came from: entries, correlation ids, operations, the sidecar.
pub(super) fn origin(notice: &Notice, paint: Paint) -> String {
    let list = |what: &str, all: &[String]| match all {
        [] => String::new(),
        [first] => format!("{what} {}  ", clean(first)),
        [first, rest @ ..] => format!("{what} {} (+{})  ", clean(first), rest.len()),
    };
    let events: Vec<String> = notice.events.iter().map(ToString::to_string).collect();
    let more = notice.events_total.saturating_sub(1);
    let events = match events.first() {
        Some(first) if more == 0 => format!("event {first}  "),
        Some(first) => format!("event {first} (+{more})  "),
        None => String::new(),
    };
    let text = format!(
        "{events}{}{}by {}",
        list("correlation", &notice.correlation_ids),
        list("operation", &notice.operations),
        clean(&notice.origin)
    );
    paint.faint(&text)
}

/// The first of these texts, and how many more there are.
pub(super) fn few(texts: &[String], what: &str, reveal: Reveal) -> String {
    let named: Vec<String> = texts.iter().take(NAMED).map(|text| clean(&reveal.text(text))).collect();
    let rest = texts.len().saturating_sub(NAMED);
    let plural = if texts.len() == 1 { "" } else { "s" };
    match texts.len() {
        0 => String::new(),
        _ if rest == 0 => format!("{what}{plural} {}", named.join(" ")),
        count => format!("{} {what}{plural} {} (+{rest})", terminal::thousands(count as u64), named.join(" ")),
    }
}

/// A notice as JSON.
pub(super) fn notice_json(notice: &Notice, reveal: Reveal) -> Value {
    let mut shown = notice.clone();
    for drop in &mut shown.drop {
        for text in drop.keys.iter_mut().chain(&mut drop.patterns) {
            *text = reveal.text(text);
        }
    }
    json!(shown)
}

/// An event on one line.
pub(super) fn event_line(stream: &str, entry: &Entry, reveal: Reveal, paint: Paint) -> String {
    let fields = entry.fields.clone().unwrap_or_default();
    let decoded = Event::decode(&fields);
    let kind = decoded.as_ref().map_or_else(|reason| format!("no event ({reason})"), |event| event.kind().to_owned());
    let own = fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"type"));
    let shown =
        own.clone().take(NAMED).map(|(name, value)| format!("{}={}", clean(&String::from_utf8_lossy(name)), clean(&reveal.bytes(value))));
    let rest = own.count().saturating_sub(NAMED);
    let more = if rest == 0 { String::new() } else { format!("  (+{rest} fields)") };
    let time = paint.faint(&terminal::time(entry.id.ms));
    let id = paint.faint(&format!("{stream} {}", entry.id));
    format!("{time}  {id}  {}  {}{more}", paint.bold(&clean(&kind)), shown.collect::<Vec<_>>().join("  "))
}

/// An event as JSON: the fields in their order, since a name may come twice.
pub(super) fn event_json(stream: &str, entry: &Entry, reveal: Reveal) -> Value {
    let fields = entry.fields.clone().unwrap_or_default();
    let kind = Event::decode(&fields).ok().map(|event| event.kind().to_owned());
    json!({ "stream": stream, "id": entry.id.to_string(), "type": kind, "fields": fields_json(&fields, reveal) })
}

/// A dead letter on one line.
pub(super) fn letter_line(head: &Head, paint: Paint) -> String {
    let kind = head.kind.as_deref().unwrap_or("(no field `type`)");
    let age = format!("{:>4}", terminal::ago(head.at));
    format!("{}  {}  {}  {}", head.id, paint.faint(&age), paint.bold(&clean(kind)), clean(&head.reason))
}

/// A dead letter as JSON, with its event's fields.
pub(super) fn letter_json(letter: &Letter, reveal: Reveal) -> Value {
    let mut shown = json!(letter.head);
    shown["fields"] = fields_json(&letter.own, reveal);
    shown
}

/// Fields as JSON: `[{"name": …, "value": …}]`. The type is no secret.
fn fields_json(fields: &unstale_events::Fields, reveal: Reveal) -> Value {
    let field = |(name, value): &(Bytes, Bytes)| {
        let shown = if name.eq_ignore_ascii_case(b"type") { Reveal(true) } else { reveal };
        Map::from_iter([("name".to_owned(), String::from_utf8_lossy(name).into()), ("value".to_owned(), shown.bytes(value).into())])
    };
    fields.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unstale_events::notice::Drop;
    use unstale_events::{EntryId, Priority};

    fn told() -> Notice {
        Notice {
            v: 1,
            id: Some(EntryId { ms: 1_789_000_000_123, seq: 0 }),
            seq: Some(7),
            origin: "api\x1b[2J".into(),
            priority: Some(Priority::High),
            drop: vec![Drop { cache: "vkey".into(), keys: vec!["vkey:secret".into()], patterns: vec!["vkey:secret:*".into()] }],
            events: vec![EntryId { ms: 1, seq: 0 }],
            events_total: 3,
            ..Notice::default()
        }
    }

    #[test]
    fn a_line_has_no_key_and_nothing_that_a_terminal_obeys() {
        let line = notice_line(&told(), Reveal(false), Paint::plain());
        let print = fingerprint("vkey:secret");
        assert!(line.starts_with(&format!("2026-09-10T00:26:40.123Z  #7  high      vkey  key {print}  pattern #")), "{line}");
        assert!(line.ends_with("event 1-0 (+2)  by api\\u{1b}[2J"), "{line}");
        assert!(!line.contains("secret"));
        assert!(notice_line(&told(), Reveal(true), Paint::plain()).contains("key vkey:secret  pattern vkey:secret:*"));
        assert!(!notice_json(&told(), Reveal(false)).to_string().contains("secret"));
        assert!(notice_json(&told(), Reveal(true)).to_string().contains("vkey:secret:*"));
    }

    #[test]
    fn an_event_keeps_its_type_and_hides_its_values() {
        let fields = vec![("type".into(), "KeyDeleted".into()), ("key_hash".into(), "secret".into())];
        let entry = Entry { id: EntryId { ms: 1, seq: 0 }, fields: Some(fields) };
        let line = event_line("unstale:events", &entry, Reveal(false), Paint::plain());
        assert!(line.contains("KeyDeleted  key_hash=#") && !line.contains("secret"), "{line}");
        let json = event_json("unstale:events", &entry, Reveal(false)).to_string();
        assert!(json.contains("\"KeyDeleted\"") && !json.contains("secret"), "{json}");
    }
}
