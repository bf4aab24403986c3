//! A `redis-server` process of a test's own: on a port that is nobody else's, in a directory that goes away with it.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::port::Port;
use crate::{Resp, wait_until_sync};

/// How long a server may take to start; Redis needs some 40 ms, a loaded machine more.
const START: Duration = Duration::from_secs(20);

/// What a sentinel knows, in its directory.
const SENTINEL_FILE: &str = "sentinel.conf";

/// The `redis-server` that tests run: `$UNSTALE_REDIS_SERVER`, or the first in `PATH`.
///
/// # Panics
/// If there is none, with what to do.
pub fn server_binary() -> PathBuf {
    if let Some(path) = env::var_os("UNSTALE_REDIS_SERVER").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "UNSTALE_REDIS_SERVER={} is not a file: name a redis-server or valkey-server binary", path.display());
        return path;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut names = env::split_paths(&path).flat_map(|dir| ["redis-server", "valkey-server"].map(|name| dir.join(name)));
    names.find(|path| path.is_file()).expect("no redis-server in PATH: install Redis or Valkey, or set UNSTALE_REDIS_SERVER to its binary")
}

/// Whether that binary was built with TLS; tests of TLS have nothing to run against if not.
///
/// # Panics
/// If it can't be run.
pub fn server_has_tls() -> bool {
    // Asked for TLS without a certificate it exits at once, and only one that has TLS misses the certificate.
    let output = Command::new(server_binary()).args(["--port", "0", "--tls-port", "1"]).output().expect("redis-server can be run");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).contains("No tls-cert-file")
}

/// What a server is started with.
#[derive(Debug, Default, Clone)]
pub struct Builder {
    args: Vec<String>,
    unix: bool,
    tls: bool,
    is_node: bool,
    password: Option<String>,
    /// Of a sentinel: it needs a file that it can write to.
    file: Option<String>,
}

impl Builder {
    /// One more command line argument, as in `.arg("--maxmemory").arg("2mb")`; `{port}` and `{dir}` in it are replaced.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More command line arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Also listens on a unix socket, see [`Redis::socket`].
    #[must_use]
    pub fn unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Speaks TLS with its clients and its peers, with the files given, on a port beside the one at which tests look at it; `ca` is what client
    /// certificates must be signed by, if clients need one.
    #[must_use]
    pub fn tls(mut self, cert: &Path, key: &Path, ca: Option<&Path>) -> Self {
        self.tls = true;
        let clients = if ca.is_some() { "yes" } else { "no" };
        let (cert, key, ca) = (shown(cert), shown(key), shown(ca.unwrap_or(cert)));
        let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        self.args(["--tls-port", "{tls_port}", "--tls-replication", "yes", "--tls-auth-clients", clients]).args(files)
    }

    /// Wants this password of its clients and of its replicas; [`Redis::resp`] gives it.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.args(["--requirepass", password, "--masterauth", password])
    }

    /// A node of a cluster.
    #[must_use]
    pub(crate) fn node(mut self) -> Self {
        self.is_node = true;
        self.args(["--cluster-enabled", "yes"])
    }

    /// A sentinel with these lines of configuration.
    #[must_use]
    pub(crate) fn sentinel(mut self, lines: &str) -> Self {
        self.file = Some(lines.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it doesn't, with its log.
    pub async fn start(self) -> Redis {
        blocking(move || self.start_sync()).await
    }

    /// [`Builder::start`] for tests without a runtime.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub fn start_sync(self) -> Redis {
        let dir = tempfile::Builder::new().prefix("unstale-redis-").tempdir().expect("a temporary directory can be made");
        let (port, bus) = if self.is_node {
            let (port, bus) = Port::reserve_pair();
            (port, Some(bus))
        } else {
            (Port::reserve(), None)
        };
        let tls_port = self.tls.then(Port::reserve);
        if let Some(lines) = &self.file {
            fs::write(dir.path().join(SENTINEL_FILE), lines).expect("a file can be written to one's own directory");
        }
        let mut redis = Redis { builder: self, port, tls_port, _bus: bus, dir, child: None };
        redis.launch();
        redis.ready_sync();
        redis
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    builder: Builder,
    port: Port,
    tls_port: Option<Port>,
    /// Reserved for its talk with the other nodes.
    _bus: Option<Port>,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Redis {
    /// Starts a server with default settings (no snapshots) and waits until it answers.
    ///
    /// # Panics
    /// If it doesn't, with its log.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// [`Redis::start`] for tests without a runtime.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn start_sync() -> Self {
        Self::builder().start_sync()
    }

    /// A server with settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its TCP port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its TCP address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number).into()
    }

    /// Where its clients and its peers find it: the port that speaks TLS, if one does.
    pub fn public_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tls_port.as_ref().unwrap_or(&self.port).number).into()
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://…` if it speaks TLS.
    pub fn url(&self) -> String {
        let scheme = if self.builder.tls { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.public_address())
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.builder.password.as_deref()
    }

    /// Its unix socket, there if it was built with [`Builder::unix`].
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Its working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its version of Redis, major and minor, for what older ones can't do; Valkey names the Redis that it is compatible with.
    ///
    /// # Panics
    /// If it doesn't say.
    pub fn version(&self) -> (u32, u32) {
        let info = self.cmd(&["INFO", "server"]).text();
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("INFO names the version");
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or_else(|_| panic!("redis_version:{version}")));
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }

    /// A new connection for assertions.
    ///
    /// # Panics
    /// If the server doesn't listen.
    #[track_caller]
    pub fn resp(&self) -> Resp {
        self.try_resp().unwrap_or_else(|error| panic!("redis-server on port {}: {error}\n{}", self.port(), self.log()))
    }

    pub(crate) fn try_resp(&self) -> io::Result<Resp> {
        let mut resp = Resp::tcp(self.address())?;
        if let Some(password) = &self.builder.password {
            resp.try_cmd(&["AUTH", password]).map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(resp)
    }

    /// Runs one command on a new connection; for more, keep a [`Redis::resp`].
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&self, args: &[A]) -> crate::Value {
        self.resp().cmd(args)
    }

    /// Kills it with SIGKILL. Its port stays reserved.
    ///
    /// # Panics
    /// If the process can't be ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("a child of one's own can be killed");
        }
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Panics
    /// If it isn't running.
    pub fn pause(&self) {
        self.signal("STOP");
        wait_until_sync("redis-server to be stopped", START, || self.in_state(|state| state == 'T'));
    }

    /// Whether it is there and not stopped, so that it can be asked.
    pub fn is_running(&self) -> bool {
        self.child.is_some() && self.in_state(|state| !matches!(state, 'T' | 'Z')).is_ok()
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// If it isn't running.
    pub fn resume(&self) {
        self.signal("CONT");
        wait_until_sync("redis-server to go on", START, || self.in_state(|state| state != 'T'));
    }

    /// Kills it and starts it on the same port without its data.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart_empty(&mut self) {
        self.kill();
        self.wipe();
        self.launch();
        self.ready().await;
    }

    /// Saves its data, kills it and starts it on the same port.
    ///
    /// # Panics
    /// If it doesn't save or start.
    pub async fn restart_with_data(&mut self) {
        self.cmd(&["SAVE"]);
        self.kill();
        self.launch();
        self.ready().await;
    }

    /// Removes the data on disk, so that the next launch starts empty.
    pub fn wipe(&self) {
        // Absent if it never saved, which is what is wanted.
        let _ = fs::remove_file(self.dir.path().join("dump.rdb"));
        let _ = fs::remove_dir_all(self.dir.path().join("appendonlydir"));
    }

    /// Starts the process after a [`Redis::kill`] without waiting until it answers: it may be loading still.
    ///
    /// # Panics
    /// If the binary can't be run.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "redis-server on port {} runs already: kill it first", self.port());
        let mut command = Command::new(server_binary());
        let (port, dir) = (self.port().to_string(), shown(self.dir.path()));
        let tls_port = self.tls_port.as_ref().map(|port| port.number.to_string()).unwrap_or_default();
        if self.builder.file.is_some() {
            command.arg(self.dir.path().join(SENTINEL_FILE)).arg("--sentinel");
        }
        command.args(["--port", &port, "--bind", "127.0.0.1", "--dir", &dir, "--logfile", "redis.log", "--save", "", "--daemonize", "no"]);
        if self.builder.unix {
            command.args(["--unixsocket", &shown(&self.socket())]);
        }
        if let Some(users) = self.users() {
            command.args(["--aclfile", &shown(&users)]);
        }
        let filled = |arg: &String| arg.replace("{port}", &port).replace("{tls_port}", &tls_port).replace("{dir}", &dir);
        command.args(self.builder.args.iter().map(filled));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", server_binary().display()));
        self.child = Some(child);
    }

    /// The file that `ACL SAVE` writes, so that users outlast a restart, empty at first; `None` for servers that get a password by argument,
    /// which such a file would take away again, and for sentinels.
    fn users(&self) -> Option<PathBuf> {
        if self.builder.file.is_some() || self.builder.args.iter().any(|arg| arg == "--requirepass") {
            return None;
        }
        let users = self.dir.path().join("users.acl");
        if !users.is_file() {
            fs::write(&users, "").expect("a temporary file can be written");
        }
        Some(users)
    }

    /// Waits until it answers commands (has loaded its data).
    ///
    /// # Panics
    /// If it exits or takes too long, with its log.
    pub async fn ready(&mut self) {
        crate::wait_until("redis-server to answer", START, || std::future::ready(self.answers())).await;
    }

    /// [`Redis::ready`] for tests without a runtime.
    ///
    /// # Panics
    /// As [`Redis::ready`].
    pub fn ready_sync(&mut self) {
        wait_until_sync("redis-server to answer", START, || self.answers());
    }

    fn answers(&mut self) -> Result<(), String> {
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            panic!("redis-server on port {} exited with {status}\n{}", self.port(), self.log());
        }
        let state = |error: io::Error| format!("{error}\n{}", self.log());
        match self.try_resp().map_err(state)?.try_cmd(&["PING"]) {
            Err(crate::Error::Server(text)) if text.starts_with("NOAUTH") => Ok(()),
            answer => answer.map(drop).map_err(|error| error.to_string()),
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("redis-server is running").id()
    }

    fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status().expect("sh can be run");
        assert!(status.success(), "`{script}`: {status}");
    }

    /// The process state is the first letter after the name in parentheses.
    fn in_state(&self, wanted: impl Fn(char) -> bool) -> Result<(), String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).map_err(|error| error.to_string())?;
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        state.is_some_and(wanted).then_some(()).ok_or(stat)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs what blocks away from the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
