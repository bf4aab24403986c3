//! `unstale run` as a process: started, watched, stopped, killed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use unstale_testkit::{Certificates, Redis, wait_until_sync};

use crate::rights::{self, Installation, Places};
use crate::{Bus, Outcome, PATIENCE, program};

/// The server that is meant where none is named.
const MAIN: &str = "main";
/// In the sidecar's own directory.
const PASSWORD_FILE: &str = "password";

/// What a sidecar is started with. On each of its servers it gets a user of its own name, with the least rights that `unstale check --acl` prints.
#[derive(Debug, Default)]
pub struct Setup {
    name: String,
    url: String,
    /// Where it gets a user still, by the names of servers.
    users: BTreeMap<String, Places>,
    config: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    namespace: Option<String>,
    network: Option<String>,
}

impl Setup {
    /// A sidecar on this server, or on these, without routes so far.
    pub fn on(installation: &impl Installation) -> Self {
        let mut setup = Self::at(installation.url());
        setup.users.insert(MAIN.to_owned(), Places::of(installation));
        setup
    }

    /// A sidecar on the server at this URL, as when a proxy stands before it. If the URL names a user, it stays with that.
    pub fn at(url: impl Into<String>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (name, url) = (format!("e2e{}", COUNT.fetch_add(1, Ordering::Relaxed)), url.into());
        let users = Places::at(&url).map(|places| (MAIN.to_owned(), places)).into_iter().collect();
        Self { name, url, users, ..Self::default() }
    }

    /// The same servers by another URL.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// With another server, which caches may name.
    #[must_use]
    pub fn server(mut self, name: &str, installation: &impl Installation) -> Self {
        self.users.insert(name.to_owned(), Places::of(installation));
        self.redis(name, "url", &installation.url())
    }

    /// With a setting of one of its servers.
    #[must_use]
    pub fn redis(self, name: &str, setting: &str, value: &str) -> Self {
        self.env(&format!("UNSTALE__REDIS__{}__{}", name.to_uppercase(), setting.to_uppercase()), value)
    }

    /// Trusts the authority of these certificates, and shows the client's.
    #[must_use]
    pub fn tls(self, name: &str, files: &Certificates) -> Self {
        let path = |file: &str| files.path(file).display().to_string();
        self.redis(name, "ca", &path("ca.pem")).redis(name, "cert", &path("client.pem")).redis(name, "key", &path("client.key"))
    }

    /// What its `instance.name` is, and its user on the servers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// More text for its configuration file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// With a shipped preset.
    #[must_use]
    pub fn preset(self, name: &str) -> Self {
        self.arg("--preset").arg(name)
    }

    /// One more argument of `run`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// With `--set KEY=VALUE`.
    #[must_use]
    pub fn set(self, setting: &str) -> Self {
        self.arg("--set").arg(setting)
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In another namespace than `unstale`.
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespace = Some(name.to_owned());
        self.set(&format!("namespace={name}"))
    }

    /// In a network namespace. Its HTTP is out of the test's reach then.
    #[must_use]
    pub fn within(mut self, network: &str) -> Self {
        self.network = Some(network.to_owned());
        self
    }

    /// Starts it and waits until it serves, see [`Sidecar::ready`].
    ///
    /// # Panics
    /// If it doesn't, with its log.
    pub fn start(self, redis: &Redis) -> Sidecar {
        let mut bus = Bus::new(redis).in_namespace(self.namespace.as_deref().unwrap_or("unstale"));
        let mut sidecar = self.spawn();
        sidecar.ready(&mut bus);
        sidecar
    }

    /// Makes its users now. Otherwise that is done right before it is started, for which the servers must be there. If `check` refuses the
    /// configuration none is made, for `run` will refuse it, too.
    ///
    /// # Panics
    /// If a server isn't there.
    #[must_use]
    pub fn granted(mut self) -> Self {
        // What can be reached within another network can't be reached from here.
        let users = std::mem::take(&mut self.users);
        if self.network.is_some() || users.is_empty() {
            return self;
        }
        let before = self.environment.len();
        for (name, places) in &users {
            // One server may have two names, each with rights of its own.
            let user = if name == MAIN { self.name.clone() } else { format!("{}-{name}", self.name) };
            self = self.redis(name, "username", &user).redis(name, "password_file", PASSWORD_FILE);
            if !places.sentinels.is_empty() {
                self = self.redis(name, "sentinel_username", &user).redis(name, "sentinel_password_file", PASSWORD_FILE);
            }
        }
        let printed = serde_json::from_str::<Json>(&self.run(&["check", "--acl", "--json"]).out);
        match printed {
            Ok(printed) => users.iter().for_each(|(name, places)| places.grant(&printed, name)),
            Err(_) => self.environment.truncate(before),
        }
        self
    }

    /// Runs another command of the program to its end, with all that is set.
    ///
    /// # Panics
    /// If it can't be run.
    pub fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(self.command(&self.directory()).args(words))
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    /// If it can't be run.
    pub fn spawn(self) -> Sidecar {
        let setup = self.granted();
        let dir = setup.directory();
        let log = dir.path().join("stderr.log");
        let mut command = setup.command(&dir);
        let stderr = File::create(&log).expect("a temporary file can be made");
        command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", crate::program().display()));
        Sidecar { child, name: setup.name, log, exit: None, _dir: dir }
    }

    /// A directory with the configuration file and the password.
    fn directory(&self) -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("unstale-sidecar-").tempdir().expect("a temporary directory can be made");
        for (name, text) in [("unstale.toml", self.config.as_str()), (PASSWORD_FILE, rights::PASSWORD)] {
            fs::write(dir.path().join(name), text).expect("a temporary file can be written");
        }
        dir
    }

    /// The program with all that is set, but without what it is to do.
    fn command(&self, dir: &tempfile::TempDir) -> Command {
        let mut command = match &self.network {
            Some(network) => program::command_within(network, dir.path()),
            None => program::command(dir.path()),
        };
        // Instance and port are set by environment, so that a test's file and flags are its own. Tests count, so there are no canaries unless
        // one asks for them.
        command.env("REDIS_URL", &self.url).env("UNSTALE__INSTANCE__NAME", &self.name).env("UNSTALE__HTTP__BIND", "127.0.0.1:0");
        command.env("UNSTALE__PROBE__INTERVAL", "0s");
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running sidecar; dropping it kills it.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    name: String,
    log: PathBuf,
    exit: Option<ExitStatus>,
    _dir: tempfile::TempDir,
}

impl Sidecar {
    /// A sidecar on this server with this configuration file, ready.
    ///
    /// # Panics
    /// If it doesn't get ready, with its log.
    pub fn start(redis: &Redis, config: &str) -> Self {
        Setup::on(redis).config(config).start(redis)
    }

    /// Waits until it has beaten, somebody holds the lease, and both streams have their group.
    ///
    /// # Panics
    /// If that takes too long, or it has ended, with its log.
    pub fn ready(&mut self, bus: &mut Bus) {
        wait_until_sync("the sidecar to be ready", PATIENCE, || {
            assert!(self.ended().is_none(), "{} has ended ({:?}):\n{}", self.name, self.exit, self.log());
            let ready = bus.instance(&self.name).and_then(|_| bus.reader()).and_then(|_| bus.groups());
            ready.map_err(|state| format!("{state}\n{}", self.log()))
        });
    }

    /// What its `instance.name` is, and its user on the server: the beginning of [`Sidecar::instance`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its full name among the sidecars.
    ///
    /// # Panics
    /// If it has no beat.
    pub fn instance(&self, bus: &mut Bus) -> String {
        bus.instance(&self.name).unwrap_or_else(|state| panic!("{state}\n{}", self.log()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log contains a text.
    ///
    /// # Panics
    /// If that takes too long, with its log.
    pub fn wait_log(&self, text: &str) {
        wait_until_sync(&format!("{text:?} in the log"), PATIENCE, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// Kills it in the middle of whatever it does (SIGKILL).
    ///
    /// # Panics
    /// If it can't be.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().expect("a child of one's own can be killed");
            self.wait();
        }
    }

    /// Tells it to end (SIGTERM).
    ///
    /// # Panics
    /// If it has ended.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Stops it in the middle of whatever it does (SIGSTOP), and waits until it is.
    ///
    /// # Panics
    /// If it has ended.
    pub fn pause(&self) {
        self.signal("STOP");
        wait_until_sync("the sidecar to be stopped", PATIENCE, || self.in_state(|state| state == 'T'));
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// If it has ended.
    pub fn resume(&self) {
        self.signal("CONT");
        wait_until_sync("the sidecar to go on", PATIENCE, || self.in_state(|state| state != 'T'));
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If that can't be found out.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("a child of one's own can be asked");
        }
        self.exit
    }

    /// Waits until it has ended, and returns its exit code; `None` if a signal ended it.
    ///
    /// # Panics
    /// If that takes too long, with its log.
    pub fn wait(&mut self) -> Option<i32> {
        self.wait_for(PATIENCE)
    }

    /// The same with a time of one's own.
    ///
    /// # Panics
    /// As [`Sidecar::wait`].
    pub fn wait_for(&mut self, time: Duration) -> Option<i32> {
        wait_until_sync("the sidecar to end", time, || self.ended().ok_or_else(|| self.log())).code()
    }

    /// How much memory it has in use (resident), in bytes.
    ///
    /// # Panics
    /// If it has ended, or there is no `/proc`.
    pub fn resident_bytes(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it ever had in use, in bytes.
    ///
    /// # Panics
    /// As [`Sidecar::resident_bytes`].
    pub fn peak_bytes(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// A size of `/proc/PID/status`, in bytes.
    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process has a status");
        let kib = status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("sizes are numbers") * 1024
    }

    /// Where it serves HTTP, `http://127.0.0.1:PORT`: what it printed.
    ///
    /// # Panics
    /// If it doesn't say so in time, with its log.
    pub fn http(&self) -> String {
        let url = |log: &str| {
            let at = log.find("http://")?;
            let url = log[at..].split(|c: char| c.is_whitespace() || c == '"').next()?;
            Some(url.trim_end_matches(['/', ',']).to_owned())
        };
        wait_until_sync("the address of HTTP in the log", PATIENCE, || url(&self.log()).ok_or_else(|| self.log()))
    }

    /// The body of a GET, whatever its status; the status is the first.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        answered(agent().get(format!("{}{path}", self.http())).call())
    }

    /// The answer to a POST of JSON.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn post(&self, path: &str, body: &Json) -> (u16, String) {
        let request = agent().post(format!("{}{path}", self.http())).content_type("application/json");
        answered(request.send(body.to_string()))
    }

    /// `GET /v1/stats`.
    ///
    /// # Panics
    /// If it isn't answered with 200 and JSON.
    pub fn stats(&self) -> Json {
        let (status, body) = self.get("/v1/stats");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// The value of one series of `GET /metrics` that counts something, named as it is written there, labels included.
    ///
    /// # Panics
    /// If there is none, or it is no whole number.
    pub fn metric(&self, series: &str) -> u64 {
        let (_, body) = self.get("/metrics");
        let value = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no series {series} in\n{body}"))
    }

    /// Waits until such a series has this value: figures follow what happened a moment later.
    ///
    /// # Panics
    /// If it never has.
    #[track_caller]
    pub fn wait_metric(&self, series: &str, value: u64) {
        wait_until_sync(&format!("{series} to be {value}"), PATIENCE, || match self.metric(series) {
            seen if seen == value => Ok(()),
            seen => Err(format!("{seen}")),
        });
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status().expect("sh can be run");
        assert!(status.success(), "kill -{name} {}: {status}\n{}", self.pid(), self.log());
    }

    /// The process state is the first letter after the name in parentheses.
    fn in_state(&self, wanted: impl Fn(char) -> bool) -> Result<(), String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).map_err(|error| error.to_string())?;
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        state.is_some_and(wanted).then_some(()).ok_or(stat)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}---", self.name, self.log());
        }
    }
}

/// Statuses are answers, not errors.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

fn answered(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let mut response = response.unwrap_or_else(|error| panic!("HTTP: {error}"));
    let body = response.body_mut().read_to_string().unwrap_or_else(|error| panic!("HTTP: {error}"));
    (response.status().as_u16(), body)
}
