//! `CacheInvalidationRequested`: the event that names keys and patterns itself. Built in; routes may add to it.
//!
//! Its keys and patterns are judged like those of any route. Patterns are taken as globs, with few wildcards: matching many against a
//! long key is slow.

use unstale_events::{CacheId, Code, Event, Priority, Reason, TargetKind, Value, glob};

use crate::attribute;
use crate::router::Run;
use crate::template::Lack;

/// The event's type.
pub(crate) const TYPE: &str = "CacheInvalidationRequested";

/// How many wildcards a pattern of such an event may have.
const MAX_WILDCARDS: usize = 8;

/// Which cache the targets belong to.
enum Scope {
    /// The one that the event names.
    Named(CacheId),
    /// The one that owns each.
    Owner,
}

/// Carries the event out as far as it may be.
pub(crate) fn carry_out(event: &Event<'_>, run: &mut Run<'_, '_>) {
    let priority = text(event, "priority", run).and_then(|name| priority(&name, run));
    run.urge(priority.unwrap_or_default());
    if let Some(operation) = text(event, "operation", run) {
        run.operation(operation);
    }
    let Some(scope) = scope(event, run) else { return };
    targets(event, "keys", TargetKind::Key, &scope, run);
    targets(event, "patterns", TargetKind::Pattern, &scope, run);
}

/// A single text, or `None` if it is absent, null, empty or (with a reason) unfit.
fn text(event: &Event<'_>, name: &str, run: &mut Run<'_, '_>) -> Option<String> {
    let value = event.attribute(&[name])?;
    match attribute::scalar(&value) {
        Ok(text) => Some(text.to_owned()).filter(|text| !text.is_empty()),
        Err(unfit) => {
            run.refuse(Reason::new(Code::MissingAttribute, format!("attribute `{name}` {unfit}; a text is needed")));
            None
        }
    }
}

fn priority(name: &str, run: &mut Run<'_, '_>) -> Option<Priority> {
    let priority = Priority::from_name(&name.to_ascii_lowercase());
    if priority.is_none() {
        let text = "attribute `priority` is none of `critical`, `high`, `normal`, `low`; carried out as `normal`";
        run.refuse(Reason::new(Code::MissingAttribute, text));
    }
    priority
}

/// `None`, with a reason, if the event names a cache that is not declared.
fn scope(event: &Event<'_>, run: &mut Run<'_, '_>) -> Option<Scope> {
    let reasons = run.reasons();
    let Some(name) = text(event, "cache", run) else {
        return (run.reasons() == reasons).then_some(Scope::Owner);
    };
    let found = run.caches().by_name(&name).map(Scope::Named);
    if found.is_none() {
        run.refuse(Reason::new(
            Code::RefusedTarget,
            "attribute `cache` names no declared cache; name one, or leave it to the keys' prefixes",
        ));
    }
    found
}

fn targets(event: &Event<'_>, name: &str, kind: TargetKind, scope: &Scope, run: &mut Run<'_, '_>) {
    let elements = match event.attribute(&[name]) {
        None | Some(Value::Null) => return,
        Some(Value::Array(elements)) => elements,
        Some(single) => vec![single],
    };
    for (index, element) in elements.iter().enumerate() {
        if run.is_full() {
            return;
        }
        if let Err(reason) = target(element, &|| format!("`{name}[{index}]`"), kind, scope, run) {
            run.refuse(reason);
        }
    }
}

fn target(element: &Value<'_>, name: &dyn Fn() -> String, kind: TargetKind, scope: &Scope, run: &mut Run<'_, '_>) -> Result<(), Reason> {
    let missing = |how: String| Reason::new(Code::MissingAttribute, format!("{} {how}", name()));
    let text = attribute::scalar(element).map_err(missing)?;
    if text.is_empty() {
        return Err(missing("is empty".to_owned()));
    }
    let refused = |how: &str| Reason::new(Code::RefusedTarget, format!("{} {how}", name()));
    if kind == TargetKind::Pattern && glob::wildcards(text) > MAX_WILDCARDS {
        return Err(refused(&format!("has more than {MAX_WILDCARDS} wildcards")));
    }
    let cache = match scope {
        Scope::Named(cache) => Some(*cache),
        Scope::Owner if kind == TargetKind::Pattern => run.caches().owner(glob::literal_prefix(text).as_bytes()),
        Scope::Owner => run.caches().owner(text.as_bytes()),
    };
    let cache = cache.ok_or_else(|| refused("lies in no declared cache"))?;
    let written = run.target(cache, kind, name, &mut |out| {
        out.push_str(text);
        Ok(())
    });
    match written {
        Ok(()) | Err(Lack::Skip) => Ok(()),
        Err(Lack::Missing(reason)) => Err(reason),
    }
}
