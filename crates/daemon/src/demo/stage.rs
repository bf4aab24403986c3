//! The demo's fleet: a private Redis, two API instances, a sidecar beside each. Raised in well under a second, gone without a trace.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::children::{self, Guard};
use super::store::Store;
use crate::web::Connection;
use unstale_source::Names;

use super::{Demo, Trouble, plan};

/// How long a process may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Lines of its log that are shown of a process that doesn't answer.
const LAST_WORDS: usize = 12;

/// What is running, and how to reach it.
pub(super) struct Stage {
    /// The shared cache, the event streams and the notices.
    pub(super) main: Store,
    /// Another database of the same Redis, where the rows are.
    pub(super) database: Store,
    pub(super) redis: SocketAddr,
    pub(super) apis: [SocketAddr; 2],
    pub(super) sidecars: [SocketAddr; 2],
    /// The streams and the notice log.
    pub(super) names: Names,
    _children: Guard,
    dir: Dir,
}

impl Stage {
    /// Starts everything and returns when everything answers.
    pub(super) async fn raise(args: &Demo) -> Result<Self, Trouble> {
        let guard = children::guard();
        let dir = Dir::make()?;
        let redis = start_redis(&args.redis_server, &dir)?;
        let up = Store::open(&url(redis, 0), "demo").await;
        let main = up.map_err(|trouble| Trouble(format!("redis did not get ready: {trouble}{}", dir.last_words("redis"))))?;
        let database = Store::open(&url(redis, 1), "demo-database").await?;
        database.bump(&(0..plan::KEYS).map(plan::hash).collect::<Vec<_>>()).await?;

        let deaf = args.sabotage.then(|| format!("vkey:{}", plan::hash(plan::SABOTAGED)));
        let sidecars = [start_sidecar("sidecar-a", redis, &dir)?, start_sidecar("sidecar-b", redis, &dir)?];
        let apis = [start_api("api-a", redis, sidecars[0], None, &dir)?, start_api("api-b", redis, sidecars[1], deaf, &dir)?];
        for (name, address, path) in [
            ("api-a", apis[0], "/stats"),
            ("api-b", apis[1], "/stats"),
            ("sidecar-a", sidecars[0], "/readyz"),
            ("sidecar-b", sidecars[1], "/readyz"),
        ] {
            dir.ready(name, async || answers(address, path).await).await?;
        }
        let names = Names::new("unstale", None);
        Ok(Self { main, database, redis, apis, sidecars, names, _children: guard, dir })
    }

    /// The shared cache, as the API instances reach it.
    pub(super) fn cache_url(&self) -> String {
        url(self.redis, 0)
    }

    /// Where the processes write their logs.
    pub(super) fn logs(&self) -> &Path {
        &self.dir.0
    }
}

fn start_redis(server: &Path, dir: &Dir) -> Result<SocketAddr, Trouble> {
    let address = free_address()?;
    let mut command = Command::new(server);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--databases", "2", "--dir"]).arg(&dir.0);
    dir.start("redis", command).map(|()| address)
}

fn start_api(name: &str, redis: SocketAddr, sidecar: SocketAddr, deaf_to: Option<String>, dir: &Dir) -> Result<SocketAddr, Trouble> {
    let address = free_address()?;
    let mut command = ourselves(dir)?;
    command.args(["demo-api", "--bind", &address.to_string(), "--sidecar", &sidecar.to_string()]);
    command.args(["--cache", &url(redis, 0), "--database", &url(redis, 1)]);
    command.args(deaf_to.map(|key| format!("--deaf-to={key}")));
    dir.start(name, command).map(|()| address)
}

fn start_sidecar(name: &str, redis: SocketAddr, dir: &Dir) -> Result<SocketAddr, Trouble> {
    let address = free_address()?;
    let mut command = ourselves(dir)?;
    command.args(["run", "--preset", "llm-gateway"]);
    command.env("REDIS_URL", url(redis, 0)).env("UNSTALE__HTTP__BIND", address.to_string()).env("UNSTALE__INSTANCE__NAME", name);
    // What is shown is of the scenario alone.
    command.env("UNSTALE__PROBE__INTERVAL", "0s");
    dir.start(name, command).map(|()| address)
}

/// This program once more, in an empty directory and environment: no `unstale.toml` or variable of the user's takes part in the demo.
fn ourselves(dir: &Dir) -> Result<Command, Trouble> {
    let program = std::env::current_exe().map_err(|e| Trouble(format!("can't tell the path of this program: {e}")))?;
    let mut command = Command::new(program);
    command.env_clear().current_dir(&dir.0);
    Ok(command)
}

/// A port that is free now. Whoever takes it in the next few milliseconds makes the demo fail, with a message that says so.
fn free_address() -> Result<SocketAddr, Trouble> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|l| l.local_addr()).map_err(|e| Trouble(format!("no free port on 127.0.0.1: {e}")))
}

fn url(redis: SocketAddr, database: u8) -> String {
    format!("redis://{redis}/{database}")
}

async fn answers(address: SocketAddr, path: &str) -> Result<(), Trouble> {
    let (status, _) = Connection::open(address).await?.get(path).await?;
    if status.is_success() { Ok(()) } else { Err(Trouble(format!("http://{address}{path} answers {status}"))) }
}

/// A directory for the logs, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn make() -> Result<Self, Trouble> {
        let path = std::env::temp_dir().join(format!("unstale-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| Trouble(format!("can't make the directory {}: {e}", path.display())))?;
        Ok(Self(path))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.log"))
    }

    fn start(&self, name: &str, command: Command) -> Result<(), Trouble> {
        let program = command.get_program().to_string_lossy().into_owned();
        children::spawn(command, &self.log(name)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Trouble(format!(
                "there is no `{program}`. `cargo xtask demo` finds or installs a Redis server; or name one: --redis-server PATH"
            )),
            _ => Trouble(format!("can't start {name} ({program}): {e}")),
        })
    }

    /// Waits until a process answers; if it doesn't, says what it wrote last.
    async fn ready(&self, name: &str, answers: impl AsyncFn() -> Result<(), Trouble>) -> Result<(), Trouble> {
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(trouble) = answers().await {
            if Instant::now() > deadline {
                return Err(Trouble(format!("{name} did not get ready: {trouble}{}", self.last_words(name))));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn last_words(&self, name: &str) -> String {
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(LAST_WORDS)).fold(String::new(), |mut text, line| {
            let _infallible = write!(text, "\n    {line}");
            text
        })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What remains are logs in the directory for temporary files.
        let _removed = fs::remove_dir_all(&self.0);
    }
}
