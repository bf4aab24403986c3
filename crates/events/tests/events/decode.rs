//! Wire forms: what is an event, what is none, and that all forms of one event are the same event.

use bytes::Bytes;
use proptest::prelude::*;
use unstale_events::{Code, Event, Fields, Value};

fn fields(pairs: &[(&str, &[u8])]) -> Fields {
    pairs.iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value))).collect()
}

fn text<'a>(event: &Event<'a>, path: &[&str]) -> Option<Value<'a>> {
    event.attribute(path)
}

#[track_caller]
fn refused(pairs: &[(&str, &[u8])], code: Code) {
    let fields = fields(pairs);
    let reason = Event::decode(&fields).expect_err("should be refused");
    assert_eq!(reason.code, code, "{reason}");
}

#[test]
fn every_wire_form_is_understood() {
    let msgpack = rmp_serde::to_vec(&std::collections::BTreeMap::from([("KeyHash", "abc")])).unwrap();
    let forms: [Vec<(&str, &[u8])>; 6] = [
        vec![("type", b"Deleted"), ("key_hash", b"abc")],
        vec![("Type", b"Deleted"), ("keyHash", b"abc")],
        vec![("type", b"Deleted"), ("data", br#" {"KeyHash":"abc"}"#)],
        vec![("type", b"Deleted"), ("data", &msgpack)],
        vec![("data", br#"{"specversion":"1.0","type":"Deleted","id":"1","source":"/x","data":{"key-hash":"abc"}}"#)],
        vec![("type", b"Deleted"), ("data", br#"{"specversion":"1.0","type":"com.Other","data":{"key-hash":"\u0061bc"}}"#)],
    ];
    for form in forms {
        let fields = fields(&form);
        let event = Event::decode(&fields).unwrap();
        assert_eq!(event.kind(), "Deleted");
        assert_eq!(text(&event, &["key_hash"]), Some(Value::Text("abc".into())), "{form:?}");
    }
}

#[test]
fn an_event_may_name_itself_in_any_spelling() {
    let flat = fields(&[("type", b"T"), ("ID", b"e1"), ("Time", b"now"), ("CorrelationId", b"c1")]);
    let event = Event::decode(&flat).unwrap();
    assert_eq!((event.id(), event.time(), event.correlation_id()), (Some("e1"), Some("now"), Some("c1")));
    let mixed =
        fields(&[("type", b"T"), ("id", b"own"), ("data", br#"{"specversion":"1.0","id":"theirs","time":"t","correlationid":"c"}"#)]);
    let event = Event::decode(&mixed).unwrap();
    assert_eq!((event.id(), event.time(), event.correlation_id()), (Some("own"), Some("t"), Some("c")));
    let data = fields(&[("type", b"T"), ("data", br#"{"Id":7,"correlationId":""}"#)]);
    let event = Event::decode(&data).unwrap();
    assert_eq!((event.id(), event.correlation_id()), (Some("7"), None));
}

#[test]
fn the_id_of_an_envelope_is_no_attribute() {
    let fields = fields(&[("data", br#"{"specversion":"1.0","type":"T","id":"evt","data":{"id":7}}"#)]);
    let event = Event::decode(&fields).unwrap();
    assert_eq!((event.id(), text(&event, &["id"])), (Some("evt"), Some(Value::Number("7".into()))));
}

#[test]
fn numbers_stay_as_they_were_written() {
    let event = Event::from_json(br#"{"type":"T","a":1.50,"b":1e3,"c":12345678901234567890123,"d":-0}"#).unwrap();
    for (name, written) in [("a", "1.50"), ("b", "1e3"), ("c", "12345678901234567890123"), ("d", "-0")] {
        assert_eq!(text(&event, &[name]), Some(Value::Number(written.into())));
    }
}

#[test]
fn arrays_come_as_json_or_as_repeated_fields() {
    let ab = Value::Array(vec![Value::Text("a".into()), Value::Text("b".into())]);
    for form in [vec![("h", &b"a"[..]), ("h", b"b")], vec![("h", br#"["a","b"]"#)], vec![("data", br#"{"h":["a","b"]}"#)]] {
        let fields = fields(&[vec![("type", &b"T"[..])], form].concat());
        assert_eq!(text(&Event::decode(&fields).unwrap(), &["h"]), Some(ab.clone()));
    }
    let broken = fields(&[("type", b"T"), ("h", b"[a")]);
    assert_eq!(text(&Event::decode(&broken).unwrap(), &["h"]), Some(Value::Text("[a".into())));
}

#[test]
fn paths_lead_through_objects_of_every_form() {
    let inner = std::collections::BTreeMap::from([("Owner", std::collections::BTreeMap::from([("user_id", 42)]))]);
    let msgpack = rmp_serde::to_vec(&inner).unwrap();
    for form in [("data", br#"{"owner":{"UserId":42}}"#.as_slice()), ("owner", br#"{"UserId":42}"#), ("data", &msgpack)] {
        let fields = fields(&[("type", b"T"), form]);
        let event = Event::decode(&fields).unwrap();
        assert_eq!(text(&event, &["owner", "user_id"]), Some(Value::Number("42".into())));
        assert_eq!(text(&event, &["owner", "nobody"]), None);
        assert_eq!(text(&event, &["owner", "user_id", "more"]), None);
    }
}

#[test]
fn what_is_no_event_says_why() {
    refused(&[], Code::Undecodable);
    refused(&[("key_hash", b"abc")], Code::Undecodable);
    refused(&[("type", b"")], Code::Undecodable);
    refused(&[("type", b"\xff")], Code::Undecodable);
    for data in [
        &b""[..],
        b"null",
        b"[1]",
        b"{",
        b"{} {}",
        b"text",
        b"{\"a\":\"\xff\"}",
        b"\x81",
        b"\x81\xa1a",
        b"\x80\x80",
        b"\x81\x90\x01",
        b"\xdf\xff\xff\xff\xff",
    ] {
        refused(&[("type", b"T"), ("data", data)], Code::Undecodable);
    }
    refused(&[("type", b"T"), ("data", br#"{"specversion":"1.0","data":"text"}"#)], Code::Undecodable);
    for json in [&b""[..], b"[]", b"{}", br#"{"type":7}"#, br#"{"type":null}"#, b"\xff"] {
        assert_eq!(Event::from_json(json).unwrap_err().code, Code::Undecodable);
    }
}

#[test]
fn equal_names_must_have_equal_values() {
    refused(&[("type", b"T"), ("key_hash", b"a"), ("KeyHash", b"b")], Code::ConflictingAttribute);
    refused(&[("type", b"T"), ("type", b"U")], Code::ConflictingAttribute);
    refused(&[("type", b"T"), ("key_hash", b"a"), ("data", br#"{"KeyHash":"b"}"#)], Code::ConflictingAttribute);
    refused(&[("type", b"T"), ("data", br#"{"o":{"a":1,"A":2}}"#)], Code::ConflictingAttribute);
    refused(&[("type", b"T"), ("data", br#"{"a":1,"a":2}"#)], Code::ConflictingAttribute);
    let same = fields(&[("type", b"T"), ("key_id", b"42"), ("on", b"True"), ("data", br#"{"KeyId":42,"On":true}"#)]);
    assert!(Event::decode(&same).is_ok());
}

#[test]
fn conflicts_are_found_among_many_attributes() {
    let mut many: Vec<(String, String)> = (0..100).map(|at| (format!("name_{at}"), at.to_string())).collect();
    many.push(("Name7".to_owned(), "other".to_owned()));
    let mut fields: Fields = many.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    fields.push(("type".into(), "T".into()));
    assert_eq!(Event::decode(&fields).unwrap_err().code, Code::ConflictingAttribute);
}

#[test]
fn bytes_that_are_no_text_only_matter_when_used() {
    let fields = fields(&[("type", b"T"), ("blob", b"\xff"), ("ok", b"yes")]);
    let event = Event::decode(&fields).unwrap();
    assert_eq!(text(&event, &["blob"]), Some(Value::Binary(b"\xff")));
    assert_eq!(text(&event, &["ok"]), Some(Value::Text("yes".into())));
}

#[test]
fn extension_types_are_kept_as_bytes() {
    let fields = fields(&[("type", b"T"), ("data", b"\x82\xa1t\xd6\xff\x00\x00\x00\x01\xa1a\x01")]);
    let event = Event::decode(&fields).unwrap();
    assert_eq!(text(&event, &["t"]), Some(Value::Binary(&[0, 0, 0, 1])));
    assert_eq!(text(&event, &["a"]), Some(Value::Number("1".into())));
}

#[test]
fn depth_bombs_are_refused_and_many_names_take_no_time() {
    let json = format!(r#"{{"a":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    refused(&[("type", b"T"), ("data", json.as_bytes())], Code::Undecodable);
    let msgpack = [b"\x81\xa1a".to_vec(), vec![0x91; 1_000_000], vec![0]].concat();
    refused(&[("type", b"T"), ("data", &msgpack)], Code::Undecodable);
    let flat = "[".repeat(1_000_000);
    let deep = fields(&[("type", b"T"), ("a", flat.as_bytes())]);
    assert_eq!(text(&Event::decode(&deep).unwrap(), &["a"]), Some(Value::Text(flat.as_str().into())));
    let wide: Fields = (0..100_000).map(|_| ("x".into(), "y".into())).chain([("type".into(), "T".into())]).collect();
    assert!(matches!(text(&Event::decode(&wide).unwrap(), &["x"]), Some(Value::Array(all)) if all.len() == 100_000));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(entry in prop::collection::vec((prop_oneof![Just(b"type".to_vec()), Just(b"data".to_vec()), any::<Vec<u8>>()], any::<Vec<u8>>()), 0..8)) {
        let fields: Fields = entry.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if let Ok(event) = Event::decode(&fields) {
            event.attributes().for_each(|(_, value)| drop(value));
        }
    }

    #[test]
    fn no_map_like_bytes_make_it_panic(head in 0x80_u8..=0x8f, tail in any::<Vec<u8>>()) {
        let fields = fields(&[("type", b"T"), ("data", &[vec![head], tail].concat())]);
        if let Ok(event) = Event::decode(&fields) {
            event.attributes().for_each(|(_, value)| drop(value));
        }
    }

    #[test]
    fn no_json_like_text_makes_it_panic(text in r#"\{("[a-z\\]{0,3}"|[\[\]{}:,0-9e.-]|true|null| ){0,20}\}?"#) {
        let _ = Event::from_json(text.as_bytes()).map(|event| event.attributes().count());
        let fields = fields(&[("type", b"T"), ("data", text.as_bytes()), ("flat", text.as_bytes())]);
        let _ = Event::decode(&fields).map(|event| event.attributes().count());
    }
}
