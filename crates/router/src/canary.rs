//! The canary: a key of the sidecar's own that a built-in event deletes, so that the whole way of an event can be tried and timed.
//!
//! The one exception to the rule that nothing deletes the sidecar's own keys, and a narrow one: no route may name the event, and the event
//! can name no other key.

use unstale_events::{Code, Event, Reason};

use crate::attribute;
use crate::caches::own_prefix;
use crate::router::Run;

/// The event's type.
pub const TYPE: &str = "UnstaleCanary";

/// The attribute that holds the key.
pub const KEY: &str = "key";

/// The cache in notices and metric labels. No declared cache can be called so.
pub(crate) const CACHE: &str = "unstale:canary";

/// What the keys of a namespace's canaries begin with.
pub fn prefix(namespace: &str) -> String {
    format!("{}canary:", own_prefix(namespace))
}

/// Carries the event out.
pub(crate) fn carry_out(event: &Event<'_>, run: &mut Run<'_, '_>) {
    let (caches, key) = (run.caches(), event.attribute(&[KEY]));
    let canary = caches.canary();
    let is_canary = |key: &&str| caches.get(canary).prefixes.iter().any(|prefix| key.starts_with(prefix));
    match key.as_ref().and_then(|key| attribute::scalar(key).ok()).filter(is_canary) {
        Some(key) => run.own_key(canary, key),
        None => run.refuse(Reason::new(Code::RefusedTarget, format!("attribute `{KEY}` is no canary's key"))),
    }
}
