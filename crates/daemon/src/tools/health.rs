//! `unstale health`: asks a sidecar what a probe asks. For health checks where there is nothing else that could, such as in an image that holds this program alone.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::cli::{Exit, Health};
use crate::commands::{complain, fail, print};
use crate::config::Loaded;
use crate::tools::stats;

/// How long the answer may take: a process that is stopped takes a connection, but never answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a sidecar says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: String,
    reasons: Vec<Reason>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reason {
    code: String,
    detail: String,
}

/// The command.
pub async fn run(loaded: &Loaded, args: &Health) -> Exit {
    let asked = tokio::time::timeout(PATIENCE, ask(loaded, args)).await;
    let asked = asked.unwrap_or_else(|_| Err(format!("it took the connection, but gave no answer within {} s", PATIENCE.as_secs())));
    let (status, body) = match asked {
        Ok(answered) => answered,
        Err(why) => return fail(why),
    };
    let Ok(answer) = serde_json::from_slice::<Answer>(&body) else {
        return fail(format_args!("it answered {status} without saying how it is; is that a sidecar?"));
    };
    show(&answer, args.json);
    if status == StatusCode::OK { Exit::Done } else { Exit::Failed }
}

async fn ask(loaded: &Loaded, args: &Health) -> Result<(StatusCode, Bytes), String> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let query = if args.strict { "?strict=1" } else { "" };
    let mut connection = stats::connect(loaded, &args.sidecar).await?;
    connection.get(&format!("{path}{query}")).await.map_err(|why| why.to_string())
}

fn show(answer: &Answer, as_json: bool) {
    if as_json {
        match serde_json::to_string(answer) {
            Ok(json) => print(json),
            Err(error) => complain(error),
        }
        return;
    }
    print(&answer.status);
    for Reason { code, detail } in &answer.reasons {
        print(format_args!("  {code}: {detail}"));
    }
}
