//! `unstale demo` as a newcomer runs it: it ends well, and it would notice if it didn't.

use std::process::{Command, Output, Stdio};

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    command
        .arg("demo")
        .args(["--updates", "2000"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program that cargo has built starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn nothing_is_stale_at_the_end_and_it_says_so_in_plain_text() {
    let output = demo(&[]);
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{complained}");
    assert!(said.contains("Nothing is stale."), "{said}");
    assert!(!said.contains('\x1b') && !said.contains('\r'), "a pipe is no terminal: {said}");
}

#[test]
fn one_suppressed_delete_is_found_and_makes_it_fail() {
    let output = demo(&["--sabotage"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("API b answers key-0000") && said.contains("One value is stale."), "{said}");
}

#[test]
fn a_missing_server_is_named_with_what_to_do() {
    let output = demo(&["--redis-server", "/nowhere/redis-server"]);
    let complained = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained.contains("/nowhere/redis-server") && complained.contains("--redis-server"), "{complained}");
}
