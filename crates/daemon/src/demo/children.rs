//! The processes that the demo starts, and their certain end: when it is done, on an error, a signal, or a panic.
//!
//! They are listed in one place for the whole process because a panic aborts here without running destructors: a hook ends them first.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Ends the children when it goes out of scope; the hook does so on a panic.
pub(super) struct Guard(());

/// To be called once, before the first [`spawn`].
pub(super) fn guard() -> Guard {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        end_all();
        default(panic);
    }));
    Guard(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        end_all();
    }
}

/// Starts a process that writes to `log`. It gets a process group of its own, so that Ctrl-C reaches the demo alone, which then ends it.
pub(super) fn spawn(mut command: Command, log: &Path) -> io::Result<()> {
    let log = File::create(log)?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
    children().push(child);
    Ok(())
}

/// Nothing that these processes hold outlives the demo, so they are not asked twice.
fn end_all() {
    for mut child in children().drain(..) {
        // Either fails only if the process is gone already.
        let _ended = child.kill().and_then(|()| child.wait());
    }
}

fn children() -> MutexGuard<'static, Vec<Child>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}
