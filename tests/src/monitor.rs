//! What a server runs for the sidecars on it, as its own MONITOR tells.

use std::collections::{BTreeMap, BTreeSet};

use unstale_testkit::Resp;

use crate::World;

/// One command.
#[derive(Debug)]
pub struct Line {
    /// Seconds of Redis' clock.
    pub at: f64,
    /// What the connection is for, by the name that the sidecar gave it; `lua` for what a script calls.
    pub from: String,
    /// Command and arguments as MONITOR writes them, without their quotes.
    pub words: Vec<String>,
}

impl Line {
    fn parse(line: &str) -> Self {
        let parts = line.split_once(" [").and_then(|(at, rest)| Some((at, rest.split_once("] ")?)));
        let (at, (from, command)) = parts.unwrap_or_else(|| panic!("no line of MONITOR: {line}"));
        let from = from.split_once(' ').map_or(from, |(_, from)| from).to_owned();
        let words = command.trim_matches('"').split("\" \"").map(str::to_owned).collect();
        Self { at: at.parse().expect("a time"), from, words }
    }

    /// The command's name in capitals.
    pub fn name(&self) -> String {
        self.words[0].to_uppercase()
    }

    /// Whether this is one of its words.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    /// The keys that it reads or writes. A script's are those of the commands that it calls, which have lines of their own.
    fn keys(&self) -> &[String] {
        match self.name().as_str() {
            "AUTH" | "CLIENT" | "ECHO" | "EVAL" | "EVALSHA" | "HELLO" | "INFO" | "PING" | "PUBLISH" | "ROLE" | "SCAN" | "SCRIPT"
            | "SELECT" | "TIME" => &[],
            "DEL" | "UNLINK" => &self.words[1..],
            "MEMORY" | "XGROUP" | "XINFO" => self.words.get(2..3).unwrap_or_default(),
            "XREAD" | "XREADGROUP" => {
                let streams = self.words.iter().position(|word| word.eq_ignore_ascii_case("streams")).map_or(self.words.len(), |at| at + 1);
                &self.words[streams..streams + (self.words.len() - streams) / 2]
            }
            _ => self.words.get(1..2).unwrap_or_default(),
        }
    }
}

/// What these commands did to keys that aren't the sidecars' own: the command and the key.
pub fn touched(lines: &[Line]) -> BTreeSet<(String, String)> {
    let keys = lines.iter().flat_map(|line| line.keys().iter().map(|key| (line.name(), key.clone())));
    keys.filter(|(_, key)| !key.starts_with("unstale:")).collect()
}

impl World {
    /// What the server ran for the sidecars while `work` was done.
    ///
    /// # Panics
    /// If MONITOR fails.
    pub fn watched(&mut self, work: impl FnOnce(&mut Self)) -> Vec<Line> {
        let roles = roles(&mut self.redis.resp());
        let lines = self.monitored(work);
        let of_sidecar = |line: &Line| line.from == "lua" || roles.contains_key(&line.from);
        let mut lines: Vec<Line> = lines.iter().map(|line| Line::parse(line)).filter(of_sidecar).collect();
        for line in &mut lines {
            if let Some(role) = roles.get(&line.from) {
                line.from.clone_from(role);
            }
        }
        lines
    }
}

/// The sidecars' connections by address: what each is for.
fn roles(resp: &mut Resp) -> BTreeMap<String, String> {
    let list = resp.cmd(&["CLIENT", "LIST"]).text();
    let field = |line: &str, name: &str| line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned));
    let role = |line: &str| Some((field(line, "addr=")?, field(line, "name=unstale:")?.split(':').next()?.to_owned()));
    list.lines().filter_map(role).collect()
}
