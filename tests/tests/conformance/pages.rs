//! The pages of `docs/systems`, run as they stand there: the configuration by a sidecar, the lines for a shell and for Python one after another.

use unstale_tests::World;
use unstale_tests::pages::{self, Desk};

use crate::kit::figure;

/// Runs a page on a sidecar with the first configuration that it shows. What stands right below lines for a shell is what they print. Between blocks
/// the events of the one before are done.
///
/// # Panics
/// If something fails, prints otherwise, or ends in the dead letters.
#[track_caller]
pub(crate) fn works(system: &str) {
    let path = format!("docs/systems/{system}.md");
    let page = pages::read(&path);
    let blocks = pages::blocks(&page);
    let config = pages::first(&blocks, "toml");
    let mut world = World::start(config);
    let desk = Desk::at(&world.redis).beside(&world.sidecar.http());
    desk.put("unstale.toml", config);
    let (mut lines, mut outputs) = (0, 0);
    for (at, (language, text)) in blocks.iter().enumerate() {
        let printed = match *language {
            "sh" => desk.shell(text),
            "python" => desk.python(text),
            _ => continue,
        };
        world.wait_done();
        lines += text.lines().count();
        if let Some(("", shown)) = blocks.get(at + 1) {
            assert_eq!(printed.trim_end(), *shown, "{path}:\n{text}");
            outputs += 1;
        }
    }
    assert!(lines > 0 && outputs > 0, "{path}");
    assert_eq!(world.dead_letters(), [], "{path}");
    figure(format_args!("[the page](systems/{system}.md): {lines} lines run, {outputs} outputs as shown"));
}
