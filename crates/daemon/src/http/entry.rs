//! An event in JSON, written as the fields of a stream entry that reads back as the same event.
//!
//! An envelope of `CloudEvents` goes into `data` as it is. Of any other event the members, those inside a `data` of its own included, go into `data`
//! as one JSON object: flat fields would lose the difference between a text and what it looks like.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use unstale_events::names::same_name;
use unstale_events::{Event, Fields, Reason, json};

/// The members of a JSON object, unparsed. Members given twice are the same: [`Event::from_json`] demands it.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The fields of an entry for an event.
///
/// # Errors
/// If it is no event.
pub(super) fn fields(event: &str) -> Result<Fields, Reason> {
    let kind = Event::from_json(event.as_bytes())?.kind().to_owned();
    let members: Members<'_> = serde_json::from_str(event).unwrap_or_default();
    let mut fields: Fields = vec![("type".into(), kind.into())];
    let data = if members.contains_key("specversion") { event.to_owned() } else { attributes(members) };
    if data != "{}" {
        fields.push(("data".into(), data.into()));
    }
    Ok(fields)
}

fn attributes(members: Members<'_>) -> String {
    let (mut own, mut inner) = (Members::new(), Members::new());
    for (name, value) in members {
        if same_name(&name, "data") {
            inner = serde_json::from_str(value.get()).unwrap_or_default();
        } else if !same_name(&name, "type") {
            own.insert(name, value);
        }
    }
    own.extend(inner);
    object(&own)
}

fn object(members: &Members<'_>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        json::push_string(&mut text, name);
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the stream sees must be what was sent.
    fn reads_back(text: &str) -> Fields {
        let sent = Event::from_json(text.as_bytes()).unwrap();
        let fields = fields(text).unwrap();
        let read = Event::decode(&fields).unwrap();
        assert_eq!(read.kind(), sent.kind(), "{text}");
        assert_eq!((read.id(), read.time(), read.correlation_id()), (sent.id(), sent.time(), sent.correlation_id()), "{text}");
        let attributes = |event: &Event<'_>| {
            let mut all: Vec<_> = event.attributes().map(|(name, value)| format!("{name}: {value:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(attributes(&read), attributes(&sent), "{text}");
        fields
    }

    #[test]
    fn every_form_of_an_event_reads_back_as_it_was_sent() {
        for text in [
            r#"{"type":"A"}"#,
            r#"{"type":"A","data":null}"#,
            r#"{"type":"A","n":1.50,"big":12345678901234567890123,"t":"[1","list":"[1,2]","o":{"x":[1,{"y":null}]},"b":true,"z":null,"e":""}"#,
            r#"{"type":"A","id":"7","time":"2026-01-01T00:00:00Z","correlation_id":"c\"é\\","KeyHash":"abc"}"#,
            r#"{"type":"A","time":"t","data":{"key_hash":"abc","id":"9","type":"inner"}}"#,
            r#"{"Type":"A","Data":{"a":1},"b":2}"#,
            r#"{"type":"A","a":1,"data":{"A":1}}"#,
            r#"{"specversion":"1.0","type":"A","id":"7","source":"/x","time":"t","data":{"key_hash":"abc"}}"#,
            r#"{"type":"A","data":{"specversion":"1.0","type":"A","id":"7","data":{"key_hash":"abc"}}}"#,
            "{\"type\":\"A\",\"\\u0000\\n\\\"\":\"x\"}",
        ] {
            reads_back(text);
        }
    }

    #[test]
    fn an_event_without_attributes_has_no_data() {
        assert_eq!(reads_back(r#"{"type":"A"}"#), [("type".into(), "A".into())]);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for text in ["1", "[]", "{}", r#"{"type":1}"#, r#"{"type":""}"#, r#"{"type":"A","data":3}"#, r#"{"type":"A","a":1,"A":2}"#] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
