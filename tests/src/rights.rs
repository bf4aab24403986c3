//! The least rights for a sidecar: the user that `unstale check --acl` prints, made on its server as an administrator would.

use std::process::{Command, Stdio};

use unstale_testkit::Resp;

/// Makes the user on the server that the URL names, and returns the URL with it. A URL that names a user, and one of another kind than `redis://`,
/// stays as it is; so does everything if `check` refuses the configuration, for then `run` will, too.
///
/// # Panics
/// If the server isn't there or doesn't take what was printed.
pub(crate) fn grant(url: &str, user: &str, mut check: Command) -> String {
    let Some(rest) = url.strip_prefix("redis://").filter(|rest| !rest.contains('@')) else { return url.to_owned() };
    let with_user = format!("redis://{user}:secret@{rest}");
    let output = check.env("REDIS_URL", &with_user).args(["check", "--acl", "--json"]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", crate::program().display()));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(acl) = printed["main"].as_str() else { return url.to_owned() };
    let address = rest.split('/').next().unwrap_or_default();
    let problem =
        |error: &dyn std::fmt::Display| format!("{address}: {error}; a test whose server is away grants before, by Setup::granted");
    let mut admin = Resp::tcp(address).unwrap_or_else(|error| panic!("{}", problem(&error)));
    for words in [words(&acl.replacen(">PASSWORD", ">secret", 1)), vec!["ACL".to_owned(), "SAVE".to_owned()]] {
        admin.try_cmd(&words).unwrap_or_else(|error| panic!("{}", problem(&error)));
    }
    with_user
}

/// The words of a command line, some of them in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (word, end) = match rest.split_once(' ') {
            _ if rest.starts_with('"') => {
                let mut quoted = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                (quoted.next().and_then(Result::ok).unwrap_or_else(|| panic!("{rest}")), quoted.byte_offset())
            }
            Some((word, _)) => (word.to_owned(), word.len()),
            None => (rest.to_owned(), rest.len()),
        };
        words.push(word);
        rest = rest[end..].trim_start();
    }
    words
}
