//! `unstale flush`: every instance drops whole caches; with `--clear` their keys are deleted in Redis first.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use unstale_events::{Cause, glob};
use unstale_router::Cache;
use unstale_sink::{Clients, Lanes, Sink};

use super::{Bus, said};
use crate::cli::{Exit, Flush};
use crate::commands::{self, fail, print};
use crate::config::Loaded;
use crate::run::sink_config;

/// How long the keys of a cache may take to be found and deleted.
const PATIENCE: Duration = Duration::from_secs(600);
/// What means all caches.
const ALL: &str = "*";

/// The command.
pub async fn run(loaded: &Loaded, args: &Flush) -> Exit {
    let caches: Vec<&Cache> = loaded.router.caches().iter().map(|(_, cache)| cache).collect();
    let is_unknown = |name: &&String| *name != ALL && caches.iter().all(|cache| cache.name != **name);
    if let Some(unknown) = args.caches.iter().find(is_unknown) {
        let known: Vec<&str> = caches.iter().map(|cache| cache.name.as_str()).collect();
        return usage(format_args!("there is no cache `{unknown}`; there are: {}", known.join(", ")));
    }
    let all = args.caches.is_empty() || args.caches.iter().any(|name| name == ALL);
    let chosen: Vec<&Cache> = caches.into_iter().filter(|cache| all || args.caches.contains(&cache.name)).collect();
    if args.clear
        && let Err(exit) = clear(loaded, &chosen).await
    {
        return exit;
    }
    let names: Vec<&str> = if all { vec![ALL] } else { chosen.iter().map(|cache| cache.name.as_str()).collect() };
    announce(loaded, &names, args.json).await
}

fn usage(error: impl std::fmt::Display) -> Exit {
    fail(error);
    Exit::Usage
}

/// Has a sidecar delete everything below the caches' prefixes, and waits until it has.
async fn clear(loaded: &Loaded, caches: &[&Cache]) -> Result<(), Exit> {
    for cache in caches.iter().filter(|cache| cache.store == unstale_router::Store::Redis) {
        let everything = |prefix: &String| {
            let mut pattern = String::new();
            glob::escape(prefix, &mut pattern);
            pattern + "*"
        };
        let patterns: Vec<String> = cache.prefixes.iter().map(everything).collect();
        let request =
            commands::Request { keys: &[], patterns: &patterns, cache: Some(&cache.name), operation: Some("flush"), priority: None };
        let published = commands::request(loaded, &request).await?;
        published.done(Instant::now() + PATIENCE).await.map_err(|undone| fail(format_args!("cache {}: {undone}", cache.name)))?;
    }
    Ok(())
}

async fn announce(loaded: &Loaded, caches: &[&str], as_json: bool) -> Exit {
    let Bus { client, names } = match Bus::open(loaded).await {
        Ok(bus) => bus,
        Err(error) => return fail(error),
    };
    let origin = format!("{}-cli", loaded.config.instance.name);
    let config = sink_config(&loaded.config, &loaded.router, &names, &origin);
    let clients = Clients { scripts: Lanes { ordinary: client.clone(), critical: client }, scans: None };
    match Sink::new(config, Arc::clone(loaded.router.caches()), clients, Vec::new()).flush(caches, Cause::Request).await {
        Ok(notice) if as_json => print(json!({ "flush": caches, "notice": notice.to_string() })),
        Ok(notice) => print(notice),
        Err(fault) => return fail(said(&fault)),
    }
    Exit::Done
}
