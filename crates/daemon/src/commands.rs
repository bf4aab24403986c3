//! The commands that end by themselves. Each prints its result on standard output, what is wrong on standard error, and says how it ended.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use unstale_events::{Event, Fields};

use crate::check;
use crate::cli::{self, Exit};
use crate::config::{Loaded, Shown, schema};
use crate::explain::{self, Outcome};
use crate::rights;
use crate::waiting::Published;

/// A result for standard output. If nobody reads it (a closed pipe), there is nothing left to do.
pub(crate) fn print(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// What is wrong, for standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "unstale: {text}");
}

/// `check`.
pub async fn check(loaded: &Loaded, args: &cli::Check) -> Exit {
    if args.acl {
        return print_acl(loaded, args.json);
    }
    let report = check::check(loaded).await;
    let _ = check::print(&report, args.json);
    if report.is_good() { Exit::Done } else { Exit::Failed }
}

fn print_acl(loaded: &Loaded, as_json: bool) -> Exit {
    let acls = rights::acls(loaded);
    if as_json {
        print(Value::from(acls.into_iter().map(|(name, acl)| (name, acl.into())).collect::<Map<_, _>>()));
    } else {
        for (name, acl) in acls {
            print(format_args!("# redis.{name}\n{acl}"));
        }
    }
    Exit::Done
}

/// `publish`.
pub async fn publish(loaded: &Loaded, args: &cli::Publish) -> Exit {
    let mut fields = vec![("type".to_owned(), args.kind.clone())];
    fields.extend(args.attributes.iter().cloned());
    fields.extend(args.data.iter().map(|data| ("data".to_owned(), data.clone())));
    match add(loaded, fields, Strict::No).await {
        Ok(published) if args.json => print(json!({ "stream": published.stream, "id": published.id.to_string() })),
        Ok(published) => print(published.id),
        Err(exit) => return exit,
    }
    Exit::Done
}

/// `invalidate`.
pub async fn invalidate(loaded: &Loaded, args: &cli::Invalidate) -> Exit {
    let priority = args.priority.and_then(|priority| clap::ValueEnum::to_possible_value(&priority));
    let request = Request {
        keys: &args.keys,
        patterns: &args.pattern,
        cache: args.cache.as_deref(),
        operation: args.operation.as_deref(),
        priority: priority.as_ref().map(clap::builder::PossibleValue::get_name),
    };
    let published = match self::request(loaded, &request).await {
        Ok(published) => published,
        Err(exit) => return exit,
    };
    let until = Instant::now() + args.timeout;
    let waited = match args.wait {
        None => Ok(None),
        Some(cli::Wait::Deleted) => published.done(until).await.map(|()| None),
        Some(cli::Wait::Everywhere) => published.heard(until).await.map(Some),
    };
    match waited {
        Ok(instances) if args.json => {
            let mut shown = json!({ "stream": published.stream, "id": published.id.to_string() });
            if let Some(instances) = instances {
                shown["instances"] = instances.into();
            }
            print(shown);
        }
        Ok(_) => print(published.id),
        Err(undone) => return fail(undone),
    }
    Exit::Done
}

/// Keys and patterns to be deleted.
pub(crate) struct Request<'a> {
    pub(crate) keys: &'a [String],
    pub(crate) patterns: &'a [String],
    pub(crate) cache: Option<&'a str>,
    pub(crate) operation: Option<&'a str>,
    pub(crate) priority: Option<&'a str>,
}

/// Publishes such a request. All of it must be possible.
pub(crate) async fn request(loaded: &Loaded, request: &Request<'_>) -> Result<Published, Exit> {
    let list = |name: &str, texts: &[String]| (!texts.is_empty()).then(|| (name.to_owned(), json!(texts).to_string()));
    let text = |name: &str, text: Option<&str>| text.map(|text| (name.to_owned(), text.to_owned()));
    let mut fields = vec![("type".to_owned(), "CacheInvalidationRequested".to_owned())];
    fields.extend(list("keys", request.keys));
    fields.extend(list("patterns", request.patterns));
    fields.extend(text("cache", request.cache));
    fields.extend(text("operation", request.operation));
    fields.extend(text("priority", request.priority));
    add(loaded, fields, Strict::Yes).await
}

/// Whether an event is refused of which only a part can be carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strict {
    Yes,
    No,
}

/// Adds an event to the stream that the routes say.
async fn add(loaded: &Loaded, fields: Vec<(String, String)>, strict: Strict) -> Result<Published, Exit> {
    let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<Fields>();
    let names = loaded.config.names();
    let event = match Event::decode(&fields) {
        Ok(event) => event,
        Err(reason) => return Err(refuse(&[reason.to_string()], Exit::Usage)),
    };
    let plan = explain::explain_event(&loaded.router, &names, &event);
    let is_hopeless = plan.outcome == Outcome::DeadLetter && (strict == Strict::Yes || plan.targets.is_empty());
    if is_hopeless {
        return Err(refuse(&plan.reasons, Exit::Failed));
    }
    match plan.outcome {
        Outcome::Routed => {}
        Outcome::Unrouted => complain(format_args!("no route names `{}`: nothing will be deleted", event.kind())),
        Outcome::DeadLetter => {
            complain(format_args!("a part can't be carried out and goes to the dead letters: {}", plan.reasons.join("; ")));
        }
    }
    let stream = plan.stream.unwrap_or_else(|| names.events.clone());
    let client = check::connect(loaded, &loaded.config.bus.redis).await.map_err(fail)?;
    match client.xadd(&stream, &fields).await {
        Ok(id) => Ok(Published { client, names, stream, id }),
        Err(fault) => Err(fail(format_args!("not published: {fault}\n  run `unstale check` for what is wrong with the server"))),
    }
}

fn refuse(reasons: &[String], exit: Exit) -> Exit {
    complain(format_args!("refused, nothing was published:\n  {}", reasons.join("\n  ")));
    exit
}

/// Says what is wrong, and that this is the end.
pub(crate) fn fail(error: impl std::fmt::Display) -> Exit {
    complain(error);
    Exit::Failed
}

/// `explain`.
pub fn explain(loaded: &Loaded, args: &cli::Explain) -> Exit {
    let shown = args.event.as_deref().map_or(Exit::Done, |path| explain_one(loaded, path));
    match (&args.expect, shown) {
        (Some(cases), Exit::Done) => test_cases(loaded, cases),
        (_, exit) => exit,
    }
}

fn explain_one(loaded: &Loaded, path: &Path) -> Exit {
    match read(path) {
        Ok(text) => {
            let explanation = explain::explain(&loaded.router, &loaded.config.names(), text.trim().as_bytes());
            print(serde_json::to_string_pretty(&explanation).unwrap_or_default());
            Exit::Done
        }
        Err(error) => fail(error),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read =
        if path == Path::new("-") { std::io::stdin().read_to_string(&mut text).map(|_| text) } else { std::fs::read_to_string(path) };
    read.map_err(|error| format!("can't read {}: {error}", path.display()))
}

fn test_cases(loaded: &Loaded, path: &Path) -> Exit {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return fail(error),
    };
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).collect::<Vec<_>>();
    let mut failed = 0;
    for (line, number) in &lines {
        let differences = test_case(loaded, line).unwrap_or_else(|error| vec![error]);
        failed += usize::from(!differences.is_empty());
        for difference in differences {
            complain(format_args!("{}:{number}: {difference}", path.display()));
        }
    }
    print(format_args!("{} of {} cases as expected", lines.len() - failed, lines.len()));
    if failed == 0 && !lines.is_empty() { Exit::Done } else { Exit::Failed }
}

fn test_case(loaded: &Loaded, line: &str) -> Result<Vec<String>, String> {
    let case = serde_json::from_str::<Value>(line).map_err(|error| format!("not JSON: {error}"))?;
    let (Some(event @ Value::Object(_)), Some(Value::Object(expected))) = (case.get("event"), case.get("expect")) else {
        return Err("a case is {\"event\": {…}, \"expect\": {…}}".to_owned());
    };
    let found = explain::explain(&loaded.router, &loaded.config.names(), event.to_string().as_bytes());
    Ok(explain::differences(&found, expected))
}

/// `config show`.
pub fn show(loaded: &Loaded, as_json: bool) -> Exit {
    let shown = Shown::of(loaded);
    if as_json {
        print(serde_json::to_string_pretty(&shown).unwrap_or_default());
    } else {
        loaded.warnings.iter().for_each(complain);
        print(shown.to_string().trim_end());
    }
    Exit::Done
}

/// `config schema`.
pub fn print_schema() -> Exit {
    print(serde_json::to_string_pretty(&schema::of_file()).unwrap_or_default());
    Exit::Done
}
