//! `cargo xtask dashboard`: draws what the dashboard shows of a Prometheus, for those who have no Grafana at hand and for the documentation.

use std::process::Command;

use crate::{command, python};

/// What the drawing is made with; it brings Pillow along, which writes the picture.
const PACKAGE: &str = "matplotlib==3.11.2";
/// How far back it looks, in minutes.
const MINUTES: &str = "12";

/// Draws `docs/dashboard.png`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let [url] = args else {
        return Err("name the Prometheus, as in `cargo xtask dashboard http://127.0.0.1:9090`".to_owned());
    };
    let python = python::find_or_make()?;
    command::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]))?;
    let (dashboard, picture) = ("deploy/grafana/unstale.json", "docs/dashboard.png");
    let mut draw = Command::new(python);
    draw.args(["xtask/src/dashboard.py", url, MINUTES, dashboard, picture]).current_dir(command::root());
    command::run(&mut draw)?;
    println!("{picture} is drawn.");
    Ok(())
}
