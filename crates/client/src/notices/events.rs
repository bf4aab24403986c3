//! Server-Sent Events, out of the bytes of a stream. What a sidecar sends is all that is understood: `event`, `id` and `data`, one line each.

/// The longest event: a notice of a thousand long keys is far below.
const LONGEST: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) data: String,
}

/// An event that has no end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What has come of an event so far.
#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > LONGEST { Err(TooLong) } else { Ok(()) }
    }

    /// The next whole event.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let event = read(&String::from_utf8_lossy(&self.bytes[..end]));
            self.bytes.drain(..end + 2);
            // A comment is no event.
            if event != Event::default() {
                return Some(event);
            }
        }
    }
}

fn read(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event.kind),
            "id" => value.clone_into(&mut event.id),
            "data" => value.clone_into(&mut event.data),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, id: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), id: id.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let stream = ": hello\n\nevent: drop\nid: 5-1/7\ndata: {\"v\":1}\n\nevent:beat\ndata:{}\n\n";
        for size in 1..stream.len() {
            let (mut events, mut read) = (Events::default(), Vec::new());
            for bytes in stream.as_bytes().chunks(size) {
                events.push(bytes).unwrap();
                read.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(read, [event("drop", "5-1/7", "{\"v\":1}"), event("beat", "", "{}")]);
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        assert_eq!(events.push(&vec![b'a'; LONGEST]), Ok(()));
        assert_eq!(events.push(b"a"), Err(TooLong));
    }
}
