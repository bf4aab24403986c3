//! Where and when a run took place.

use std::env;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use unstale_testkit::server_binary;
use unstale_tests::{program, scripts};

use crate::figures::Table;

/// Date, machine, versions and command.
///
/// # Panics
/// If a program that is to be compared is missing.
pub fn describe() -> String {
    let mut table = Table::new(&["", ""]);
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--whole").collect();
    table.row(["when", &now]);
    table.row(["command", format!("`cargo xtask bench {}`", args.join(" ")).replace(" `", "`").as_str()]);
    table.row(["machine", &machine()]);
    table.row(["load before", &load()]);
    table.row(["unstale", &said(Command::new(program()).arg("--version"))]);
    table.row(["server", &said(Command::new(server_binary()).arg("--version"))]);
    table.row(["C", &format!("{}, hiredis {}", said(Command::new("cc").arg("--version")), hiredis())]);
    table.row(["Python", &python()]);
    table.row(["Node", &format!("{}, ioredis {}", said(Command::new("node").arg("--version")), ioredis())]);
    table.markdown()
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        value.unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, {}, Linux {}", field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"), kernel.trim())
}

/// How many processes wanted a core in the last minute, on average: a machine that has other work measures nothing well.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

fn hiredis() -> String {
    let header = fs::read_to_string("/usr/include/hiredis/hiredis.h").unwrap_or_default();
    let number =
        |name: &str| header.lines().find_map(|line| line.strip_prefix(&format!("#define HIREDIS_{name} "))).unwrap_or("?").to_owned();
    ["MAJOR", "MINOR", "PATCH"].map(number).join(".")
}

fn python() -> String {
    let versions = "import platform, redis, hiredis; print(platform.python_version() + ', redis-py ' + redis.__version__ + ', hiredis-py ' + hiredis.__version__)";
    said(Command::new(scripts::python()).args(["-c", versions]))
}

fn ioredis() -> String {
    let manifest = scripts::node_modules().join("node_modules/ioredis/package.json");
    let text = fs::read_to_string(&manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    json["version"].as_str().unwrap_or("?").to_owned()
}

/// The first line that a program prints.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().unwrap_or_else(|| panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))).trim().to_owned()
}
