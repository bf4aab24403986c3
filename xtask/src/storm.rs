//! `cargo xtask storm`: many receivers, many events, connections cut and processes paused all the while; and how fast all of it is. The storm is one of the
//! end-to-end tests (`tests/tests/e2e/storm.rs`), here in its long form, on the program as it would be installed.

use crate::{command, servers};

const HELP: &str = "cargo xtask storm [--events N] [--receivers N] [--seed N]
  --events N     how many keys are invalidated (1000000)
  --receivers N  how many sidecars there are, each with a receiver (20)
  --seed N       in which order what is broken (1)";

/// The options, what they are unless they are given, and how the test hears of them.
const OPTIONS: [(&str, &str, &str); 3] = [
    ("--events", "1000000", "UNSTALE_STORM_EVENTS"),
    ("--receivers", "20", "UNSTALE_STORM_RECEIVERS"),
    ("--seed", "1", "UNSTALE_STORM_SEED"),
];

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let values = values(args)?;
    let server = servers::find_or_install_redis()?;
    let program = command::build_release("unstale", "unstale")?;
    let mut storm = command::cargo(&["test", "--release", "--package", "unstale-tests", "--test", "e2e", "--"]);
    storm.args(["storm::", "--nocapture", "--test-threads", "1"]);
    storm.env(servers::VARIABLE, server).env("UNSTALE_BINARY", program).envs(values);
    command::run(&mut storm)
}

/// What the test is told.
fn values(args: &[String]) -> Result<Vec<(&'static str, String)>, String> {
    let mut values = OPTIONS.map(|(_, value, variable)| (variable, value.to_owned())).to_vec();
    for pair in args.chunks(2) {
        let place =
            OPTIONS.iter().position(|(option, ..)| *option == pair[0]).ok_or_else(|| format!("`{}` is no option\n{HELP}", pair[0]))?;
        let number = pair.get(1).filter(|value| value.parse::<u64>().is_ok_and(|number| number > 0));
        values[place].1.clone_from(number.ok_or_else(|| format!("{} needs a number above 0\n{HELP}", pair[0]))?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_as_the_help_says() {
        let of = |words: &[&str]| values(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let [events, receivers, seed] = &of(&["--receivers", "7"]).unwrap()[..] else { panic!("three") };
        assert_eq!((events.1.as_str(), receivers, seed.1.as_str()), ("1000000", &("UNSTALE_STORM_RECEIVERS", "7".to_owned()), "1"));
        for (option, value, _) in OPTIONS {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(option) && line.ends_with(&format!("({value})"))), "{option}");
        }
        for wrong in [&["--seed"][..], &["--seed", "x"], &["--events", "0"], &["--help"]] {
            assert!(of(wrong).unwrap_err().contains(HELP), "{wrong:?}");
        }
    }
}
