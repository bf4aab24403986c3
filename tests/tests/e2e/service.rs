//! The unit for systemd: systemd itself has nothing against it, and what it says of the program is so.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The program need not be installed for this: another one stands in for it.
#[test]
fn systemd_has_nothing_against_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy/systemd/unstale.service");
    let text = fs::read_to_string(unit).expect("the unit can be read");
    assert!(text.contains("ExecStart=/usr/bin/unstale run ") && text.contains("RestartPreventExitStatus=64"), "{text}");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let copy = dir.path().join("unstale.service");
    fs::write(&copy, text.replace("/usr/bin/unstale", "/bin/true")).expect("a temporary file can be written");
    let verify = Command::new("systemd-analyze").arg("verify").arg(&copy).output();
    let verify = verify.expect("systemd-analyze starts: `cargo xtask test` installs it, or `apt-get install systemd`");
    assert!(verify.status.success() && verify.stderr.is_empty(), "{}", String::from_utf8_lossy(&verify.stderr));
}
