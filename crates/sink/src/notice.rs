//! The notice as JSON, in the pieces that the script puts together.
//!
//! The script knows what nobody else does: the notice's number, its id and Redis' time. So it is given the text around these. Written by
//! hand rather than from a type, for a batch writes the texts of all its keys here; `unstale_events::notice` is the type that readers use,
//! and the tests of this crate read with it.

use unstale_batcher::{Batch, Source};
use unstale_events::json::{push_string, push_strings};
use unstale_events::notice::MAX_NAMED;
use unstale_events::{Cause, TargetKind};
use unstale_router::Caches;

/// What all notices of a batch say of it: `,"events":[…]…}`.
pub(crate) fn about(batch: &Batch) -> String {
    let ids = batch.entries.iter().filter_map(|entry| match entry.source {
        Source::Entry(_, id) => Some(id),
        Source::Request(_) => None,
    });
    let mut json = String::with_capacity(batch.entries.len().min(MAX_NAMED) * 24 + 100);
    json.push_str(",\"events\":[");
    list(&mut json, ids.clone().take(MAX_NAMED), |json, id| {
        json.push('"');
        id.push(json);
        json.push('"');
    });
    json.push_str("],\"events_total\":");
    json.push_str(&ids.count().to_string());
    json.push_str(",\"correlation_ids\":");
    push_strings(&mut json, batch.correlation_ids.iter().take(MAX_NAMED));
    json.push_str(",\"operations\":");
    push_strings(&mut json, batch.operations.iter().take(MAX_NAMED));
    json.push('}');
    json
}

/// The same of a batch that somebody waits for.
pub(crate) fn confirmed(mut about: String) -> String {
    about.truncate(about.len() - 1);
    about.push_str(",\"confirm\":true}");
    about
}

/// The text between the number and the time: `,"origin":"…","at":`.
pub(crate) fn head(origin: &str) -> String {
    let mut json = String::from(",\"origin\":");
    push_string(&mut json, origin);
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
        let texts = |kind| group.iter().filter(move |target| target.kind == kind).map(|target| target.text);
        json.push_str("{\"cache\":");
        push_string(json, &caches.get(group[0].cache).name);
        json.push_str(",\"keys\":");
        push_strings(json, texts(TargetKind::Key));
        json.push_str(",\"patterns\":");
        push_strings(json, texts(TargetKind::Pattern));
        json.push('}');
    });
    json.push(']');
    json.push_str(about);
    Some(json)
}

/// The text after the time of a notice that asks to drop whole caches.
pub(crate) fn flush(caches: &[&str], cause: Cause) -> String {
    let mut json = String::from(",\"flush\":");
    push_strings(&mut json, caches.iter().copied());
    json.push_str(",\"cause\":");
    push_string(&mut json, cause.name());
    json.push('}');
    json
}

/// Writes elements with commas between them.
fn list<T>(json: &mut String, elements: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write(json, element);
    }
}
