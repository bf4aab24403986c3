//! Messages in the form that existing subscribers understand, on their channels.
//!
//! They carry exact keys only, and are made from what is deleted, never from what a channel says: nothing can go round in circles.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use unstale_batcher::Batch;
use unstale_events::TargetKind;
use unstale_events::json::{push_string, push_strings};
use unstale_router::{Format, Republish};

/// Pairs of channel and message for the keys among these targets.
pub(crate) fn messages(wishes: &[Republish], batch: &Batch, part: &[usize]) -> Vec<(String, Bytes)> {
    wishes.iter().flat_map(|wish| one_wish(wish, batch, part)).collect()
}

fn one_wish(wish: &Republish, batch: &Batch, part: &[usize]) -> Vec<(String, Bytes)> {
    let targets = part.iter().filter_map(|position| batch.targets.get(*position));
    let targets = targets.filter(|target| target.cache == wish.cache && target.kind == TargetKind::Key);
    let keys: Vec<&str> = targets.map(|target| target.text.strip_prefix(&*wish.strip).unwrap_or(target.text)).collect();
    let messages = match &wish.format {
        _ if keys.is_empty() => Vec::new(),
        Format::Key => keys.into_iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect(),
        Format::Json { keys: name, time } => vec![object(name, &keys, time.as_deref()).into()],
        Format::Bentocache => vec![bentocache(&wish.strip, &keys)],
        Format::FusionCache => keys.into_iter().map(|key| fusioncache(key, SystemTime::now())).collect(),
    };
    messages.into_iter().map(|message| (wish.channel.clone(), message)).collect()
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

/// Bentocache's message: who sent it, 24 bytes that must not be the receiver's own; what happened; the prefix of its keys without the colon at the
/// end; the keys. Lengths are big-endian.
fn bentocache(prefix: &str, keys: &[&str]) -> Bytes {
    const SENDER: &[u8; 24] = b"unstale                 ";
    const DELETE: u8 = 3;
    let mut message = BytesMut::new();
    message.put_slice(SENDER);
    message.put_u8(DELETE);
    for text in std::iter::once(&prefix.trim_end_matches(':')).chain(keys) {
        message.put_u32(length(text));
        message.put_slice(text.as_bytes());
    }
    message.freeze()
}

/// `FusionCache`'s message: version, sender, time, what happened, key. Numbers are little-endian.
fn fusioncache(key: &str, now: SystemTime) -> Bytes {
    const VERSION: u8 = 0;
    const SENDER: &str = "unstale";
    const REMOVE: u8 = 2;
    let mut message = BytesMut::new();
    message.put_u8(VERSION);
    message.put_u32_le(length(SENDER));
    message.put_slice(SENDER.as_bytes());
    message.put_i64_le(ticks(now));
    message.put_u8(REMOVE);
    message.put_u32_le(length(key));
    message.put_slice(key.as_bytes());
    message.freeze()
}

/// .NET's time: tenths of microseconds since the year 1.
fn ticks(time: SystemTime) -> i64 {
    const AT_UNIX_EPOCH: i64 = 621_355_968_000_000_000;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 100;
    AT_UNIX_EPOCH.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
}

/// A length in a message. Keys are bounded by the size of an entry, far below this.
fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_for_bentocache_is_as_its_decoder_reads_it() {
        let message = bentocache("bento:", &["user:1", "é"]);
        let expected = [&b"unstale                 "[..], b"\x03", b"\0\0\0\x05bento", b"\0\0\0\x06user:1", b"\0\0\0\x02\xc3\xa9"].concat();
        assert_eq!(message, expected);
        assert_eq!(&bentocache("", &["a"])[24..], b"\x03\0\0\0\0\0\0\0\x01a");
    }

    /// The example's time is that of .NET's documentation: 2001-01-01 is 631,139,040,000,000,000 ticks.
    #[test]
    fn a_message_for_fusioncache_is_as_its_decoder_reads_it() {
        let time = UNIX_EPOCH + Duration::from_secs(978_307_200) + Duration::from_nanos(700);
        let message = fusioncache("é1", time);
        let ticks = 631_139_040_000_000_007_i64.to_le_bytes();
        let expected = [&b"\0"[..], b"\x07\0\0\0unstale", &ticks, b"\x02", b"\x03\0\0\0\xc3\xa91"].concat();
        assert_eq!(message, expected);
    }
}
