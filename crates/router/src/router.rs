//! The compiled routes: from an event to its targets and its priority.
//!
//! Total: whatever the event says, routing it ends in targets and reasons, never in an error. The rules of an event type are found
//! with one look-up, and targets are written straight into the invalidation's buffer.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use unstale_events::{CacheId, Code, Event, Glob, Invalidation, Priority, Reason, TargetKind, glob};

use crate::caches::Caches;
use crate::canary;
use crate::compile::is_glob;
use crate::declare::Republish;
use crate::request;
use crate::template::{Emit, Lack, Template};
use crate::when::Condition;

/// How many reasons are kept of one event.
const MAX_REASONS: usize = 100;

/// How long all the targets of one event may be together, in bytes: a long value times a long array must not exhaust memory.
const MAX_TEXT: usize = 16 << 20;

/// Compiled routes.
#[derive(Debug)]
pub struct Router {
    caches: Arc<Caches>,
    rules: Vec<Rule>,
    types: HashMap<String, Known, RandomState>,
    globs: Vec<GlobRule>,
    labels: Vec<String>,
    republish: Vec<Republish>,
    fingerprint: String,
    bounds: Bounds,
}

/// A route.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The events as the route writes them: names and globs.
    pub(crate) events: Vec<String>,
    pub(crate) priority: Priority,
    pub(crate) when: Vec<Condition>,
    pub(crate) targets: Vec<Target>,
    pub(crate) bumps: Vec<(CacheId, String)>,
}

/// A template for keys or patterns of a cache.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cache: CacheId,
    pub(crate) kind: TargetKind,
    pub(crate) template: Template,
}

/// How much one event may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    targets: usize,
    text: usize,
}

impl Bounds {
    pub(crate) fn new(targets: usize) -> Self {
        Self { targets, text: MAX_TEXT }
    }
}

/// An event type that routes name exactly.
#[derive(Debug)]
struct Known {
    label: u32,
    rules: Vec<usize>,
}

/// A glob among a rule's events.
#[derive(Debug)]
struct GlobRule {
    label: u32,
    rule: usize,
    stem: String,
    glob: Glob,
}

impl Router {
    pub(crate) fn new(caches: Arc<Caches>, rules: Vec<Rule>, republish: Vec<Republish>, protected: &[String], bounds: Bounds) -> Self {
        let labels = labels(&rules);
        let globs = globs(&rules, &labels);
        let types = types(&rules, &labels);
        let fingerprint = fingerprint(&caches, &rules, &republish, protected);
        Self { caches, rules, types, globs, labels, republish, fingerprint, bounds }
    }

    /// Says what an event asks for. `out` is cleared first. What can't be carried out is a reason there, the rest its targets; over
    /// `max_targets` there are no targets.
    pub fn route(&self, event: &Event<'_>, out: &mut Invalidation) {
        out.clear();
        let mut run = Run { router: self, priority: None, counted: 0, is_full: false, out };
        match self.types.get(event.kind()) {
            Some(known) => run.known(known, event),
            None => run.by_globs(event),
        }
        run.finish();
    }

    /// The closed list of type names, for metric labels: the built-in ones, and those of the routes as they write them.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How many routes there are; the built-in ones don't count.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// A short text that is the same for the same caches and routes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The declared caches.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// Whom to serve after each delivery.
    pub fn republish(&self) -> &[Republish] {
        &self.republish
    }
}

/// The built-in types, then all names in the order of the routes, each once.
fn labels(rules: &[Rule]) -> Vec<String> {
    let mut labels = [request::TYPE, canary::TYPE].map(str::to_owned).to_vec();
    for event in rules.iter().flat_map(|rule| &rule.events) {
        if !labels.contains(event) {
            labels.push(event.clone());
        }
    }
    labels
}

fn label(labels: &[String], event: &str) -> u32 {
    let position = labels.iter().position(|label| label == event).unwrap_or_default();
    u32::try_from(position).unwrap_or_default()
}

fn globs(rules: &[Rule], labels: &[String]) -> Vec<GlobRule> {
    let of_rule = |(rule, events): (usize, &Rule)| {
        let written: Vec<_> = events.events.iter().filter(|event| is_glob(event)).cloned().collect();
        written.into_iter().map(move |event| GlobRule {
            label: label(labels, &event),
            rule,
            stem: glob::literal_prefix(&event).to_string(),
            glob: Glob::new(&event),
        })
    };
    rules.iter().enumerate().flat_map(of_rule).collect()
}

/// For every exact name all the rules that are for it, those that name it by a glob included.
fn types(rules: &[Rule], labels: &[String]) -> HashMap<String, Known, RandomState> {
    let globs = globs(rules, labels);
    let mut types: HashMap<_, _, RandomState> = HashMap::default();
    for name in labels.iter().filter(|name| !is_glob(name)) {
        let is_for = |(_, rule): &(usize, &Rule)| rule.events.contains(name);
        let mut for_name: Vec<_> = rules.iter().enumerate().filter(is_for).map(|(index, _)| index).collect();
        for_name.extend(globs.iter().filter(|glob| glob.matches(name)).map(|glob| glob.rule));
        for_name.sort_unstable();
        for_name.dedup();
        types.insert(name.clone(), Known { label: label(labels, name), rules: for_name });
    }
    types
}

impl GlobRule {
    fn matches(&self, kind: &str) -> bool {
        kind.starts_with(&self.stem) && self.glob.matches(kind.as_bytes())
    }
}

fn fingerprint(caches: &Caches, rules: &[Rule], republish: &[Republish], protected: &[String]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (_, cache) in caches.iter() {
        let _ = writeln!(text, "{cache:?}");
    }
    for rule in rules {
        let _ = write!(text, "{:?} {:?} {:?} {:?}", rule.events, rule.priority, rule.when, rule.bumps);
        for Target { cache, kind, template } in &rule.targets {
            let _ = write!(text, " {cache:?} {kind:?} {:?}", template.written());
        }
        text.push('\n');
    }
    let _ = write!(text, "{republish:?} {protected:?}");
    unstale_events::fingerprint(&text)
}

/// The routing of one event.
pub(crate) struct Run<'r, 'o> {
    router: &'r Router,
    /// The highest priority so far.
    priority: Option<Priority>,
    /// Keys and patterns so far.
    counted: usize,
    is_full: bool,
    out: &'o mut Invalidation,
}

impl<'r> Run<'r, '_> {
    fn known(&mut self, known: &Known, event: &Event<'_>) {
        self.names(known.label);
        if event.kind() == canary::TYPE {
            return canary::carry_out(event, self); // A glob that means all types doesn't mean this one.
        }
        if event.kind() == request::TYPE {
            request::carry_out(event, self);
        }
        known.rules.iter().for_each(|rule| self.apply(*rule, event));
    }

    fn by_globs(&mut self, event: &Event<'_>) {
        let mut last = None;
        for glob in self.router.globs.iter().filter(|glob| glob.matches(event.kind())) {
            self.names(glob.label);
            if last != Some(glob.rule) {
                self.apply(glob.rule, event);
                last = Some(glob.rule);
            }
        }
    }

    /// The first name that fits an event is its label.
    fn names(&mut self, label: u32) {
        self.out.routed = true;
        self.out.label.get_or_insert(label);
    }

    fn apply(&mut self, rule: usize, event: &Event<'_>) {
        let rule = &self.router.rules[rule];
        for condition in &rule.when {
            match condition.holds(event) {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => return self.refuse(reason),
            }
        }
        self.urge(rule.priority);
        rule.targets.iter().for_each(|target| self.render(target, event));
        for (cache, key) in &rule.bumps {
            self.out.targets.push(unstale_events::Target { cache: *cache, kind: TargetKind::Bump, text: key });
        }
    }

    fn render(&mut self, target: &'r Target, event: &Event<'_>) {
        if !self.is_full {
            target.template.expand(event, &mut Rendering { target, run: self });
        }
    }

    /// Raises the priority.
    pub(crate) fn urge(&mut self, priority: Priority) {
        self.priority = Some(self.priority.map_or(priority, |highest| highest.min(priority)));
    }

    /// Takes a reason, each once.
    pub(crate) fn refuse(&mut self, reason: Reason) {
        if self.out.reasons.len() < MAX_REASONS && !self.out.reasons.contains(&reason) {
            self.out.reasons.push(reason);
        }
    }

    /// Takes a target if its cache may delete it. `name` says what it is if not.
    pub(crate) fn target(
        &mut self,
        cache: CacheId,
        kind: TargetKind,
        name: &dyn Fn() -> String,
        write: &mut dyn FnMut(&mut String) -> Result<(), Lack>,
    ) -> Result<(), Lack> {
        let caches = &self.router.caches;
        let target = self.out.targets.push_with(cache, kind, |text| write(text))?;
        let judged = match kind {
            TargetKind::Pattern => caches.judge_pattern(cache, target.text),
            _ => caches.judge(cache, target.text.as_bytes()),
        };
        if let Err(refusal) = judged {
            self.out.targets.pop();
            return Err(Lack::Missing(caches.reason(cache, &name(), refusal)));
        }
        self.counted += 1;
        let Bounds { targets, text } = self.router.bounds;
        self.is_full = self.counted > targets || self.out.targets.text_bytes() > text;
        Ok(())
    }

    /// Takes a key that no cache owns, and that is the sidecar's own to delete.
    pub(crate) fn own_key(&mut self, cache: CacheId, key: &str) {
        self.out.targets.push(unstale_events::Target { cache, kind: TargetKind::Key, text: key });
    }

    pub(crate) fn caches(&self) -> &'r Caches {
        &self.router.caches
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// How many reasons there are so far.
    pub(crate) fn reasons(&self) -> usize {
        self.out.reasons.len()
    }

    pub(crate) fn operation(&mut self, name: String) {
        self.out.operation = Some(name);
    }

    /// An event that asks for too much is not carried out in part.
    fn finish(self) {
        self.out.priority = self.priority.unwrap_or_default();
        if self.is_full {
            let Bounds { targets, text } = self.router.bounds;
            let reason =
                format!("more than {targets} targets, or more than {} MiB of them; raise `limits.targets` or split the event", text >> 20);
            self.out.targets.clear();
            self.out.reasons.clear();
            self.out.reasons.push(Reason::new(Code::TooManyTargets, reason));
        }
    }
}

/// The rendering of one template.
struct Rendering<'a, 'r, 'o> {
    target: &'r Target,
    run: &'a mut Run<'r, 'o>,
}

impl Emit for Rendering<'_, '_, '_> {
    fn emit(&mut self, write: &mut dyn FnMut(&mut String) -> Result<(), Lack>) -> Result<(), Lack> {
        let Target { cache, kind, template } = self.target;
        self.run.target(*cache, *kind, &|| format!("`{}`", template.written()), write)
    }

    fn refuse(&mut self, reason: Reason) {
        self.run.refuse(reason);
    }

    fn is_full(&self) -> bool {
        self.run.is_full
    }
}
