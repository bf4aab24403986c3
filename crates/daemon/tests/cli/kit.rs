//! What the tests have in common: a directory with a configuration, calls of the program in it, and sidecars in the background.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use unstale_testkit::{Redis, wait_until_sync};

/// A directory to run in, and what every call gets.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

pub(crate) const ROUTES: &str = r#"
[cache.product]
prefixes = ["product:"]
[[route]]
event = "ProductUpdated"
cache = "product"
keys = ["product:{product_id}"]
[[route]]
event = "ProductDeleted"
cache = "product"
priority = "critical"
keys = ["product:{product_id}"]
patterns = ["product:{product_id}:*"]
"#;

impl Bench {
    pub(crate) fn new(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("unstale.toml"), file).unwrap();
        Self { dir, environment: Vec::new() }
    }

    pub(crate) fn with(url: &str) -> Self {
        Self::new(ROUTES).env("REDIS_URL", url)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(args).current_dir(self.dir.path()).env_clear().envs(environment).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }
}

/// A sidecar in the background; ended with the test.
pub(crate) struct Running {
    child: Option<Child>,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(bench: &Bench, args: &[&str]) -> Self {
        let log = bench.dir.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let args = [&["run", "--set", "http.bind=127.0.0.1:0", "--set", "probe.interval=0s"], args].concat();
        let child = bench.command(&args).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child: Some(child), log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn logs(&self, part: &str) {
        wait_until_sync("the log", PATIENCE, || {
            if self.log().contains(part) { Ok(()) } else { Err(format!("no {part:?} in {}", self.log())) }
        });
    }

    /// Where it serves HTTP.
    pub(crate) fn address(&self) -> String {
        self.logs("http://");
        let log = self.log();
        log.split("http://").nth(1).unwrap().split(['"', ' ']).next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        wait_until_sync("the end", PATIENCE, || child.try_wait().unwrap().ok_or_else(|| "still running".to_owned())).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn wait_gone(redis: &Redis, key: &str) {
    wait_until_sync("the key to be deleted", PATIENCE, || {
        if redis.cmd(&["EXISTS", key]).int() == 0 { Ok(()) } else { Err("still there".into()) }
    });
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Where nobody listens: the port of a server that is gone.
pub(crate) fn nobody() -> String {
    let mut redis = Redis::start_sync();
    redis.kill();
    redis.url()
}
