//! The notice as JSON, in the pieces that the script puts together.
//!
//! The script knows what nobody else does: the notice's number, its id and Redis' time. So it is given the text around these. Written by
//! hand rather than from a type, for a batch writes the texts of all its keys here; `unstale_events::notice` is the type that readers use,
//! and the tests of this crate read with it.

use unstale_batcher::{Batch, Source};
use unstale_events::TargetKind;
use unstale_router::Caches;

/// At most this many of `events`, `correlation_ids` and `operations` are named.
const NAMED: usize = 100;

/// The digits of a control character.
const HEX: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

/// What all notices of a batch say of it: `,"events":[…]…}`.
pub(crate) fn about(batch: &Batch) -> String {
    let mut json = String::with_capacity(128);
    let ids = batch.entries.iter().filter_map(|entry| match entry.source {
        Source::Entry(_, id) => Some(id),
        Source::Request(_) => None,
    });
    json.push_str(",\"events\":[");
    list(&mut json, ids.clone().take(NAMED), |json, id| text(json, &id.to_string()));
    json.push_str("],\"events_total\":");
    json.push_str(&ids.count().to_string());
    json.push_str(",\"correlation_ids\":[");
    list(&mut json, batch.correlation_ids.iter().take(NAMED), text);
    json.push_str("],\"operations\":[");
    list(&mut json, batch.operations.iter().take(NAMED), text);
    json.push_str("]}");
    json
}

/// The text between the number and the time: `,"origin":"…","at":`.
pub(crate) fn head(origin: &str) -> String {
    let mut json = String::from(",\"origin\":");
    text(&mut json, origin);
    json.push_str(",\"at\":");
    json
}

/// The text after the time, naming the keys and patterns among these targets; `None` if there are none.
pub(crate) fn tail(batch: &Batch, part: &[usize], caches: &Caches, about: &str) -> Option<String> {
    let named: Vec<_> =
        part.iter().filter_map(|position| batch.targets.get(*position)).filter(|target| target.kind != TargetKind::Bump).collect();
    if named.is_empty() {
        return None;
    }
    let mut json = format!(",\"priority\":\"{}\",\"drop\":[", batch.priority.name());
    json.reserve(about.len() + named.iter().map(|target| target.text.len() + 3).sum::<usize>());
    list(&mut json, named.chunk_by(|one, next| one.cache == next.cache), |json, group| {
        json.push_str("{\"cache\":");
        text(json, &caches.get(group[0].cache).name);
        for (name, kind) in [(",\"keys\":[", TargetKind::Key), ("],\"patterns\":[", TargetKind::Pattern)] {
            json.push_str(name);
            list(json, group.iter().filter(|target| target.kind == kind), |json, target| text(json, target.text));
        }
        json.push_str("]}");
    });
    json.push(']');
    json.push_str(about);
    Some(json)
}

/// Writes elements with commas between them.
pub(crate) fn list<T>(json: &mut String, elements: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write(json, element);
    }
}

/// Writes a text in quotes.
pub(crate) fn text(json: &mut String, text: &str) {
    json.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
        let (plain, special) = rest.split_at(at);
        json.push_str(plain);
        match special.as_bytes()[0] {
            quoted @ (b'"' | b'\\') => json.extend(['\\', char::from(quoted)]),
            control => json.extend(["\\u00", if control < 16 { "0" } else { "1" }, HEX[usize::from(control % 16)]]),
        }
        rest = &special[1..];
    }
    json.push_str(rest);
    json.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_reads_back(original in any::<String>()) {
            let mut json = String::new();
            text(&mut json, &original);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), original);
        }
    }

    #[test]
    fn control_characters_read_back() {
        let original: String = (0..=0x20_u8).map(char::from).collect();
        let mut json = String::new();
        text(&mut json, &original);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), original);
    }
}
