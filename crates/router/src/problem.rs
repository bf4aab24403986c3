//! Mistakes in a configuration: gathered one by one, shown all at once, each with its file, line and caret.
//!
//! Knows nothing of routes: whoever reads a part of the configuration adds what it found.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A text that settings come from: a file, a preset, an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How people know it: a path, a variable's name.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name of the source that it stands in.
    pub source: String,
    /// Where in the source's text, in bytes; `None` if no single place is at fault.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// All mistakes of a configuration, with the texts that they stand in.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    sources: Vec<Source>,
    list: Vec<Problem>,
}

/// A place in one of the sources of a [`Problems`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) source: usize,
    pub(crate) span: Range<usize>,
}

impl Problems {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a text known, so that problems in it are shown with their line. Don't add texts that hold secrets.
    pub fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.source(Source { name: name.into(), text: text.into() });
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Adds all problems of another list, and its sources.
    pub fn append(&mut self, other: Self) {
        for source in other.sources {
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
        self.list.extend(other.list);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems in the order of their sources and of their places there.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort_by_key(|problem| (self.rank(problem), problem.span.as_ref().map(|span| span.start)));
        sorted.into_iter()
    }

    /// The text for people: every problem with source, line, caret, and what would be right.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<_> = self.iter().map(|problem| renderer.render(&self.groups(problem))).collect();
        shown.join("\n\n") + "\n"
    }

    fn groups<'a>(&'a self, problem: &'a Problem) -> Vec<Group<'a>> {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let main = match (self.find(&problem.source), &problem.span) {
            (Some(source), Some(span)) => title.element(snippet(source, span)),
            _ => title.element(Origin::path(problem.source.as_str())),
        };
        let help = problem.help.as_deref().map(|help| Level::HELP.message(help));
        vec![main.elements(help)]
    }

    fn rank(&self, problem: &Problem) -> usize {
        self.sources.iter().position(|source| source.name == problem.source).unwrap_or(usize::MAX)
    }

    fn find(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Makes a text known and says by which number an [`At`] names it. Problems find their text by its name, so another text of a known name,
    /// as of a flag that is given twice, gets a name of its own.
    pub(crate) fn source(&mut self, source: Source) -> usize {
        let Source { name, text } = source;
        for number in 1.. {
            let name = if number == 1 { name.clone() } else { format!("{name} ({number})") };
            match self.sources.iter().position(|known| known.name == name) {
                Some(known) if self.sources[known].text == text => return known,
                Some(_) => {}
                None => {
                    self.sources.push(Source { name, text });
                    break;
                }
            }
        }
        self.sources.len() - 1
    }

    pub(crate) fn source_name(&self, at: &At) -> &str {
        &self.sources[at.source].name
    }

    /// Adds a problem at a place.
    pub(crate) fn report(&mut self, at: &At, message: impl Into<String>, help: impl Into<String>) {
        let source = self.source_name(at).to_owned();
        self.push(Problem { source, span: Some(at.span.clone()), message: message.into(), help: Some(help.into()) });
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The line with a caret under the place; a place that ends outside the text is cut to it, and one that is none in it is the whole of it.
fn snippet<'a>(source: &'a Source, span: &Range<usize>) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let end = source.text.len();
    let start = span.start.min(end);
    let span = start..span.end.clamp(start, end);
    let span = if source.text.get(span.clone()).is_some() { span } else { 0..end };
    Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(AnnotationKind::Primary.span(span))
}

/// The known name that is most like `name`, if any is like it.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let name = plain(name);
    let limit = name.chars().count().max(3) / 3;
    let distance = |other: &str| strsim::damerau_levenshtein(&name, &plain(other));
    known.into_iter().map(|other| (distance(other), other)).filter(|(far, _)| *far <= limit).min().map(|(_, other)| other)
}

/// "did you mean `x`?", or a list of what is known.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    match suggest(name, known.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("known are {}", listed(known)),
    }
}

/// "`a`, `b`, `c`".
pub(crate) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
