//! The project's commands, run as `cargo xtask <command>`. Not part of the program, and almost without dependencies: it is the first thing that a
//! newcomer builds.

mod bench;
mod book;
mod c_peer;
mod command;
mod conformance;
mod counts;
mod dashboard;
mod demo;
mod dist;
mod fuzz;
mod helm;
mod image;
mod node;
mod page;
mod python;
mod release;
mod sbom;
mod servers;
mod soak;
mod storm;
mod test;
mod tidy;
mod versions;

use std::process::ExitCode;

const HELP: &str = "\
The project's commands.

  cargo xtask demo [--keep]  what unstale does, shown on a private Redis with two APIs and a sidecar each; under a minute after the build
  cargo xtask test [STEP…]   everything that must hold before a change is pushed, installing what it needs;
                             with STEP only these: fmt, tidy, clippy, counts, build, test, doc
  cargo xtask test --servers LIST [--record]
                             the tests that talk to Redis, on each of these versions: all, or some of 6.2,7.0,8.2,valkey-8,valkey-9;
                             downloads those that aren't here; --record keeps each outcome in the table of docs/servers.md
  cargo xtask soak …         real sidecars under load and faults at random, and an oracle that names every lost or late invalidation
                             (--minutes, --topology, --sidecars, --seed; --help tells all)
  cargo xtask kills …        kill -9 of sidecars at random and at each named point, and whether anything is lost (--kills, --events, --seed)
  cargo xtask storm …        twenty receivers and a million events while connections are cut and processes paused: whether everybody hears everything, and
                             how fast (--events, --receivers, --seed)
  cargo xtask fuzz [TARGET…] [--seconds N] [--merge]
                             feeds everything that reads what others wrote, led by coverage; a minute each, unless told otherwise;
                             --merge adds what was found to the committed corpora
  cargo xtask bench [WORKLOAD…] [--rounds N] [--record]
                             how fast it is, beside consumers written by hand in C, Python and for Node, which it installs or builds;
                             --record writes all of it to docs/benchmarks.md
  cargo xtask counts [--record]
                             how many instructions each step of an event takes, by valgrind's callgrind, against what docs/benchmarks.md records;
                             --record writes it there
  cargo xtask conformance [--record]
                             the scenarios of the systems behind the presets, and their figures; --record writes the table of
                             docs/conformance.md
  cargo xtask dist           what a release is handed out as, below target/dist: the static program with manual pages, completions and deploy/ in an
                             archive, its bill of materials, checksums
  cargo xtask image [--check]
                             the container image, by docker, podman or buildah; --check also runs it: names, TLS, health, the end (root and podman)
  cargo xtask dashboard URL  draws what the dashboard shows of the last minutes of this Prometheus: docs/dashboard.png
  cargo xtask book           the documentation as a book, by mdbook, which is fetched below target unless it is there: target/book/docs/index.html
  cargo xtask tidy [--fix]   the layout of the code and the links of the documentation against their rules; --fix redraws the picture of the crates
  cargo xtask helm           a Helm for the tests of the chart, fetched below target unless it is there; prints where
  cargo xtask node           a directory with the packages of Node that tests import, below target; prints where
  cargo xtask python         a Python with what tests import, made below target unless it is there; prints where
  cargo xtask c-peer         the benchmark's consumer in C, built below target; prints where
  cargo xtask help           this text
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = args.split_first().map_or(("help", &[][..]), |(command, rest)| (command.as_str(), rest));
    let outcome = match command {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "soak" | "kills" => soak::run(command, rest),
        "storm" => storm::run(rest),
        "fuzz" => fuzz::run(rest),
        "book" => book::run(rest),
        "bench" => bench::run(rest),
        "c-peer" => c_peer::run(),
        "conformance" => conformance::run(rest),
        "counts" => counts::run(rest),
        "dashboard" => dashboard::run(rest),
        "dist" => dist::run(rest),
        "image" => image::run(rest),
        "helm" => helm::run(),
        "node" => node::run(),
        "python" => python::run(),
        "tidy" => tidy::run(rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("`{other}` is no command\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
