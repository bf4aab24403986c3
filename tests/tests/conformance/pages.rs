//! The pages of `docs/systems`, run as they stand there: the configuration by a sidecar, the lines for a shell and for Python one after another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use unstale_tests::{World, program, scripts};

use crate::kit::figure;

/// A fenced block: its language, and what stands in it.
type Block<'a> = (&'a str, &'a str);

/// Runs a page on a sidecar with the first configuration that it shows. What stands right below lines for a shell is what they print. Between blocks
/// the events of the one before are done.
///
/// # Panics
/// If something fails, prints otherwise, or ends in the dead letters.
#[track_caller]
pub(crate) fn works(system: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(format!("docs/systems/{system}.md"));
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blocks = blocks(&page);
    let config = blocks.iter().find(|(language, _)| *language == "toml").expect("a page shows a configuration").1;
    let mut world = World::start(config);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    fs::write(dir.path().join("unstale.toml"), config).expect("a temporary file can be written");
    let receivers = root.join("docs/receivers/python");
    let (mut lines, mut outputs) = (0, 0);
    for (at, (language, text)) in blocks.iter().enumerate() {
        let printed = match *language {
            "sh" => shell(&world, dir.path(), text),
            "python" => scripts::run_python(&located(&world, text), &receivers),
            _ => continue,
        };
        world.wait_done();
        lines += text.lines().count();
        if let Some(("", shown)) = blocks.get(at + 1) {
            assert_eq!(printed.trim_end(), *shown, "{}:\n{text}", path.display());
            outputs += 1;
        }
    }
    assert!(lines > 0 && outputs > 0, "{}", path.display());
    assert_eq!(world.dead_letters(), [], "{}", path.display());
    figure(format_args!("[the page](systems/{system}.md): {lines} lines run, {outputs} outputs as shown"));
}

/// The fenced blocks, in order; of two with nothing between them the second follows the first.
fn blocks(page: &str) -> Vec<Block<'_>> {
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

/// With the places of this world for those of the page.
fn located(world: &World, text: &str) -> String {
    let http = world.sidecar.http().replace("http://", "");
    let port = http.rsplit(':').next().unwrap_or_default();
    let text = text.replace("127.0.0.1:7863", &http).replace("port=7863", &format!("port={port}"));
    text.replace("redis://127.0.0.1:6379", &world.redis.url())
}

fn shell(world: &World, dir: &Path, text: &str) -> String {
    let port = world.redis.address().port();
    let places = format!("redis-cli() {{ command redis-cli -p {port} \"$@\"; }}\nunstale() {{ \"$UNSTALE\" \"$@\"; }}\n");
    let script = format!("{places}{}", located(world, text));
    let unstale: PathBuf = fs::canonicalize(program()).expect("the program is there");
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(dir).env("UNSTALE", unstale).output();
    let output = output.unwrap_or_else(|error| panic!("bash: {error}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{text}\n{}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}
