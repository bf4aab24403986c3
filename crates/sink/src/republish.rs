//! Messages in the form that existing subscribers understand, on their channels.
//!
//! They carry exact keys only, and are made from what is deleted, never from what a channel says: nothing can go round in circles.

use std::time::SystemTime;

use unstale_batcher::Batch;
use unstale_events::TargetKind;
use unstale_events::json::{push_string, push_strings};
use unstale_router::{Format, Republish};

/// Pairs of channel and message for the keys among these targets.
pub(crate) fn messages(wishes: &[Republish], batch: &Batch, part: &[usize]) -> Vec<(String, String)> {
    wishes.iter().flat_map(|wish| one_wish(wish, batch, part)).collect()
}

fn one_wish(wish: &Republish, batch: &Batch, part: &[usize]) -> Vec<(String, String)> {
    let targets = part.iter().filter_map(|position| batch.targets.get(*position));
    let targets = targets.filter(|target| target.cache == wish.cache && target.kind == TargetKind::Key);
    let keys: Vec<&str> = targets.map(|target| target.text.strip_prefix(&*wish.strip).unwrap_or(target.text)).collect();
    match &wish.format {
        _ if keys.is_empty() => Vec::new(),
        Format::Key => keys.into_iter().map(|key| (wish.channel.clone(), key.to_owned())).collect(),
        Format::Json { keys: name, time } => vec![(wish.channel.clone(), object(name, &keys, time.as_deref()))],
    }
}

fn object(name: &str, keys: &[&str], time: Option<&str>) -> String {
    let mut json = String::from("{");
    push_string(&mut json, name);
    json.push(':');
    push_strings(&mut json, keys.iter().copied());
    if let Some(time) = time {
        json.push(',');
        push_string(&mut json, time);
        json.push(':');
        push_string(&mut json, &humantime::format_rfc3339_millis(SystemTime::now()).to_string());
    }
    json.push('}');
    json
}
