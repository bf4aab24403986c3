//! What is fuzzed: everything that reads what others wrote, each with what must hold whatever comes.
//!
//! Each function takes any bytes and panics if a promise is broken. `cargo xtask fuzz` drives them by coverage; `crates/daemon/tests/fuzzing.rs`
//! includes this file and replays the corpora and mutations of them as an ordinary test.

use bytes::Bytes;
use unstale::config::{self, Shown, Sources};
use unstale::explain::explain;
use unstale::http::Trial;
use unstale_events::{Event, Fields, Glob, Invalidation, Notice, Position, TargetKind, Value, glob as globs};
use unstale_router::{Input, Router, Source, compile};
use unstale_source::Names;

/// A target by its name.
pub type Target = fn(&[u8]);

/// All targets; a corpus has its target's name.
pub const TARGETS: [(&str, Target); 8] = [
    ("decoder", decoder),
    ("routes", routes),
    ("template", template),
    ("glob", glob),
    ("config", config),
    ("bodies", bodies),
    ("notice", notice),
    ("answers", answers),
];

/// Splits what a target takes apart into its parts.
fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == 0)
}

/// An entry of the stream: names and values with a zero byte between them; `data` may be JSON, `MessagePack` or a `CloudEvent`.
pub fn decoder(input: &[u8]) {
    let mut fields: Fields = Vec::new();
    let mut rest = input;
    // The last value takes what is left, zeros included: `MessagePack` has many.
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (name, value) = (&rest[..end], &rest[end + 1..]);
        let is_data = name == b"data";
        let length = value.iter().position(|byte| *byte == 0).filter(|_| !is_data).unwrap_or(value.len());
        fields.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(&value[..length])));
        rest = value.get(length + 1..).unwrap_or_default();
    }
    if let Ok(event) = Event::decode(&fields) {
        read_all(&event);
    }
    if let Ok(event) = Event::from_json(input) {
        read_all(&event);
    }
}

/// Every attribute is found by its name, and is JSON when written as such.
fn read_all(event: &Event<'_>) {
    assert!(!event.kind().is_empty());
    let _ = (event.id(), event.time(), event.correlation_id());
    for (name, value) in event.attributes() {
        let found = event.attribute(&[name]).expect("an attribute is found by its name");
        assert!(is_same(&found, &value), "{name}: {found:?} and {value:?}");
        let mut json = String::new();
        value.push_json(&mut json);
        serde_json::from_str::<&serde_json::value::RawValue>(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        let _ = (value.as_text(), value.is_empty(), value.kind());
    }
}

/// Equal, where a value can be equal to itself at all: a text that holds half a character is no text.
fn is_same(one: &Value<'_>, other: &Value<'_>) -> bool {
    one.same(other) || one == other
}

/// A file of routes, and after a zero byte an event in JSON: what compiles routes anything, within its caches.
pub fn routes(input: &[u8]) {
    let mut parts = parts(input);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
    match compile(&Input { file: Some(named(text.to_owned())), max_targets: 100, ..Input::default() }) {
        Ok(router) => parts.for_each(|event| route(&router, event)),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(!problems.render(false).is_empty() && !problems.render(true).is_empty());
        }
    }
}

fn route(router: &Router, event: &[u8]) {
    let Ok(event) = Event::from_json(event) else { return };
    let mut asked = Invalidation::default();
    router.route(&event, &mut asked);
    assert!(asked.targets.iter().filter(|target| target.kind != TargetKind::Bump).count() <= 100);
    for target in asked.targets.iter() {
        let caches = router.caches();
        match target.kind {
            TargetKind::Key => assert!(caches.deletable(target.cache, target.text.as_bytes()), "{target:?}"),
            TargetKind::Pattern => {
                let begin = globs::literal_prefix(target.text);
                let is_inside = caches.get(target.cache).prefixes.iter().any(|prefix| begin.starts_with(prefix.as_str()));
                assert!(is_inside, "{target:?}");
            }
            TargetKind::Bump => {}
        }
    }
}

/// A template's end, and after a zero byte the attributes of an event in JSON: as a pattern it means the very keys that it means as a key.
pub fn template(input: &[u8]) {
    let [Some(Ok(template)), Some(Ok(attributes))] = ({
        let mut parts = parts(input).map(std::str::from_utf8);
        [parts.next(), parts.next()]
    }) else {
        return;
    };
    let event = format!("{{\"type\":\"E\",\"data\":{attributes}}}");
    let Ok(event) = Event::from_json(event.as_bytes()) else { return };
    let [keys, patterns] = ["keys", "patterns"].map(|kind| expanded(kind, template, &event));
    let (Some(keys), Some(patterns)) = (keys, patterns) else { return };
    if template.contains(['*', '?', '[', ']', '\\']) {
        return;
    }
    assert_eq!(keys.len(), patterns.len(), "{keys:?} {patterns:?}");
    for (at, pattern) in patterns.iter().enumerate() {
        assert_eq!(globs::literal_prefix(pattern), keys[at]);
        let glob = Glob::new(pattern);
        assert!(keys.iter().all(|key| glob.matches(key.as_bytes()) == (*key == keys[at])), "{pattern:?} {keys:?}");
    }
}

/// What a template makes of an event; `None` if it is none.
fn expanded(kind: &str, template: &str, event: &Event<'_>) -> Option<Vec<String>> {
    let quoted = serde_json::to_string(&format!("c:{template}")).expect("every text is JSON").replace('\u{7f}', "\\u007f");
    let text = format!("[cache.c]\nprefixes = [\"c:\"]\n[[route]]\nevent = \"E\"\ncache = \"c\"\n{kind} = [{quoted}]\n");
    let router = compile(&Input { file: Some(named(text)), max_targets: 1000, ..Input::default() }).ok()?;
    let mut asked = Invalidation::default();
    router.route(event, &mut asked);
    assert!(asked.routed);
    let texts: Vec<String> = asked.targets.iter().map(|target| target.text.to_owned()).collect();
    assert!(texts.iter().all(|text| text.starts_with("c:")), "{texts:?}");
    Some(texts)
}

/// A pattern, and after a zero byte keys: they match as they do by a port of Redis' own function.
pub fn glob(input: &[u8]) {
    let mut parts = parts(input);
    let Some(Ok(pattern)) = parts.next().map(std::str::from_utf8) else { return };
    let (glob, folded) = (Glob::new(pattern), Glob::ignoring_case(pattern));
    for key in parts.filter(|key| key.len() < 64) {
        assert_eq!(glob.matches(key), reference(pattern.as_bytes(), key, false), "{pattern:?} {:?}", key.escape_ascii());
        assert_eq!(folded.matches(key), reference(pattern.as_bytes(), key, true), "{pattern:?} {:?} without case", key.escape_ascii());
        if glob.matches(key) {
            assert!(key.starts_with(globs::literal_prefix(pattern).as_bytes()), "{pattern:?} {:?}", key.escape_ascii());
        }
    }
    let mut escaped = String::new();
    globs::escape(pattern, &mut escaped);
    assert!(pattern.is_empty() || Glob::new(&escaped).matches(pattern.as_bytes()), "{pattern:?}");
    assert_eq!(globs::literal_prefix(&escaped), pattern);
    assert_eq!(globs::wildcards(&escaped), 0);
}

/// Whether a pattern matches, tried every way, sign by sign, as Redis does it: right, and slow.
fn reference(pattern: &[u8], key: &[u8], fold: bool) -> bool {
    let same = |a: u8, b: u8| a == b || (fold && a.eq_ignore_ascii_case(&b));
    match (pattern, key) {
        ([], []) => true,
        // At the end of the key only stars may be left, but nothing matches a key that was empty from the beginning; see `glob`.
        ([], _) | (_, []) => false,
        ([b'*', rest @ ..], _) => {
            let rest = &rest[rest.iter().position(|sign| *sign != b'*').unwrap_or(rest.len())..];
            rest.is_empty() || (0..key.len()).any(|skipped| reference(rest, &key[skipped..], fold))
        }
        ([b'?', rest @ ..], [_, left @ ..]) => ends(rest, left, fold),
        ([b'[', class @ ..], [byte, left @ ..]) => {
            let (is_in, rest) = in_class(class, *byte, fold);
            is_in && ends(rest, left, fold)
        }
        ([b'\\', escaped, rest @ ..], [byte, left @ ..]) => same(*escaped, *byte) && ends(rest, left, fold),
        ([sign, rest @ ..], [byte, left @ ..]) => same(*sign, *byte) && ends(rest, left, fold),
    }
}

fn ends(pattern: &[u8], key: &[u8], fold: bool) -> bool {
    if key.is_empty() { pattern.iter().all(|sign| *sign == b'*') } else { reference(pattern, key, fold) }
}

/// Whether a class has a byte, and what follows the class.
fn in_class(class: &[u8], byte: u8, fold: bool) -> (bool, &[u8]) {
    let lower = |byte: u8| if fold { byte.to_ascii_lowercase() } else { byte }.cast_signed();
    let (negated, mut rest) = class.strip_prefix(b"^").map_or((false, class), |rest| (true, rest));
    let mut found = false;
    loop {
        rest = match *rest {
            [b'\\', escaped, ref behind @ ..] => {
                found |= escaped == if fold { byte.to_ascii_lowercase() } else { byte };
                behind
            }
            [b']', ref behind @ ..] => return (found != negated, behind),
            [] => return (found != negated, &[]),
            [low, b'-', high, ref behind @ ..] => {
                let (low, high) = (low.cast_signed().min(high.cast_signed()), low.cast_signed().max(high.cast_signed()));
                found |= (lower(low.cast_unsigned())..=lower(high.cast_unsigned())).contains(&lower(byte));
                behind
            }
            [one, ref behind @ ..] => {
                found |= lower(one) == lower(byte);
                behind
            }
        };
    }
}

/// A configuration file, and after zero bytes environment variables and flags: what is wrong is told, all of it.
pub fn config(input: &[u8]) {
    let mut parts = parts(input).map(String::from_utf8_lossy);
    let text = parts.next().unwrap_or_default().into_owned();
    let mut sources = Sources::default();
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) if name.starts_with("--") => sources.set.push(format!("{}={value}", &name[2..])),
            Some((name, value)) => sources.environment.push((name.to_owned(), value.to_owned())),
            None => sources.presets.push(part.into_owned()),
        }
    }
    match config::load_text(&sources, named(text)) {
        Ok(loaded) => assert!(!Shown::of(&loaded).to_string().is_empty()),
        Err(problems) => assert!(!problems.render(false).is_empty() && !problems.render(true).is_empty()),
    }
}

/// A body of `POST /v1/events`, `/v1/invalidate` or `/v1/explain`: what is accepted reads back as what was sent.
pub fn bodies(input: &[u8]) {
    thread_local! {
        static TRIAL: Trial = {
            let sources = Sources { presets: vec!["llm-gateway".to_owned()], ..Sources::default() };
            let loaded = config::load_text(&sources, named(String::new())).expect("a preset is right");
            Trial::new(loaded).expect("no file is named")
        };
    }
    TRIAL.with(|trial| {
        if let Some(entries) = trial.events(input)
            && let (Ok(sent), [fields]) = (Event::from_json(input), &entries[..])
        {
            let read = Event::decode(fields).expect("what is added can be read");
            assert_eq!(read.kind(), sent.kind());
            assert_eq!((read.id(), read.time(), read.correlation_id()), (sent.id(), sent.time(), sent.correlation_id()));
            assert_eq!(attributes(&read), attributes(&sent));
        }
        if let Some(fields) = trial.invalidate(input) {
            let event = Event::decode(&fields).expect("what is added can be read");
            let mut asked = Invalidation::default();
            trial.router().route(&event, &mut asked);
            assert!(!asked.targets.is_empty() && asked.reasons.is_empty(), "{asked:?}");
        }
        let _ = explain(trial.router(), &Names::new("unstale", None), input);
    });
}

/// The attributes of an event, in no order, and each once: two of one name have one value.
fn attributes(event: &Event<'_>) -> Vec<String> {
    let mut all: Vec<_> = event.attributes().map(|(name, value)| format!("{name}: {value:?}")).collect();
    all.sort();
    all.dedup();
    all
}

/// A text as a file of that everyday name.
fn named(text: String) -> Source {
    Source { name: "unstale.toml".to_owned(), text }
}

/// A notice as a receiver reads it, or a position: what is read is written as what reads back the same.
pub fn notice(input: &[u8]) {
    if let Ok(notice) = Notice::from_json(input) {
        let written = serde_json::to_string(&notice).expect("a notice is JSON");
        assert_eq!(Notice::from_json(written.as_bytes()).expect("what was written is a notice"), notice);
        let _ = (notice.is_known(), notice.position());
    }
    if let Some(position) = std::str::from_utf8(input).ok().and_then(|text| text.parse::<Position>().ok()) {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
}

/// What a server answers, in RESP: whatever it is, it is what is expected or a fault, and no fault tells the content.
pub fn answers(input: &[u8]) {
    if let Some(reply) = unstale_connect::trial::look_into(input) {
        unstale_source::trial::look_into(&reply);
        unstale_sink::trial::look_into(&reply);
    }
}
