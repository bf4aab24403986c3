//! `config schema`: the JSON schema of the configuration file, for editors and for whoever generates such files.
//!
//! The settings' part follows from their types; the routes' part is written here, for the router reads them itself.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::settings::Config;

/// A size in bytes, as a number or as in `64MB`.
pub struct Size;

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "bytes as a number, or as in `64MB` or `48MiB`", "type": ["string", "integer"] })
    }
}

/// The schema of the whole file.
pub fn of_file() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = "unstale.toml".into();
    forget_host(&mut schema);
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(properties), Value::Object(of_routes)) = (properties, routes()) {
        properties.extend(of_routes);
    }
    schema
}

/// The schema is the same on every host.
fn forget_host(schema: &mut Value) {
    for place in ["/properties/instance", "/$defs/Instance/properties/name"] {
        if let Some(place) = schema.pointer_mut(place).and_then(Value::as_object_mut) {
            place.remove("default");
        }
    }
}

fn texts(description: &str) -> Value {
    json!({ "description": description, "type": "array", "items": { "type": "string" } })
}

fn one_or_more(description: &str) -> Value {
    json!({ "description": description, "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

fn closed(description: &str, required: &[&str], properties: &Value) -> Value {
    json!({ "description": description, "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn table_of(description: &str, item: &Value) -> Value {
    json!({ "description": description, "type": "object", "additionalProperties": item })
}

fn list_of(description: &str, item: &Value) -> Value {
    json!({ "description": description, "type": "array", "items": item })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn routes() -> Value {
    json!({
        "presets": texts("Shipped packs of caches and routes to take in."),
        "preset": table_of("What is changed in a preset, by its name.", &preset()),
        "vars": table_of("Constants, put in for `${name}` when the file is read.", &json!({ "type": "string" })),
        "protected": texts("Prefixes under which nothing is ever deleted."),
        "cache": table_of("The caches, by name.", &cache(&["prefixes"])),
        "route": list_of("From events to keys.", &route()),
        "republish": list_of("What existing subscribers are told.", &republish()),
    })
}

fn preset() -> Value {
    let properties = json!({
        "vars": table_of("Its constants.", &json!({ "type": "string" })),
        "without": texts("Events taken out of all its routes."),
        "cache": table_of("Single settings of its caches.", &cache(&[])),
    });
    closed("A preset's settings.", &[], &properties)
}

fn cache(required: &[&str]) -> Value {
    let properties = json!({
        "prefixes": texts("The beginnings of the keys that it owns; the longest prefix owns a key."),
        "redis": text("The server that holds it: the name of a `[redis.NAME]` table. Default: `main`."),
        "store": json!({ "description": "`local`: nothing to delete in Redis, only announced.", "enum": ["redis", "local"] }),
        "second_delete": text("After how long keys are deleted again; `0s`: not at all."),
    });
    closed("A cache.", required, &properties)
}

fn route() -> Value {
    let properties = json!({
        "event": one_or_more("Names of events, or globs."),
        "cache": text("The cache that its targets belong to."),
        "priority": json!({ "enum": ["critical", "high", "normal", "low"], "default": "normal" }),
        "when": json!({ "description": "Conditions on attributes; all must hold.", "type": "object" }),
        "keys": one_or_more("Templates of keys to delete."),
        "patterns": one_or_more("Templates of Redis globs; all keys of the cache that match are deleted."),
        "bump": one_or_more("Counters to increment."),
    });
    closed("A route.", &["event"], &properties)
}

fn republish() -> Value {
    let properties = json!({
        "cache": text("The cache whose deleted keys are told."),
        "channel": text("The channel to publish on."),
        "format": json!({
            "description": "json: one object a delivery; key: one message a key; bentocache, fusioncache: what those caches' own buses expect.",
            "enum": unstale_router::Format::NAMES,
        }),
        "fields": json!({
            "description": "The names of the object's fields.", "type": "object", "additionalProperties": false,
            "properties": { "keys": { "type": "string" }, "time": { "type": "string" } },
        }),
        "strip": text("What is taken off the beginning of each key."),
    });
    closed("What existing subscribers are told, after the notice.", &["cache", "channel"], &properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_no_host_and_every_key_of_the_router() {
        let schema = of_file();
        assert!(schema.pointer("/$defs/Instance/properties/name").is_some_and(|name| name.get("default").is_none()));
        assert!(schema.pointer("/properties/instance/default").is_none());
        for key in unstale_router::KEYS {
            assert!(schema["properties"][key].is_object(), "{key}");
        }
        assert_eq!(schema.pointer("/$defs/Limits/properties/entry/default"), Some(&"1MiB".into()));
    }
}
