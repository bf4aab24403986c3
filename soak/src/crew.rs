//! The sidecars of a run, and what may be done to them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;
use unstale_tests::{Setup, Sidecar};

use crate::model::CONFIG;
use crate::publisher::NAMESPACE;
use crate::stage::{Deed, Strike};

/// What is done to sidecars, how often in relation to other deeds, and how long its traces are excused: the entries of a sidecar that is
/// gone are taken over within 4 s, its place as the reader within 3 s.
const DEEDS: [Deed; 4] = [
    Deed { kind: "sidecar killed", weight: 20, grace: Duration::from_secs(5), loses: false },
    Deed { kind: "sidecar stopped", weight: 8, grace: Duration::from_secs(5), loses: false },
    Deed { kind: "sidecar restarted", weight: 6, grace: Duration::from_secs(4), loses: false },
    Deed { kind: "all sidecars killed", weight: 4, grace: Duration::from_secs(7), loses: false },
];

/// The sidecars.
#[derive(Debug)]
pub struct Crew {
    urls: Vec<String>,
    members: Vec<Sidecar>,
    logs: Option<PathBuf>,
    ended: usize,
}

impl Crew {
    /// Starts one at each of these URLs. Logs of those that end are kept in `logs`, if given.
    pub fn start(urls: Vec<String>, logs: Option<PathBuf>) -> Self {
        let members = urls.iter().map(|url| sidecar(url)).collect();
        Self { urls, members, logs, ended: 0 }
    }

    /// What may be done to them.
    pub fn deeds(&self) -> &'static [Deed] {
        &DEEDS
    }

    /// Does one of [`Crew::deeds`]; `false` if it is none of them.
    pub fn act(&mut self, deed: &Deed, strike: &mut Strike<'_>) -> bool {
        let one = strike.random.random_range(0..self.members.len());
        match deed.kind {
            "sidecar killed" => self.kill(&[one], deed, strike),
            "all sidecars killed" => self.kill(&(0..self.members.len()).collect::<Vec<_>>(), deed, strike),
            "sidecar stopped" => {
                let fault = strike.begin(deed, self.members[one].name().to_owned());
                self.members[one].pause();
                strike.pass(200..6000);
                self.members[one].resume();
                strike.end(fault);
            }
            "sidecar restarted" => {
                let fault = strike.begin(deed, self.members[one].name().to_owned());
                self.members[one].terminate();
                self.members[one].wait();
                self.replace(one);
                strike.end(fault);
            }
            _ => return false,
        }
        true
    }

    /// They stay away for up to two seconds: others must do their work meanwhile.
    fn kill(&mut self, which: &[usize], deed: &Deed, strike: &mut Strike<'_>) {
        let names: Vec<&str> = which.iter().map(|one| self.members[*one].name()).collect();
        let fault = strike.begin(deed, names.join(", "));
        for one in which {
            self.members[*one].kill();
        }
        // Recovery is counted from here if others are left to do the work.
        let others = which.len() < self.members.len();
        if others {
            strike.end(fault);
        }
        strike.pass(0..2000);
        for one in which {
            self.replace(*one);
        }
        if !others {
            strike.end(fault);
        }
    }

    fn replace(&mut self, one: usize) {
        let ended = std::mem::replace(&mut self.members[one], sidecar(&self.urls[one]));
        self.keep(&ended);
    }

    fn keep(&mut self, sidecar: &Sidecar) {
        self.ended += 1;
        if let Some(logs) = &self.logs {
            let file = logs.join(format!("{:03}-{}.log", self.ended, sidecar.name()));
            if let Err(error) = fs::create_dir_all(logs).and_then(|()| fs::write(&file, sidecar.log())) {
                eprintln!("{}: {error}", file.display());
            }
        }
    }

    /// Sidecars that ended by themselves, which none may; each with the end of its log.
    pub fn fallen(&mut self) -> Vec<String> {
        let fallen = self.members.iter_mut().filter_map(|member| Some((member.ended()?, member)));
        fallen.map(|(status, member)| format!("{} ended by itself: {status}\n{}", member.name(), tail(&member.log()))).collect()
    }

    /// The names of the living, and the most memory that one of them ever had, in bytes.
    pub fn peak_bytes(&mut self) -> u64 {
        self.members.iter_mut().filter_map(|member| member.ended().is_none().then(|| member.peak_bytes())).max().unwrap_or_default()
    }

    /// Waits until somebody holds the lease and all beat.
    pub fn ready(&mut self, bus: &mut unstale_tests::Bus) {
        self.members.iter_mut().for_each(|member| member.ready(bus));
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let members = std::mem::take(&mut self.members);
        for member in &members {
            self.keep(member);
        }
    }
}

fn sidecar(url: &str) -> Sidecar {
    Setup::at(url).config(CONFIG).namespace(NAMESPACE).spawn()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
