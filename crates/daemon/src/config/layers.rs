//! Where values come from, and which of them wins: flags, `UNSTALE__…`, `CacheInvalidation__…`, `REDIS_URL`, the file, the profile, the
//! defaults.
//!
//! A [`Setting`] is one value from one place and a figment provider of its own, so that every mistake is reported, and with its own
//! source: figment alone stops at the first and names none.

use std::fmt;
use std::ops::Range;

use figment::value::{Dict, Map, Num, Value};
use figment::{Metadata, Profile, Provider};
use unstale_events::names::same_name;
use unstale_router::{Override, Problem, suggest};

use super::known::{Found, Keys};
use super::secret;

/// The prefix of this program's variables.
pub(super) const PREFIX: &str = "UNSTALE__";
/// The prefix of the variables that .NET applications already have.
pub(super) const DOTNET_PREFIX: &str = "CacheInvalidation__";
const DOTNET: [(&str, [&str; 2]); 4] = [
    ("BatchingEnabled", ["batching", "enabled"]),
    ("BatchWindow", ["batching", "window"]),
    ("MaxBatchSize", ["batching", "max_size"]),
    ("EnableCoalescing", ["batching", "coalescing"]),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A place in the file.
    File {
        /// The file's name as it was given.
        name: String,
        /// Where the value stands, in bytes.
        span: Range<usize>,
        /// Its line, from 1.
        line: usize,
    },
    /// An environment variable, by its name as it was set.
    Variable(String),
    /// A flag, as it was given, without its value.
    Flag(String),
    /// A profile, by its name.
    Profile(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, .. } => write!(f, "{name}:{line}"),
            Self::Variable(name) => write!(f, "environment variable `{name}`"),
            Self::Flag(flag) => write!(f, "flag `{flag}`"),
            Self::Profile(name) => write!(f, "profile `{name}`"),
        }
    }
}

impl Origin {
    /// A problem that was found here.
    pub(super) fn problem(&self, message: impl Into<String>, help: Option<String>) -> Problem {
        let (source, span) = match self {
            Self::File { name, span, .. } => (name.clone(), Some(span.clone())),
            other => (other.to_string(), None),
        };
        Problem { source, span, message: message.into(), help }
    }

    /// A key, written as one would write it here.
    pub(super) fn spell(&self, path: &[String]) -> String {
        match self {
            Self::Variable(_) => format!("{PREFIX}{}", path.join("__").to_uppercase()),
            _ => path.join("."),
        }
    }
}

/// One value from one place. Not `Debug`: the value may be secret.
#[derive(Clone)]
pub(super) struct Setting {
    /// The key, as the file would nest it.
    pub(super) path: Vec<String>,
    /// The value.
    pub(super) value: Value,
    /// Where it came from.
    pub(super) origin: Origin,
}

impl Setting {
    /// The key in one word.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self.path.iter().rev().fold(self.value.clone(), |value, name| Value::from(Dict::from([(name.clone(), value)])));
        Ok(Map::from([(Profile::Default, nested.into_dict().unwrap_or_default())]))
    }
}

/// What was gathered, the weakest first.
#[derive(Default)]
pub(super) struct Layers {
    /// Values of this crate's settings.
    pub(super) settings: Vec<Setting>,
    /// Values for the router's sections that don't stand in the file.
    pub(super) overrides: Vec<Override>,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
    /// What is odd, but no reason not to start.
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// Adds the environment, in its three ranks.
    pub(super) fn add_environment(&mut self, keys: &Keys, environment: &[(String, String)]) {
        let mut environment = environment.to_vec();
        environment.sort();
        self.add_redis_url(&environment);
        let dotnet = self.add_dotnet(keys, &environment);
        let own = self.settings.len();
        for (name, value) in &environment {
            if let Some(rest) = strip_prefix(name, PREFIX) {
                let path = rest.split("__").map(str::to_lowercase).collect::<Vec<_>>();
                self.add_text(keys, &path, value, &Origin::Variable(name.clone()));
            }
        }
        self.refuse_contradictions(own);
        self.warn_of_shadowed(dotnet, own);
    }

    /// Adds `--set KEY=VALUE`; later ones win.
    pub(super) fn add_flags(&mut self, keys: &Keys, flags: &[String]) {
        for flag in flags {
            let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
            let origin = Origin::Flag(format!("--set {key}"));
            if flag.contains('=') {
                self.add_text(keys, &key.split('.').map(str::to_owned).collect::<Vec<_>>(), value, &origin);
            } else {
                self.problems.push(
                    origin.problem("a setting needs a value", Some("write `--set KEY=VALUE`, as in `--set batching.window=50ms`".into())),
                );
            }
        }
    }

    /// An empty `REDIS_URL` is one that a compose file passes on unset.
    fn add_redis_url(&mut self, environment: &[(String, String)]) {
        if let Some((name, url)) = environment.iter().find(|(name, url)| name == "REDIS_URL" && !url.is_empty()) {
            let path = vec!["redis".to_owned(), "main".to_owned(), "url".to_owned()];
            self.settings.push(Setting { path, value: Value::from(url.as_str()), origin: Origin::Variable(name.clone()) });
        }
    }

    /// Returns where its settings begin.
    fn add_dotnet(&mut self, keys: &Keys, environment: &[(String, String)]) -> usize {
        let start = self.settings.len();
        for (name, value) in environment {
            let Some(rest) = strip_prefix(name, DOTNET_PREFIX) else { continue };
            match DOTNET.iter().find(|(known, _)| same_name(known, rest)) {
                Some((_, path)) => self.add_text(keys, &path.map(str::to_owned), value, &Origin::Variable(name.clone())),
                None => self.warnings.push(unknown_dotnet(name, rest)),
            }
        }
        self.refuse_contradictions(start);
        start
    }

    /// Adds a value that is text so far; the default's type says what it has to become.
    fn add_text(&mut self, keys: &Keys, path: &[String], text: &str, origin: &Origin) {
        match keys.find(path, same_name) {
            Found::Setting(path, default) => match coerce(text, default) {
                Ok(value) => {
                    let path = self.as_declared(path);
                    self.settings.push(Setting { path, value, origin: origin.clone() });
                }
                Err(expected) => self.problems.push(bad_value(origin, &path, &format!("{text:?}"), &expected)),
            },
            Found::Router(path) => self.overrides.push(Override { path, value: text.to_owned(), origin: origin.to_string() }),
            Found::Section(section) => self.problems.push(names_a_section(keys, &section, origin)),
            Found::Unknown(right) => self.problems.push(unknown_key(keys, path, right, origin)),
        }
    }

    /// Names of servers are the user's own: one that a weaker source declares is meant, however it is spelled here.
    fn as_declared(&self, mut path: Vec<String>) -> Vec<String> {
        let declared = self
            .settings
            .iter()
            .map(|setting| &setting.path)
            .find(|known| known[0] == "redis" && path[0] == "redis" && same_name(&known[1], &path[1]));
        if let Some(declared) = declared {
            path[1].clone_from(&declared[1]);
        }
        path
    }

    /// Names are compared without case, so one setting can be set twice.
    fn refuse_contradictions(&mut self, from: usize) {
        for (index, setting) in self.settings.iter().enumerate().skip(from) {
            let other = self.settings[from..index].iter().find(|other| other.path == setting.path && other.value != setting.value);
            if let Some(other) = other {
                let message = format!("sets `{}`, which the {} sets to another value", setting.key(), other.origin);
                self.problems.push(setting.origin.problem(message, Some("unset one of the two".into())));
            }
        }
    }

    fn warn_of_shadowed(&mut self, dotnet: usize, own: usize) {
        for weak in &self.settings[dotnet..own] {
            if let Some(strong) = self.settings[own..].iter().find(|strong| strong.path == weak.path) {
                self.warnings.push(format!("{} is set, too, and wins over the {}: unset one of the two", strong.origin, weak.origin));
            }
        }
    }
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn unknown_dotnet(name: &str, rest: &str) -> String {
    let nearest = suggest(rest, DOTNET.iter().map(|(known, _)| *known));
    let hint = nearest.map(|known| format!("; did you mean `{DOTNET_PREFIX}{known}`?")).unwrap_or_default();
    format!("environment variable `{name}` names no setting and is ignored{hint}")
}

/// A text as a value of the default's type. The error says what was expected.
fn coerce(text: &str, default: &Value) -> Result<Value, String> {
    let trimmed = text.trim();
    match default {
        Value::Bool(..) => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Value::from(true)),
            "false" | "0" => Ok(Value::from(false)),
            _ => Err("`true` or `false`".to_owned()),
        },
        Value::Num(_, Num::F32(_) | Num::F64(_)) => {
            trimmed.parse::<f64>().map(Value::from).map_err(|_| "a number, such as `0.05`".to_owned())
        }
        Value::Num(..) => trimmed.parse::<i64>().map(Value::from).map_err(|_| "a whole number".to_owned()),
        Value::Array(..) => list(trimmed).map(Value::from).ok_or_else(|| "a list, as in `a,b` or `[\"a\", \"b\"]`".to_owned()),
        _ => Ok(Value::from(text)),
    }
}

/// `a, b` or a TOML array of texts.
fn list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') {
        return toml::from_str::<std::collections::BTreeMap<String, Vec<String>>>(&format!("list = {text}")).ok()?.remove("list");
    }
    Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// A value that a setting can't have; `found` is left out where it may be secret.
pub(super) fn bad_value(origin: &Origin, path: &[String], found: &str, expected: &str) -> Problem {
    let key = path.join(".");
    let found = if path.last().is_some_and(|name| secret::may_hold_secret(name)) { String::new() } else { format!(", not {found}") };
    origin.problem(format!("`{key}` must be {expected}{found}"), None)
}

/// A key that doesn't exist.
pub(super) fn unknown_key(keys: &Keys, path: &[String], right: usize, origin: &Origin) -> Problem {
    origin.problem(format!("there is no setting `{}`", path.join(".")), hint(keys, path, right, origin))
}

fn hint(keys: &Keys, path: &[String], right: usize, origin: &Origin) -> Option<String> {
    let last = path.last().map(String::as_str).unwrap_or_default();
    if path[0] == "redis" && path.len() > 2 && suggest(last, ["password"]).is_some() {
        let file = origin.spell(&[&path[..path.len() - 1], &["password_file".to_owned()]].concat());
        return Some(format!("put the password into a file and name that with `{file}`, or write it into the URL"));
    }
    if path.len() == 3 && path[..2] == ["batching", "windows"] && same_name(last, "critical") {
        return Some("critical events never wait, so they have no window".to_owned());
    }
    if let Some(nearest) = keys.nearest(path, right) {
        return Some(format!("did you mean `{}`?", origin.spell(&nearest)));
    }
    let known = keys.children(&path[..right]);
    (!known.is_empty()).then(|| format!("known here: {}", known.join(", ")))
}

/// Something that isn't a table where one is needed.
pub(super) fn names_a_section(keys: &Keys, section: &[String], origin: &Origin) -> Problem {
    let key = section.join(".");
    let settings =
        keys.children(section).into_iter().map(|name| format!("`{}`", origin.spell(&[section, &[name]].concat()))).collect::<Vec<_>>();
    origin.problem(format!("`{key}` is a section, it has no value of its own"), Some(format!("set one of {}", settings.join(", "))))
}
