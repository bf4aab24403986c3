//! The unit for systemd: systemd itself has nothing against it, and what it says of the program is so.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The program need not be installed for this: another one stands in for it.
#[test]
fn systemd_has_nothing_against_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy/systemd/unstale.service");
    let text = fs::read_to_string(unit).expect("the unit can be read");
    for line in ["ExecStart=/usr/bin/unstale run ", "RestartPreventExitStatus=64", "Type=notify", "WatchdogSec="] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let copy = dir.path().join("unstale.service");
    fs::write(&copy, text.replace("/usr/bin/unstale", "/bin/true")).expect("a temporary file can be written");
    // Tenths of its points; what is left is that it speaks to the network.
    let exposed = ["security", "--offline=true", "--threshold=15"];
    let security = Command::new("systemd-analyze").args(exposed).arg(&copy).output().expect("systemd-analyze starts");
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
    let verify = Command::new("systemd-analyze").arg("verify").arg(&copy).output();
    let verify = verify.expect("systemd-analyze starts: `cargo xtask test` installs it, or `apt-get install systemd`");
    assert!(verify.status.success() && verify.stderr.is_empty(), "{}", String::from_utf8_lossy(&verify.stderr));
}
