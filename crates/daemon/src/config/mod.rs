//! The configuration: gathered from flags, environment and file, checked as a whole, and either right or refused with all its mistakes at once.
//!
//! Reads files and nothing else: no connection is made, and nothing is bound, before a configuration is valid.

mod checks;
mod file;
pub mod human;
mod known;
mod layers;
mod profile;
pub mod schema;
mod secret;
mod settings;
mod show;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::{Figment, providers::Serialized};
use unstale_connect::Endpoint;
use unstale_router::{Cache, Input, Override, Problem, Problems, Router, Source};
use unstale_source::Names;

pub use layers::Origin;
pub use settings::{
    Batching, Bus, Config, DeadLetters, Drain, Health, Http, Instance, Limits, Log, LogFormat, Notices, OnLoss, Probe, Profile, Reclaim,
    Redis, Retry, Start, Unrouted, Windows,
};
pub use show::Shown;

use checks::Checks;
use file::File;
use known::Keys;
use layers::{Layers, Setting, bad_value};

/// The file that is read if none is named, if it is there.
pub const DEFAULT_FILE: &str = "unstale.toml";

/// What an address must look like, for messages.
const ADDRESS: &str = "an address with its port, such as `127.0.0.1:7863`";

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`; without it [`DEFAULT_FILE`] in the working directory, if there.
    pub file: Option<PathBuf>,
    /// `--preset`, added to those that are named elsewhere.
    pub presets: Vec<String>,
    /// `--set KEY=VALUE`.
    pub set: Vec<String>,
    /// The environment.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process. What isn't UTF-8 can only be an unrelated variable or a bad value, and is shown as such.
    pub fn environment() -> Vec<(String, String)> {
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect()
    }
}

/// A configuration that is right.
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The routes.
    pub router: Router,
    /// What is odd, but no reason not to start; each a sentence for the log.
    pub warnings: Vec<String>,
    settings: Vec<Setting>,
    overrides: Vec<Override>,
    presets: Vec<(String, String)>,
    file: Option<File>,
}

/// Reads and checks everything.
///
/// # Errors
/// All mistakes, of the settings and of the routes.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut layers = Layers::default();
    let text = read_file(sources.file.as_deref(), &mut layers);
    judge(sources, text, layers)
}

/// The same with the text of the file at hand: reads no file but those that settings name.
///
/// # Errors
/// As [`load`].
pub fn load_text(sources: &Sources, text: Source) -> Result<Loaded, Problems> {
    judge(sources, Some(text), Layers::default())
}

fn judge(sources: &Sources, text: Option<Source>, mut layers: Layers) -> Result<Loaded, Problems> {
    let keys = Keys::new();
    let file = text.map(|source| File::read(&source.name, &source.text, &keys, &mut layers));
    layers.add_environment(&keys, &sources.environment);
    layers.add_flags(&keys, &sources.set);
    let Layers { settings, overrides, problems: mut found, warnings } = layers;
    let settings = with_profile(only_well_typed(settings, &mut found)).map_err(single)?;
    let config = extract(&settings).map_err(single)?;
    found.extend(Checks::of_settings(&config, &settings));
    let presets = sources.presets.iter().map(|name| (name.clone(), "flag `--preset`".to_owned())).collect::<Vec<_>>();
    let is_unread = file.as_ref().map_or(sources.file.is_some(), |file| !file.intact);
    let router = if is_unread { Err(Problems::new()) } else { compile(&config, file.as_ref(), &presets, &overrides) };
    if let Ok(router) = &router {
        found.extend(Checks::of_caches(&config, &settings, router));
    }
    match router {
        Ok(router) if found.is_empty() => Ok(Loaded { config, router, warnings, settings, overrides, presets, file }),
        router => Err(together(file.as_ref(), found, router.err())),
    }
}

/// The mistakes of settings and routes in one list, and the text that they stand in.
fn together(file: Option<&File>, of_settings: Vec<Problem>, of_routes: Option<Problems>) -> Problems {
    let mut problems = Problems::new();
    if let Some(file) = file {
        problems.add_source(&file.name, &file.text);
    }
    for problem in of_settings {
        problems.push(problem);
    }
    problems.append(of_routes.unwrap_or_default());
    problems
}

/// Without the settings whose value is of the wrong type, so that the others can be looked at, too.
fn only_well_typed(settings: Vec<Setting>, found: &mut Vec<Problem>) -> Vec<Setting> {
    let (good, bad) =
        settings.into_iter().map(|setting| (check_type(&setting), setting)).partition::<Vec<_>, _>(|(problem, _)| problem.is_none());
    found.extend(bad.into_iter().filter_map(|(problem, _)| problem));
    good.into_iter().map(|(_, setting)| setting).collect()
}

/// With what the profile stands for, if one is named, as the weakest.
fn with_profile(settings: Vec<Setting>) -> Result<Vec<Setting>, Problem> {
    let named = settings.iter().rev().find(|setting| setting.path == ["batching", "profile"]);
    let Some(name) = named.and_then(|setting| setting.value.as_str()) else { return Ok(settings) };
    let mut all = profile::settings(extract(&settings)?.batching.profile, name);
    all.extend(settings);
    Ok(all)
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Refuses a configuration that routes nothing.
    ///
    /// # Errors
    /// That there are no routes, and how to get some.
    pub fn require_routes(&self) -> Result<(), Problems> {
        if self.router.rules() > 0 {
            return Ok(());
        }
        let source = self.file.as_ref().map_or("configuration", |file| &file.name).to_owned();
        let presets = unstale_router::presets_available().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let help =
            format!("name a preset ({presets}) as in `--preset llm-gateway` or `presets = [\"llm-gateway\"]`, or write a `[[route]]`");
        let message = "there are no routes, so no event would delete anything".to_owned();
        Err(single(Problem { source, span: None, message, help: Some(help) }))
    }
}

impl Config {
    /// The names of everything that the sidecars of this namespace share in Redis.
    pub fn names(&self) -> Names {
        Names::new(&self.namespace, self.bus.stream.as_deref())
    }

    /// Whether caches on this server are in the database of the bus, so that one script deletes and announces. On a cluster they aren't:
    /// their keys lie in other slots.
    pub fn is_with_bus(&self, redis: &str) -> bool {
        let server = |name: &str| self.redis.get(name).and_then(|redis| redis.server().ok());
        let Some(bus) = server(&self.bus.redis) else { return redis == self.bus.redis };
        !self.is_cluster(&self.bus.redis) && server(redis).is_some_and(|server| server.is_same_database(&bus))
    }

    /// Whether this server is a cluster.
    pub fn is_cluster(&self, redis: &str) -> bool {
        let server = self.redis.get(redis).and_then(|redis| redis.server().ok());
        server.is_some_and(|server| matches!(server.url.endpoint, Endpoint::Cluster { .. }))
    }

    /// The server that a cache's keys are deleted on: that of the bus if they are in its database, whatever it is called elsewhere.
    pub fn home<'a>(&'a self, cache: &'a Cache) -> &'a str {
        if self.is_with_bus(&cache.redis) { &self.bus.redis } else { &cache.redis }
    }
}

fn compile(config: &Config, file: Option<&File>, presets: &[(String, String)], overrides: &[Override]) -> Result<Router, Problems> {
    let input = Input {
        file: file.map(|file| Source { name: file.name.clone(), text: file.text.clone() }),
        presets: presets.to_vec(),
        overrides: overrides.to_vec(),
        namespace: config.namespace.clone(),
        own_keys: config.names().keys().map(str::to_owned).to_vec(),
        servers: config.redis.keys().cloned().collect(),
        max_targets: config.limits.targets,
    };
    unstale_router::compile(&input)
}

fn single(problem: Problem) -> Problems {
    let mut problems = Problems::new();
    problems.push(problem);
    problems
}

/// The file's text; a missing one is a mistake only if somebody named it.
fn read_file(path: Option<&Path>, layers: &mut Layers) -> Option<Source> {
    let name = path.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(name) {
        Ok(text) => Some(Source { name: name.display().to_string(), text }),
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let help =
                Some("name the file with `--config`; without that, `unstale.toml` in the working directory is read, if there".to_owned());
            layers.problems.push(Problem {
                source: name.display().to_string(),
                span: None,
                message: format!("can't be read: {error}"),
                help,
            });
            None
        }
    }
}

fn figment(settings: &[Setting]) -> Figment {
    settings.iter().fold(Figment::from(Serialized::defaults(Config::default())), |figment, setting| figment.merge(setting.clone()))
}

/// Every setting passed [`check_type`] by itself, so an error here is a flaw of this program.
fn extract(settings: &[Setting]) -> Result<Config, Problem> {
    figment(settings).extract().map_err(|error| Problem {
        source: "configuration".to_owned(),
        span: None,
        message: error.to_string(),
        help: None,
    })
}

/// Tries one value on top of the defaults, so that what is wrong can only be this value.
fn check_type(setting: &Setting) -> Option<Problem> {
    let error = figment(std::slice::from_ref(setting)).extract::<Config>().err()?;
    let (expected, found) = match error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => (in_plain_words(&expected), describe(&found)),
        Kind::UnknownVariant(found, known) => {
            (format!("one of {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")), format!("{found:?}"))
        }
        _ => (ADDRESS.to_owned(), setting.value.as_str().map_or_else(String::new, |text| format!("{text:?}"))),
    };
    Some(bad_value(&setting.origin, &setting.path, &found, &expected))
}

fn in_plain_words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "f64" => "a number, such as `0.05`".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" | "path string" | "a string or bytes" => "a text".to_owned(),
        "socket address" => ADDRESS.to_owned(),
        "a sequence" => "a list of texts".to_owned(),
        other => other.to_owned(),
    }
}

fn describe(found: &Actual) -> String {
    match found {
        Actual::Str(text) => format!("{text:?}"),
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("`{value}`"),
        Actual::Signed(value) => format!("`{value}`"),
        Actual::Float(value) => format!("`{value}`"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}
