//! What an event would do: the routes' answer for people, for `POST /v1/explain` and for `unstale explain`. Nothing is done.

use serde::Serialize;
use serde_json::{Map, Value};
use unstale_events::{Event, Invalidation, Priority, Reason, StreamKind, TargetKind};
use unstale_router::Router;
use unstale_source::Names;

/// What an event would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What becomes of it.
    pub outcome: Outcome,
    /// How urgent it is; absent if it isn't an event.
    pub priority: Option<&'static str>,
    /// The stream that it belongs on; absent if it isn't an event.
    pub stream: Option<String>,
    /// What would be deleted or incremented.
    pub targets: Vec<Target>,
    /// Why it would go to the dead letters, each as `code: text`.
    pub reasons: Vec<String>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Routes name it, and all that they ask for can be done.
    Routed,
    /// No route names it.
    Unrouted,
    /// It can't be carried out, or only in part.
    DeadLetter,
}

/// One target; exactly one of key, pattern and bump is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The cache that it belongs to.
    pub cache: String,
    /// A key to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A glob whose keys are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// A counter to increment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bump: Option<String>,
}

/// Explains an event given as one JSON object.
pub fn explain(router: &Router, names: &Names, event: &[u8]) -> Explanation {
    match Event::from_json(event) {
        Ok(event) => explain_event(router, names, &event),
        Err(reason) => undecodable(&reason),
    }
}

/// Explains an event.
pub fn explain_event(router: &Router, names: &Names, event: &Event<'_>) -> Explanation {
    let mut asked = Invalidation::default();
    router.route(event, &mut asked);
    let outcome = match (asked.reasons.is_empty(), asked.routed) {
        (false, _) => Outcome::DeadLetter,
        (true, true) => Outcome::Routed,
        (true, false) => Outcome::Unrouted,
    };
    Explanation {
        outcome,
        priority: Some(asked.priority.name()),
        stream: Some(stream_of(names, asked.priority).to_owned()),
        targets: asked.targets.iter().map(|target| Target::of(router, target)).collect(),
        reasons: asked.reasons.iter().map(Reason::to_string).collect(),
    }
}

/// The stream on which an event of this priority belongs.
pub fn stream_of(names: &Names, priority: Priority) -> &str {
    names.stream(if priority == Priority::Critical { StreamKind::Critical } else { StreamKind::Ordinary })
}

/// Explains what is no event.
pub(crate) fn undecodable(reason: &Reason) -> Explanation {
    Explanation { outcome: Outcome::DeadLetter, priority: None, stream: None, targets: Vec::new(), reasons: vec![reason.to_string()] }
}

impl Target {
    fn of(router: &Router, target: unstale_events::Target<'_>) -> Self {
        let text = |kind| (target.kind == kind).then(|| target.text.to_owned());
        Self {
            cache: router.caches().get(target.cache).name.clone(),
            key: text(TargetKind::Key),
            pattern: text(TargetKind::Pattern),
            bump: text(TargetKind::Bump),
        }
    }
}

/// Why an explanation isn't what a test case expects of it; nothing, if it is. What is expected is a part: fields that it leaves out may
/// be anything, of the targets each expected one must be there, in any order, and a reason may be given by its code alone.
pub fn differences(found: &Explanation, expected: &Map<String, Value>) -> Vec<String> {
    let found = serde_json::to_value(found).unwrap_or_default();
    expected.iter().flat_map(|(field, expected)| difference(field, &found[field], expected)).collect()
}

fn difference(field: &str, found: &Value, expected: &Value) -> Vec<String> {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => missing(field, found, expected),
        (found, expected) if found == expected => Vec::new(),
        (Value::Null, _) => vec![format!("`{field}`: there is no such field in an explanation, or it has no value here")],
        (found, expected) => vec![format!("`{field}` is {found}, expected {expected}")],
    }
}

/// Every expected element must be there, equal ones as often as they are expected.
fn missing(field: &str, found: &[Value], expected: &[Value]) -> Vec<String> {
    let mut left = found.iter().collect::<Vec<_>>();
    let mut missing = Vec::new();
    for wanted in expected {
        match left.iter().position(|found| holds(found, wanted)) {
            Some(index) => drop(left.swap_remove(index)),
            None => missing.push(format!("`{field}` lacks {wanted}; there is {}", Value::from(found))),
        }
    }
    if expected.is_empty() && !found.is_empty() {
        missing.push(format!("`{field}` is {}, expected none", Value::from(found)));
    }
    missing
}

fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(name, value)| found.get(name) == Some(value)),
        (Value::String(reason), Value::String(code)) => {
            reason == code || reason.strip_prefix(code.as_str()).is_some_and(|rest| rest.starts_with(':'))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use unstale_router::{Input, Source, compile};

    const ROUTES: &str = r#"
        [cache.product]
        prefixes = ["product:"]
        [[route]]
        event = "ProductUpdated"
        cache = "product"
        priority = "critical"
        keys = ["product:{id}", "product:{id}:{locales[]?}"]
        patterns = ["product:{id}:list:*"]
        bump = ["product:version"]
    "#;

    fn explained(event: &Value) -> Explanation {
        let file = Some(Source { name: "test".into(), text: ROUTES.into() });
        let router = compile(&Input { file, ..Input::default() }).unwrap_or_else(|problems| panic!("{problems}"));
        explain(&router, &Names::new("unstale", None), event.to_string().as_bytes())
    }

    #[test]
    fn a_routed_event_names_its_stream_and_targets() {
        let found = explained(&json!({"type": "ProductUpdated", "id": "e1", "Id": "e1", "locales": ["de"]}));
        let found = if found.outcome == Outcome::Routed {
            found
        } else {
            explained(&json!({"type": "ProductUpdated", "data": {"id": 7, "locales": ["de"]}}))
        };
        let found = serde_json::to_value(found).unwrap();
        assert_eq!(found["outcome"], "routed");
        assert_eq!(found["priority"], "critical");
        assert_eq!(found["stream"], "unstale:events:critical");
        assert_eq!(found["reasons"], json!([]));
        assert_eq!(found["targets"].as_array().map(Vec::len), Some(4));
        assert!(found["targets"].as_array().unwrap().contains(&json!({"cache": "product", "bump": "product:version"})), "{found}");
    }

    #[test]
    fn other_events_are_told_apart() {
        assert_eq!(explained(&json!({"type": "Other"})).outcome, Outcome::Unrouted);
        let lacking = explained(&json!({"type": "ProductUpdated"}));
        assert_eq!(lacking.outcome, Outcome::DeadLetter);
        assert!(lacking.reasons[0].starts_with("missing_attribute: "), "{:?}", lacking.reasons);
        let broken = explained(&json!([]));
        assert_eq!((broken.outcome, broken.priority, broken.stream), (Outcome::DeadLetter, None, None));
        assert!(broken.reasons[0].starts_with("undecodable: "), "{:?}", broken.reasons);
    }

    #[test]
    fn an_expectation_is_a_part_in_any_order() {
        let found = Explanation {
            outcome: Outcome::DeadLetter,
            priority: Some("high"),
            stream: Some("unstale:events".into()),
            targets: ["a", "b", "b"].map(|key| Target { cache: "c".into(), key: Some(key.into()), pattern: None, bump: None }).to_vec(),
            reasons: vec!["missing_attribute: `x` is absent".into()],
        };
        let told = |expected: Value| differences(&found, expected.as_object().unwrap());
        for fine in [
            json!({}),
            json!({"outcome": "dead_letter", "priority": "high"}),
            json!({"targets": [{"key": "b"}, {"cache": "c", "key": "a"}, {"key": "b"}]}),
            json!({"reasons": ["missing_attribute"]}),
        ] {
            assert_eq!(told(fine.clone()), Vec::<String>::new(), "{fine}");
        }
        for wrong in [
            json!({"outcome": "routed"}),
            json!({"targets": [{"key": "a"}, {"key": "a"}]}),
            json!({"targets": []}),
            json!({"reasons": ["missing"]}),
            json!({"outcom": "routed"}),
        ] {
            assert_eq!(told(wrong.clone()).len(), 1, "{wrong}: {:?}", told(wrong.clone()));
        }
    }
}
