//! `unstale stats`: the counts of one sidecar, as it tells them over HTTP.

use std::net::SocketAddr;

use serde_json::Value;

use crate::cli::{Exit, Sidecar, Stats};
use crate::commands::{fail, print};
use crate::config::Loaded;
use crate::terminal::{Paint, ago, thousands};
use crate::web::{Connection, NoAnswer};

/// The command.
pub async fn run(loaded: &Loaded, args: &Stats) -> Exit {
    let report = match ask(loaded, &args.sidecar, "/v1/stats").await {
        Ok(report) => report,
        Err(why) => return fail(why),
    };
    if args.json {
        print(report);
    } else {
        print(table(&report, Paint::stdout()));
    }
    Exit::Done
}

/// What a sidecar answers.
async fn ask(loaded: &Loaded, sidecar: &Sidecar, path: &str) -> Result<Value, String> {
    let advice = |why: NoAnswer| format!("{why}\n  is `unstale run` running there? `--sidecar HOST:PORT` names another one");
    let mut connection = connect(loaded, sidecar).await?;
    connection.json(path).await.map_err(advice)
}

/// A connection to the sidecar that is meant, with the token that it wants.
pub(super) async fn connect(loaded: &Loaded, sidecar: &Sidecar) -> Result<Connection, String> {
    let token = loaded.config.http.token().map_err(|error| format!("the file that `http.token_file` names {error}"))?;
    let address = address(loaded, sidecar)?;
    let connection = Connection::open(address).await;
    let connection =
        connection.map_err(|why| format!("{why}\n  is `unstale run` running there? `--sidecar HOST:PORT` names another one"))?;
    Ok(connection.with_token(token))
}

fn address(loaded: &Loaded, sidecar: &Sidecar) -> Result<SocketAddr, String> {
    let mut address = sidecar.sidecar.unwrap_or(loaded.config.http.bind);
    if address.port() == 0 {
        return Err("`http.bind` has port 0: take the port from the sidecar's log, and give it as `--sidecar HOST:PORT`".to_owned());
    }
    // Bound to every address, it is on this one, too.
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    Ok(address)
}

const COLUMNS: [&str; 7] = ["queued", "processed", "coalesced", "failed", "pending", "keys_deleted", "errors"];

fn table(report: &Value, paint: Paint) -> String {
    let named = |of: &str, names: Vec<String>| names.into_iter().map(|name| (name.clone(), report[of][&name].clone())).collect::<Vec<_>>();
    let caches = report["caches"].as_object().map(|caches| caches.keys().cloned().collect()).unwrap_or_default();
    let lanes = ["critical", "high", "normal", "low"].map(str::to_owned).to_vec();
    let groups = [
        ("cache", named("caches", caches)),
        ("priority", named("priorities", lanes)),
        ("", vec![("all".to_owned(), report["totals"].clone())]),
    ];
    let mut shown = vec![paint.faint(&header())];
    for (title, rows) in groups {
        shown.extend((!title.is_empty()).then(|| paint.bold(title)));
        shown.extend(rows.iter().map(|(name, summary)| row(name, summary)));
    }
    let last = report["last_processed"].as_u64().map_or_else(|| "never".to_owned(), |ms| format!("{} ago", ago(ms)));
    shown.push(paint.faint(&format!("{} unread or unfinished; last delete {last}", thousands(report["depth"].as_u64().unwrap_or(0)))));
    shown.join("\n")
}

fn header() -> String {
    let titles = COLUMNS.map(|column| format!("{:>12}", column.replace("keys_", "")));
    format!("{:<18}{}{:>10}", "", titles.concat(), "batch ms")
}

fn row(name: &str, summary: &Value) -> String {
    let counts = COLUMNS.map(|column| format!("{:>12}", thousands(summary[column].as_u64().unwrap_or(0))));
    format!("  {name:<16}{}{:>10.2}", counts.concat(), summary["average_batch_ms"].as_f64().unwrap_or(0.0))
}
