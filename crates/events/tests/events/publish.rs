//! Publishing: every encoding of an event is the same event again.

use proptest::prelude::*;
use unstale_events::catalogue::{CacheInvalidationRequested, llm_gateway};
use unstale_events::{Encoding, Event, EventType, Priority, PublishError, Value, publish};

const ENCODINGS: [Encoding; 3] = [Encoding::Flat, Encoding::Json, Encoding::MessagePack];

/// Every attribute of one event is in the other, null or absent alike.
fn covers(event: &Event<'_>, other: &Event<'_>) -> bool {
    let absent = Value::Null;
    event.attributes().all(|(name, value)| value.same(other.attribute(&[name]).as_ref().unwrap_or(&absent)))
}

#[test]
fn typed_events_read_back_in_every_encoding() {
    let event =
        llm_gateway::VirtualKeyUpdated { key_id: 7, key_hash: "[abc".into(), changed_properties: vec!["IsEnabled".into(), "\"".into()] };
    for encoding in ENCODINGS {
        let fields = publish::to_fields(&event, encoding).unwrap();
        let read = Event::decode(&fields).unwrap();
        assert_eq!(read.kind(), "VirtualKeyUpdated");
        assert!(read.attribute(&["KeyId"]).unwrap().same(&Value::Number("7".into())));
        assert_eq!(read.attribute(&["KeyHash"]), Some(Value::Text("[abc".into())));
        assert_eq!(
            read.attribute(&["ChangedProperties"]),
            Some(Value::Array(vec![Value::Text("IsEnabled".into()), Value::Text("\"".into())]))
        );
    }
}

#[test]
fn a_request_for_invalidation_says_only_what_was_asked() {
    let request = CacheInvalidationRequested { keys: vec!["a".into()], priority: Some(Priority::High), ..Default::default() };
    let fields = publish::to_fields(&request, Encoding::Json).unwrap();
    assert_eq!(fields[0].1, CacheInvalidationRequested::TYPE);
    assert_eq!(fields[1].1, r#"{"keys":["a"],"patterns":[],"priority":"high"}"#);
}

#[test]
fn what_a_flat_field_cannot_say_is_refused() {
    for json in [r#"{"type":"T","a":"[1]"}"#, r#"{"type":"T","data":{"Type":"x"}}"#] {
        let event = Event::from_json(json.as_bytes()).unwrap();
        assert!(matches!(event.to_fields(Encoding::Flat), Err(PublishError::NotFlat { .. })), "{json}");
        assert!(event.to_fields(Encoding::Json).is_ok());
    }
}

#[test]
fn an_envelope_keeps_its_id_when_published_again() {
    let event = Event::from_json(br#"{"specversion":"1.0","type":"T","id":"evt","time":"t","data":{"a":1}}"#).unwrap();
    for encoding in ENCODINGS {
        let fields = event.to_fields(encoding).unwrap();
        let read = Event::decode(&fields).unwrap();
        assert_eq!((read.id(), read.time()), (Some("evt"), Some("t")));
    }
}

#[test]
fn the_catalogue_tells_what_may_be_absent() {
    let created = llm_gateway::EVENTS.iter().find(|event| event.name == "VirtualKeyCreated").unwrap();
    let optional = created.attributes.iter().filter(|attribute| attribute.is_optional()).map(|attribute| attribute.name);
    assert_eq!(optional.collect::<Vec<_>>(), ["allowed_models"]);
}

/// JSON texts of values, nested a little.
fn json_value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        r"-?[1-9][0-9]{0,25}\.[0-9]{1,5}(e[0-9])?",
        r"[\PC]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::btree_map("[a-c]{1,3}", inner, 0..4).prop_map(|all| format!(
                "{{{}}}",
                all.iter().map(|(name, value)| format!("{name:?}:{value}")).collect::<Vec<_>>().join(",")
            )),
        ]
    })
}

proptest! {
    #[test]
    fn every_wire_form_of_an_event_is_the_same_event(attributes in prop::collection::btree_map("x[a-f]{1,6}", json_value(), 0..6)) {
        let members: Vec<_> = attributes.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        let json = format!("{{{}}}", [&[r#""type":"T""#.to_owned()], &members[..]].concat().join(","));
        let event = Event::from_json(json.as_bytes()).unwrap();
        for encoding in ENCODINGS {
            let fields = match event.to_fields(encoding) {
                Err(PublishError::NotFlat { .. }) if encoding == Encoding::Flat => continue,
                fields => fields.unwrap(),
            };
            let read = Event::decode(&fields).unwrap();
            prop_assert!(covers(&event, &read) && covers(&read, &event), "{:?}: {}", encoding, json);
        }
    }
}
