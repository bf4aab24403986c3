//! Routers from a few lines of TOML, and events from JSON.

use unstale_events::Event;
use unstale_events::{Invalidation, TargetKind};
use unstale_router::{Input, Problems, Router, Source, compile};

pub(crate) fn input(toml: &str) -> Input {
    Input { file: Some(Source { name: "unstale.toml".to_owned(), text: toml.to_owned() }), ..Input::default() }
}

#[track_caller]
pub(crate) fn router(toml: &str) -> Router {
    compile(&input(toml)).unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
pub(crate) fn problems(toml: &str) -> Problems {
    compile(&input(toml)).expect_err("the configuration has mistakes")
}

#[track_caller]
pub(crate) fn route(router: &Router, json: &str) -> Invalidation {
    let event = Event::from_json(json.as_bytes()).unwrap_or_else(|reason| panic!("{json}: {reason}"));
    let mut out = Invalidation::default();
    router.route(&event, &mut out);
    out
}

/// `cache kind text` of each target, sorted.
pub(crate) fn targets(router: &Router, out: &Invalidation) -> Vec<String> {
    let show = |target: unstale_events::Target<'_>| {
        let kind = match target.kind {
            TargetKind::Key => "key",
            TargetKind::Pattern => "pattern",
            TargetKind::Bump => "bump",
        };
        format!("{} {kind} {}", router.caches().get(target.cache).name, target.text)
    };
    let mut shown: Vec<_> = out.targets.iter().map(show).collect();
    shown.sort();
    shown
}

/// The codes and texts of the reasons.
pub(crate) fn reasons(out: &Invalidation) -> Vec<String> {
    out.reasons.iter().map(ToString::to_string).collect()
}

/// One cache `c` with prefix `c:`, and one route for event `E` with these further lines.
#[track_caller]
pub(crate) fn one(lines: &str) -> Router {
    router(&format!("[cache.c]\nprefixes = [\"c:\"]\n[[route]]\nevent = \"E\"\ncache = \"c\"\n{lines}\n"))
}

/// The texts of the targets of event `E` with these attributes, and the codes of its reasons.
#[track_caller]
pub(crate) fn texts(router: &Router, attributes: &str) -> (Vec<String>, Vec<&'static str>) {
    let comma = if attributes.is_empty() { "" } else { "," };
    let out = route(router, &format!(r#"{{"type":"E"{comma}{attributes}}}"#));
    let texts = out.targets.iter().map(|target| target.text.to_owned()).collect();
    (texts, out.reasons.iter().map(|reason| reason.code.name()).collect())
}
