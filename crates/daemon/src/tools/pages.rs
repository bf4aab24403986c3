//! `unstale completions` and `unstale man`: what a package installs beside the program. Both are made from the command line's own description.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::{Cli, Completions, Exit, Man};
use crate::commands::fail;

/// `completions`.
pub fn completions(args: &Completions) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "unstale", &mut text);
    // If nobody reads it, there is nothing left to do.
    let _ = io::stdout().lock().write_all(&text);
    Exit::Done
}

/// `man`.
pub fn man(args: &Man) -> Exit {
    let written = match &args.dir {
        Some(dir) => std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(|error| unwritable(dir, &error)),
        None => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout().lock()).map_err(|error| error.to_string()),
    };
    written.map_or_else(fail, |()| Exit::Done)
}

fn unwritable(dir: &Path, error: &io::Error) -> String {
    format!("can't write to {}: {error}", dir.display())
}
