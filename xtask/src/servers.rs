//! The servers that tests and demo need: found, or installed where that can be done without asking.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command;

/// Names a server's binary; tests look at it, too.
pub(crate) const VARIABLE: &str = "UNSTALE_REDIS_SERVER";
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
const OLDEST: (u32, u32) = (6, 2);

const BY_HAND: &str = "Install Redis 6.2 or newer, or Valkey:
    Debian, Ubuntu   sudo apt-get install redis-server
    Fedora           sudo dnf install valkey
    Alpine           sudo apk add redis
    Arch             sudo pacman -S valkey
    macOS            brew install redis
or let UNSTALE_REDIS_SERVER name the binary of a server that you have.";

/// The binary of a Redis server that is new enough: `$UNSTALE_REDIS_SERVER`, or one in `PATH`, or one that it installs now.
pub(crate) fn find_or_install_redis() -> Result<PathBuf, String> {
    let server = match find()? {
        Some(server) => server,
        None => install()?,
    };
    let version = version(&server)?;
    if version < OLDEST {
        return Err(format!("{} is version {}.{}. {BY_HAND}", server.display(), version.0, version.1));
    }
    Ok(server)
}

/// A server that is here: the one that the variable names, or the first in `PATH`.
pub(crate) fn find() -> Result<Option<PathBuf>, String> {
    match env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(named) if !named.is_file() => {
            Err(format!("{VARIABLE}={} is not a file. Let it name a server's binary, or unset it.", named.display()))
        }
        Some(named) => Ok(Some(named)),
        None => Ok(command::in_path(&NAMES)),
    }
}

fn install() -> Result<PathBuf, String> {
    let by_hand = |problem: String| format!("{problem}\nNo Redis server was found, and none could be installed. {BY_HAND}");
    println!("There is no redis-server here: installing Debian's package (apt-get install redis-server).");
    println!("Debian may also start it on port 6379. Nothing here uses that one: `sudo systemctl disable --now redis-server` ends it.");
    install_packages(&["redis-server"]).map_err(by_hand)?;
    command::in_path(&NAMES).ok_or_else(|| by_hand("apt-get installed redis-server, but it isn't in PATH.".to_owned()))
}

/// Other programs that tests run, each with Debian's package of it.
const PROGRAMS: [(&str, &str); 4] =
    [("chromedriver", "chromium-driver"), ("prometheus", "prometheus"), ("promtool", "prometheus"), ("systemd-analyze", "systemd")];

/// Has all the other programs that tests run, installing those that are missing. One that can't be had is named; the tests that need it fail.
pub(crate) fn find_or_install_programs() {
    let mut missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|(program, _)| command::in_path(&[program]).is_none()).map(|(_, package)| package).collect();
    missing.dedup();
    if missing.is_empty() {
        return;
    }
    println!("Installing what tests need besides: {}.", missing.join(", "));
    if let Err(problem) = install_packages(&missing) {
        println!("{problem}\nTests that need them will fail; install {} by hand.", missing.join(", "));
    }
}

/// Installs packages of Debian's.
pub(crate) fn install_packages(packages: &[&str]) -> Result<(), String> {
    let rights = rights()?;
    apt_get(rights, &["update"])?;
    apt_get(rights, &[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

/// How the package manager gets root's rights without asking anybody: not at all if it has them, or by sudo.
fn rights() -> Result<&'static [&'static str], String> {
    if command::in_path(&["apt-get"]).is_none() {
        return Err("This is no Debian (there is no apt-get).".to_owned());
    }
    let me = command::output(Command::new("id").arg("-u"))?;
    if me.trim() == "0" {
        return Ok(&[]);
    }
    if command::succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Ok(&["sudo", "-n"]);
    }
    Err("Installing needs root's rights, and sudo would ask for a password.".to_owned())
}

/// The environment is set behind sudo, which would drop it.
fn apt_get(rights: &[&str], args: &[&str]) -> Result<(), String> {
    // Another installation may be under way: this one waits for it, five minutes at the most.
    let options = ["--quiet=2", "-o=Dpkg::Use-Pty=0", "-o=DPkg::Lock::Timeout=300"];
    let words = [rights, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], &options, args].concat();
    command::run(Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()))
}

/// The major and minor number in what `redis-server --version` prints.
fn version(server: &Path) -> Result<(u32, u32), String> {
    let printed = command::output(Command::new(server).arg("--version"))?;
    parse_version(&printed).ok_or_else(|| format!("{} printed no version: `{}`. {BY_HAND}", server.display(), printed.trim()))
}

fn parse_version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.split_whitespace().find_map(|word| word.strip_prefix("v="))?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        assert_eq!(parse_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=a"), Some((7, 0)));
        assert_eq!(parse_version("Valkey server v=8.1.1 sha=00000000:0 malloc=libc bits=64 build=b"), Some((8, 1)));
        assert_eq!(parse_version("something else"), None);
    }
}
