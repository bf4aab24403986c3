//! `cargo xtask conformance`: the scenarios of the five systems, run on the program as it would be installed (or on the one that
//! `UNSTALE_BINARY` names), and told in a table.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::page::Part;
use crate::{command, servers, test};

/// Names the program for the tests.
const PROGRAM: &str = "UNSTALE_BINARY";

/// The page with the table.
pub(crate) const TABLE: Part = Part { page: "docs/conformance.md", name: "scenarios" };

/// Where the scenarios are: a module for each system.
pub(crate) const SUITE: &str = "tests/tests/conformance/";

/// The systems in the order of the table: the preset, and the module of the suite.
const SYSTEMS: [(&str, &str); 6] = [
    ("llm-gateway", "llm_gateway"),
    ("model-catalog", "model_catalog"),
    ("endpoint-catalog", "endpoint_catalog"),
    ("entity-repository", "entity_repository"),
    ("subscription-plans", "subscription_plans"),
    ("any", "any_system"),
];

/// A test outside the suite that shows something of a system.
pub(crate) struct Elsewhere {
    system: &'static str,
    package: &'static str,
    target: &'static str,
    /// Its file, for the reader.
    pub(crate) file: &'static str,
    /// Its name with its modules.
    pub(crate) test: &'static str,
}

const fn e2e(system: &'static str, file: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere { system, package: "unstale-tests", target: "e2e", file, test }
}

const fn client(system: &'static str, file: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere { system, package: "unstale-client", target: "client", file, test }
}

const BATCHING: &str = "tests/tests/e2e/batching.rs";
const CLIENTS: &str = "tests/tests/e2e/clients.rs";
const SUBSCRIBERS: &str = "tests/tests/e2e/subscribers.rs";
const READING: &str = "crates/client/tests/client/reading.rs";

pub(crate) const ELSEWHERE: &[Elsewhere] = &[
    e2e("llm-gateway", BATCHING, "batching::the_names_that_dotnet_applications_have_work_as_written"),
    e2e("llm-gateway", SUBSCRIBERS, "subscribers::the_first_systems_subscriber_in_python_is_served"),
    e2e("llm-gateway", SUBSCRIBERS, "subscribers::the_first_systems_subscriber_in_node_is_served"),
    e2e("model-catalog", SUBSCRIBERS, "subscribers::a_bumped_epoch_makes_every_worker_drop_what_it_holds"),
    e2e(
        "entity-repository",
        "tests/tests/e2e/instances/cluster.rs",
        "instances::cluster::both_tiers_agree_after_each_failover_whatever_was_being_fetched",
    ),
    client("entity-repository", READING, "reading::a_value_is_loaded_once_and_served_by_both_tiers"),
    client("entity-repository", "crates/client/tests/client/writing.rs", "writing::a_written_value_is_in_both_tiers"),
    client(
        "entity-repository",
        "crates/client/tests/client/behind.rs",
        "behind::values_are_served_at_once_and_written_together_the_last_of_each_key",
    ),
    e2e(
        "subscription-plans",
        "tests/tests/e2e/instances/plans.rs",
        "instances::plans::a_plan_that_changes_on_one_instance_is_served_by_the_other",
    ),
    client("subscription-plans", READING, "reading::ten_thousand_misses_at_once_make_one_load"),
    client("subscription-plans", READING, "reading::lifetimes_end_and_are_spread"),
    client("subscription-plans", READING, "reading::a_value_near_its_end_is_served_and_fetched_anew"),
    e2e("any", CLIENTS, "clients::redis_py_publishes_and_hears"),
    e2e("any", CLIENTS, "clients::ioredis_publishes_and_hears"),
    e2e("any", CLIENTS, "clients::node_redis_publishes_and_hears"),
    e2e("any", SUBSCRIBERS, "subscribers::processes_with_bentocache_drop_their_own_copies"),
    e2e("any", SUBSCRIBERS, "subscribers::fusioncache_is_told_of_each_key_in_its_own_format"),
    e2e("any", BATCHING, "batching::p7_1_of_4_requests_with_3_of_one_key_2_are_processed_and_2_coalesced"),
    e2e("any", BATCHING, "batching::of_150_keys_at_50_a_batch_none_is_over_50_and_all_are_gone"),
    e2e("any", BATCHING, "batching::of_1000_events_0_are_left"),
    e2e("any", BATCHING, "batching::p4_1_critical_is_done_within_50_ms"),
    e2e("any", BATCHING, "batching::high_is_done_within_300_ms_and_waits_for_a_quarter_of_the_window"),
    e2e("any", BATCHING, "batching::normal_is_done_within_300_ms_and_waits_for_the_window"),
    e2e("any", BATCHING, "batching::low_waits_for_ten_windows"),
    e2e("any", "tests/tests/e2e/faults/states.rs", "faults::states::a_slow_redis_is_said_to_be_slow_and_all_is_done"),
];

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scenario {
    /// The system's place among them.
    order: usize,
    text: String,
}

/// How a scenario ended.
#[derive(Debug, Default)]
struct Outcome {
    holds: bool,
    figures: Vec<String>,
}

/// Runs all; with `--record` the table goes into the page, unless something fails.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let record = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--record"] => true,
        _ => return Err("`conformance` takes nothing but `--record`".to_owned()),
    };
    let server = servers::find_or_install_redis()?;
    let program = match env::var_os(PROGRAM).filter(|path| !path.is_empty()) {
        Some(named) => PathBuf::from(named),
        None => command::build_release("unstale", "unstale")?,
    };
    let mut outcomes = BTreeMap::new();
    for (package, target, names) in calls() {
        tell(&server, &program, (package, target), &names, &mut outcomes)?;
    }
    let rows = rows(&outcomes)?;
    let table = table(&rows);
    println!("\n{table}");
    let failed: Vec<&str> = rows.iter().filter(|row| !row.outcome.holds).map(|row| row.name).collect();
    if !failed.is_empty() {
        return Err(format!("these do not hold: {}", failed.join(", ")));
    }
    if record { TABLE.write(command::root(), &table) } else { Ok(()) }
}

/// The runs of cargo: a target of a package, and the tests of it; of the suite all.
fn calls() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let mut elsewhere: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for test in ELSEWHERE {
        elsewhere.entry((test.package, test.target)).or_default().push(test.test);
    }
    let elsewhere = elsewhere.into_iter().map(|((package, target), names)| (package, target, names));
    [("unstale-tests", "conformance", Vec::new())].into_iter().chain(elsewhere).collect()
}

/// One after another, or the figures would be those of a crowd.
fn tell(
    server: &Path,
    program: &Path,
    (package, target): (&str, &str),
    names: &[&str],
    outcomes: &mut BTreeMap<String, Outcome>,
) -> Result<(), String> {
    let mut tests = test::on(server)?;
    tests.env(PROGRAM, program).args(["--package", package, "--test", target, "--", "--test-threads=1", "--show-output"]);
    if !names.is_empty() {
        tests.arg("--exact").args(names);
    }
    let mut section = None;
    command::lines(&mut tests, |line| read(line, &mut section, outcomes)).map(drop)
}

/// Reads a line as Rust's tests print it: how a test ended, or what it printed, in a section of its own.
fn read(line: &str, section: &mut Option<String>, outcomes: &mut BTreeMap<String, Outcome>) {
    if let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
        outcomes.entry(name.to_owned()).or_default().holds = end == "ok";
    } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
        *section = Some(name.to_owned());
    } else if line.is_empty() || line.ends_with(':') {
        // The end of a section, or the beginning of a list of them.
        *section = section.take().filter(|_| !line.is_empty());
    } else if let Some(outcome) = section.as_ref().and_then(|name| outcomes.get_mut(name)) {
        outcome.figures.push(line.strip_prefix("figure: ").unwrap_or(line).to_owned());
    }
}

struct Row<'a> {
    system: &'static str,
    scenario: Scenario,
    name: &'a str,
    file: Option<&'static str>,
    outcome: &'a Outcome,
}

fn rows(outcomes: &BTreeMap<String, Outcome>) -> Result<Vec<Row<'_>>, String> {
    let mut rows = Vec::new();
    for (name, outcome) in outcomes {
        let elsewhere = ELSEWHERE.iter().find(|test| test.test == name);
        let (scenario, file) = match elsewhere {
            Some(test) => (test.scenario(), Some(test.file)),
            None => (scenario(name).ok_or_else(|| format!("{SUITE}: `{name}` is in the module of no system"))?, None),
        };
        rows.push(Row { system: SYSTEMS[scenario.order].0, scenario, name, file, outcome });
    }
    if let Some(test) = ELSEWHERE.iter().find(|test| !outcomes.contains_key(test.test)) {
        return Err(format!("{}: there is no test {}", test.package, test.test));
    }
    rows.sort_by(|one, other| (one.scenario.order, one.file, &one.scenario).cmp(&(other.scenario.order, other.file, &other.scenario)));
    Ok(rows)
}

fn table(rows: &[Row<'_>]) -> String {
    let mut table = "| system | scenario | result | figure |\n|---|---|---|---|\n".to_owned();
    for Row { system, scenario, file, outcome, .. } in rows {
        let link = file.map(|file| format!(" ([where](../{file}))")).unwrap_or_default();
        let result = if outcome.holds { "holds" } else { "FAILS" };
        let figures = outcome.figures.join("; ").replace('|', "\\|");
        writeln!(table, "| {system} | {}{link} | {result} | {figures} |", scenario.text).expect("a String takes everything");
    }
    table
}

impl Elsewhere {
    pub(crate) fn scenario(&self) -> Scenario {
        let order = SYSTEMS.iter().position(|(system, _)| *system == self.system).expect("it names one of the systems");
        Scenario { order, text: sentence(self.name()) }
    }

    /// Its name without its modules.
    pub(crate) fn name(&self) -> &'static str {
        self.test.rsplit_once("::").map_or(self.test, |(_, name)| name)
    }
}

/// The row of a test of the suite, by `module::name`.
pub(crate) fn scenario(name: &str) -> Option<Scenario> {
    let (module, name) = name.split_once("::")?;
    let order = SYSTEMS.iter().position(|(_, known)| *known == module)?;
    Some(Scenario { order, text: sentence(name) })
}

/// The rows of the page.
pub(crate) fn shown(table: &str) -> BTreeSet<Scenario> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (system, text) = (cells.next()?, cells.next()?);
        let order = SYSTEMS.iter().position(|(known, _)| *known == system)?;
        Some(Scenario { order, text: text.split(" ([where]").next()?.to_owned() })
    };
    table.lines().filter_map(row).collect()
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", SYSTEMS[self.order].0, self.text)
    }
}

/// A test's name as a sentence, without the number of a clause that it may bear.
fn sentence(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let words = match name.splitn(3, '_').collect::<Vec<_>>()[..] {
        [promise, clause, rest] if promise.strip_prefix('p').is_some_and(is_number) && is_number(clause) => rest,
        _ => name,
    };
    let words = words.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_figures_are_read_as_rusts_tests_print_them() {
        let (mut section, mut outcomes) = (None, BTreeMap::new());
        for line in [
            "test any_system::a ... ok",
            "test any_system::b ... FAILED",
            "",
            "successes:",
            "",
            "---- any_system::a stdout ----",
            "figure: 7 of 7",
            "as it was said",
            "",
            "successes:",
            "    any_system::a",
        ] {
            read(line, &mut section, &mut outcomes);
        }
        assert_eq!((outcomes["any_system::a"].holds, outcomes["any_system::b"].holds), (true, false));
        assert_eq!(outcomes["any_system::a"].figures, ["7 of 7", "as it was said"]);
    }

    #[test]
    fn a_row_is_found_again_on_the_page() {
        let outcome = Outcome { holds: true, figures: vec!["1 | 2".to_owned()] };
        let row = |system, scenario, file| Row { system, scenario, name: "", file, outcome: &outcome };
        let own = row("llm-gateway", scenario("llm_gateway::of_4_keys").expect("a system's"), None);
        let test = ELSEWHERE.iter().find(|test| test.name().starts_with("p7_1_of_4_requests")).expect("it is named");
        let elsewhere = row("any", test.scenario(), Some(test.file));
        let scenarios: BTreeSet<Scenario> = [own.scenario.clone(), elsewhere.scenario.clone()].into();
        let table = table(&[own, elsewhere]);
        assert!(table.contains("| llm-gateway | Of 4 keys | holds | 1 \\| 2 |"), "{table}");
        assert!(table.contains("| any | Of 4 requests"), "{table}");
        assert_eq!(shown(&table), scenarios);
    }

    #[test]
    fn a_name_is_a_sentence() {
        assert_eq!(sentence("p7_1_of_4_keys"), "Of 4 keys");
        assert_eq!(sentence("providers_18_at_once"), "Providers 18 at once");
        assert_eq!(scenario("kit::x"), None);
    }
}
