//! An API of subscription plans. As many instances of it run as one likes, each with a cache in its process: what is changed on one is served by all.
//!
//! ```sh
//! unstale run --preset subscription-plans                                     # beside each instance, or one for all of them
//! cargo run -p unstale-client --example plans -- 127.0.0.1:8001 plans.json &  # the second argument stands for the database
//! cargo run -p unstale-client --example plans -- 127.0.0.1:8002 plans.json &
//! curl -X PUT -H 'Content-Type: application/json' -d '{"name":"Pro","cents":900,"active":true}' http://127.0.0.1:8001/acme/stripe/plans/pro
//! curl http://127.0.0.1:8002/acme/plans?active_only=true
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use unstale_client::{Notices, Publish, Publisher, PublisherSettings, Settings, TieredCache};

#[derive(Clone)]
struct Api {
    cache: TieredCache,
    publisher: Publisher,
    database: Database,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let bind = args.next().unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let database = Database(args.next().unwrap_or_else(|| "plans.json".to_owned()).into());
    let redis = args.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let sidecar = args.next().unwrap_or_else(|| "http://127.0.0.1:7863".to_owned());

    let cache = TieredCache::local(Settings {
        local_life: Duration::from_secs(5 * 60),
        // What is stored at the same time doesn't expire at the same time,
        jitter: 0.1,
        // and what is read in its last minute is fetched anew before it expires, while the old value is served.
        refresh_ahead: 0.2,
        caches: vec!["subscription_plan".to_owned()],
        ..Settings::default()
    });
    // The ear: as long as it is kept, what the sidecars tell is dropped.
    let _feed = Notices::of_sidecar(&sidecar)?.feed([Arc::new(cache.clone()) as _]);
    let publisher = Publisher::connect(&redis, PublisherSettings::default())?;

    let routes = Router::new()
        .route("/cache", get(cache_state))
        .route("/{org}/providers", get(providers))
        .route("/{org}/plans", get(plans))
        .route("/{org}/{provider}/plans", get(plans_of_provider))
        .route("/{org}/{provider}/plans/{id}", put(save))
        .with_state(Api { cache, publisher, database });
    let listener = tokio::net::TcpListener::bind(bind).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

/// Which plans somebody wants to see.
#[derive(Clone, Copy, Deserialize)]
struct Wanted {
    #[serde(default)]
    active_only: bool,
}

impl Wanted {
    fn plan(self, plan: &Plan) -> bool {
        plan.active || !self.active_only
    }

    /// As the keys of this system have it.
    fn word(self) -> &'static str {
        if self.active_only { "True" } else { "False" }
    }
}

async fn providers(State(api): State<Api>, Path(org): Path<String>) -> Result<Response, Failure> {
    let key = format!("providers_list_{org}");
    // All who miss the key at the same time share one call of this.
    let load = move || async move {
        let plans = api.database.plans(|plan| plan.org == org).await?;
        let names: std::collections::BTreeSet<String> = plans.into_iter().map(|plan| plan.provider).collect();
        Ok::<_, io::Error>(Some(names))
    };
    Ok(answer(api.cache.get_or_load(&key, load).await?))
}

async fn plans(State(api): State<Api>, Path(org): Path<String>, Query(wanted): Query<Wanted>) -> Result<Response, Failure> {
    let key = format!("all_plans_{org}_{}", wanted.word());
    let load = move || async move { api.database.plans(|plan| plan.org == org && wanted.plan(plan)).await.map(Some) };
    Ok(answer(api.cache.get_or_load(&key, load).await?))
}

async fn plans_of_provider(
    State(api): State<Api>,
    Path((org, provider)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let key = format!("plans_list_{org}_{provider}_{}", wanted.word());
    let is_wanted = move |plan: &Plan| plan.org == org && plan.provider == provider && wanted.plan(plan);
    let load = move || async move { api.database.plans(is_wanted).await.map(Some) };
    Ok(answer(api.cache.get_or_load(&key, load).await?))
}

/// Commit, then publish; never the other way round. Every instance, this one too, hears which keys to drop.
async fn save(
    State(api): State<Api>,
    Path((org, provider, id)): Path<(String, String, String)>,
    Json(offer): Json<Offer>,
) -> Result<StatusCode, Failure> {
    let changed = serde_json::json!({ "org_slug": org, "provider": provider, "subscription_id": id });
    api.database.save(Plan { org, provider, id, name: offer.name, cents: offer.cents, active: offer.active }).await?;
    api.publisher.send(Publish::named("SubscriptionPlanUpdated", &changed)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// For those who look after it: what was counted, and whether the cache hears.
async fn cache_state(State(api): State<Api>) -> Response {
    let status = if api.cache.health().await.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(api.cache.stats())).into_response()
}

fn answer<T: Serialize>(value: Option<Arc<T>>) -> Response {
    value.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |value| Json(&*value).into_response())
}

/// Whatever fails is none of the client's faults.
struct Failure(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    org: String,
    provider: String,
    id: String,
    name: String,
    cents: u64,
    active: bool,
}

/// What a caller may set of a plan.
#[derive(Deserialize)]
struct Offer {
    name: String,
    cents: u64,
    active: bool,
}

/// A file, in place of a database that all instances share. One writes at a time.
#[derive(Clone)]
struct Database(PathBuf);

impl Database {
    async fn plans(&self, is_wanted: impl Fn(&Plan) -> bool) -> io::Result<Vec<Plan>> {
        let mut plans: Vec<Plan> = match tokio::fs::read(&self.0).await {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        plans.retain(is_wanted);
        Ok(plans)
    }

    async fn save(&self, plan: Plan) -> io::Result<()> {
        let mut plans = self.plans(|other| (&other.org, &other.provider, &other.id) != (&plan.org, &plan.provider, &plan.id)).await?;
        plans.push(plan);
        // Readers see the old file or the new one, never half of it.
        let new = self.0.with_extension("new");
        tokio::fs::write(&new, serde_json::to_vec_pretty(&plans)?).await?;
        tokio::fs::rename(new, &self.0).await
    }
}
