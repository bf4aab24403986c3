//! Globs against the real thing: a redis-server that is asked which keys a pattern matches.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use unstale_events::Glob;
use unstale_events::glob::{escape, literal_prefix};

proptest! {
    #[test]
    fn an_escaped_text_matches_only_itself(text in r"[a-c*?\[\]\\^-]{1,6}", other in r"[a-c*?\[\]\\^-]{1,6}") {
        let mut pattern = String::new();
        escape(&text, &mut pattern);
        prop_assert!(Glob::new(&pattern).matches(text.as_bytes()));
        prop_assert_eq!(Glob::new(&pattern).matches(other.as_bytes()), text == other);
        prop_assert_eq!(literal_prefix(&pattern), text);
    }

    #[test]
    fn every_match_begins_with_the_literal_prefix(pattern in r"[ab*?\[\]\\^-]{0,6}", key in r"[ab*?\[\]\\^-]{1,6}") {
        if Glob::new(&pattern).matches(key.as_bytes()) {
            prop_assert!(key.starts_with(&*literal_prefix(&pattern)));
        }
    }
}

/// A server on a socket of its own directory; both vanish with it.
struct Server {
    child: Child,
    directory: std::path::PathBuf,
}

impl Server {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("unstale-globs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let binary = std::env::var("UNSTALE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(&binary)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(directory.join("redis.sock"))
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}; install redis-server or set UNSTALE_REDIS_SERVER"));
        Self { child, directory }
    }

    fn connect(&self) -> Connection {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(self.directory.join("redis.sock")) {
                Ok(stream) => return Connection { reader: BufReader::new(stream) },
                Err(error) => assert!(Instant::now() < deadline, "redis-server doesn't answer: {error}"),
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    fn command(&mut self, words: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&request).unwrap();
        let (kind, count) = self.line();
        if kind != b'*' {
            return Vec::new();
        }
        (0..count).map(|_| self.bulk()).collect()
    }

    fn line(&mut self) -> (u8, usize) {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(!line.starts_with('-'), "{line}");
        (line.as_bytes()[0], line[1..].trim().parse().unwrap_or(0))
    }

    fn bulk(&mut self) -> Vec<u8> {
        let (_, length) = self.line();
        let mut bulk = vec![0; length + 2];
        self.reader.read_exact(&mut bulk).unwrap();
        bulk.truncate(length);
        bulk
    }
}

const ALPHABET: [&str; 11] = ["a", "b", "c", "*", "?", "[", "]", "^", "-", "\\", "é"];

/// Texts over the alphabet, the same in every run.
fn words(count: usize, seed: u64) -> impl Iterator<Item = String> {
    let mut state = seed;
    let mut below = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % limit
    };
    (0..count).map(move |_| (0..=below(7)).map(|_| ALPHABET[below(ALPHABET.len())]).collect())
}

#[test]
fn globs_match_what_a_redis_server_matches() {
    let server = Server::start();
    let mut redis = server.connect();
    let mut keys: Vec<Vec<u8>> = words(300, 1).map(String::into_bytes).chain((1..=255).map(|byte| vec![byte])).collect();
    keys.sort();
    keys.dedup();
    for key in &keys {
        redis.command(&[b"SET", key, b""]);
    }
    for pattern in words(5000, 2) {
        let mut theirs = redis.command(&[b"KEYS", pattern.as_bytes()]);
        theirs.sort();
        let glob = Glob::new(&pattern);
        let ours: Vec<_> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
        assert_eq!(ours, theirs, "{pattern:?}");
    }
}
