//! Pages of the documentation, taken apart, and what they show run as it stands there: on a private server instead of the one at its usual place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use unstale_testkit::Redis;

use crate::{program, scripts};

/// A fenced block: its language, and what stands in it.
pub type Block<'a> = (&'a str, &'a str);

/// Ahead of every block for a shell. What a reader ends with Ctrl-C ends here after its first line; for the sake of those who wait for something to happen,
/// something does. A sidecar runs already.
const AT_HAND: &str = r#"
redis-cli() { command redis-cli -p "$REDIS_PORT" "$@"; }
first_line() {
    local pipe it
    pipe=$(mktemp --dry-run)
    mkfifo "$pipe"
    "$@" > "$pipe" &
    it=$!
    head --lines 1 < "$pipe"
    kill "$it" 2> /dev/null || true
    wait "$it" || true
    rm "$pipe"
}
curl() {
    case "$1" in
    -sN) first_line "$(type -P curl)" "$@" ;;
    *) command curl "$@" ;;
    esac
}
unstale() {
    local events
    case "$*" in
    tail*)
        command redis-cli -p "$REDIS_PORT" -r -1 -i 0.1 XADD unstale:events '*' type SpendUpdated key_hash 1 > /dev/null &
        events=$!
        first_line "$UNSTALE" "$@"
        kill "$events"
        ;;
    run\ --dry-run*) "$UNSTALE" "$@" --for 1s ;;
    run*) ;;
    top) "$UNSTALE" top --help > /dev/null ;;
    *) "$UNSTALE" "$@" ;;
    esac
}
"#;

/// A page by its path in the workspace.
///
/// # Panics
/// If it can't be read.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of `docs/` itself and the README, by their paths in the workspace.
///
/// # Panics
/// If there is no such directory.
pub fn all() -> Vec<String> {
    let entries = fs::read_dir(root().join("docs")).expect("the workspace has docs/");
    let names = entries.map(|entry| entry.expect("a directory can be read").file_name().to_string_lossy().into_owned());
    let pages = names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    pages.map(|name| format!("docs/{name}")).chain(["README.md".to_owned()]).collect()
}

/// A file or directory of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The fenced blocks, in order, and `prose` where something stands between two of them.
///
/// # Panics
/// If a fence doesn't end its line.
pub fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut parts = page.split("```");
    // What isn't in a block is every second part.
    while let (Some(prose), Some(block)) = (parts.next(), parts.next()) {
        if !blocks.is_empty() && prose != "\n" {
            blocks.push(("prose", prose));
        }
        let (language, text) = block.split_once('\n').expect("a fence ends its line");
        blocks.push((language, text.trim_end()));
    }
    blocks
}

/// The first block of a language.
///
/// # Panics
/// If there is none.
pub fn first<'a>(blocks: &[Block<'a>], language: &str) -> &'a str {
    blocks.iter().find(|(found, _)| *found == language).unwrap_or_else(|| panic!("the page has no block of {language}")).1
}

/// Where a reader sits: a directory of his own, a server, and perhaps a sidecar.
#[derive(Debug)]
pub struct Desk {
    dir: TempDir,
    redis: String,
    port: u16,
    http: String,
}

impl Desk {
    /// At this server.
    ///
    /// # Panics
    /// If there can't be a directory.
    pub fn at(redis: &Redis) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self { dir, redis: redis.url(), port: redis.address().port(), http: "127.0.0.1:7863".to_owned() }
    }

    /// Beside a sidecar that serves there.
    #[must_use]
    pub fn beside(mut self, http: &str) -> Self {
        self.http = http.replace("http://", "");
        self
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Has a file in the directory.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.dir().join(name), text).expect("a temporary file can be written");
    }

    /// With the places of this desk for those of the page.
    pub fn located(&self, text: &str) -> String {
        let port = self.http.rsplit(':').next().unwrap_or_default();
        let text = text.replace("127.0.0.1:7863", &self.http).replace("port=7863", &format!("port={port}"));
        text.replace("redis://127.0.0.1:6379", &self.redis).replace("./target/release/unstale", "unstale")
    }

    /// What lines for a shell print.
    ///
    /// # Panics
    /// If one of them fails.
    #[track_caller]
    pub fn shell(&self, text: &str) -> String {
        let unstale = fs::canonicalize(program()).expect("the program is there");
        let script = format!("{AT_HAND}{}", self.located(text));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script]).current_dir(self.dir());
        bash.env("UNSTALE", unstale).env("REDIS_PORT", self.port.to_string());
        bash.env("REDIS_URL", &self.redis).env("UNSTALE__HTTP__BIND", &self.http);
        let output = bash.output().unwrap_or_else(|error| panic!("bash: {error}"));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{text}\n{}{}", said(&output.stdout), said(&output.stderr));
        said(&output.stdout)
    }

    /// What lines in Python print; they find the receiver.
    ///
    /// # Panics
    /// If they fail.
    pub fn python(&self, text: &str) -> String {
        scripts::run_python(&self.located(text), &root().join("docs/receivers/python"))
    }
}
