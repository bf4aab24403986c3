//! `unstale`: arguments, configuration, then the one command that was asked for.

use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};
use unstale::cli::{Cli, Command, Config, Exit};
use unstale::commands;
use unstale::config::{self, Loaded};
use unstale::demo;
use unstale::tools;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Config(Config::Schema) => return commands::print_schema().into(),
        Command::Completions(args) => return tools::pages::completions(&args).into(),
        Command::Man(args) => return tools::pages::man(&args).into(),
        Command::Demo(args) => return in_runtime(demo::run(&args)),
        Command::DemoApi(args) => return in_runtime(demo::api::run(args)),
        _ => {}
    }
    let refused = |problems: unstale_router::Problems| {
        eprint!("{}", problems.render(std::io::stderr().is_terminal()));
        ExitCode::from(Exit::Configuration)
    };
    let loaded = match config::load(&cli.global.sources()) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(problems),
    };
    if let (Command::Run(_) | Command::Check(_), Err(problems)) = (&cli.command, loaded.require_routes()) {
        return refused(problems);
    }
    match cli.command {
        Command::Run(args) if !args.dry_run => sidecar(loaded),
        command => in_runtime(dispatch(command, loaded)),
    }
}

/// Events have one thread, so that none passes from core to core on its way; HTTP has another, so that neither holds up the other.
fn sidecar(loaded: Loaded) -> ExitCode {
    let events = Builder::new_current_thread().enable_all().build();
    let http = Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build();
    match (events, http) {
        (Ok(events), Ok(http)) => events.block_on(unstale::run::run(loaded, http.handle())).into(),
        (Err(error), _) | (_, Err(error)) => cannot_start(&error),
    }
}

fn in_runtime(command: impl Future<Output = Exit>) -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => runtime.block_on(command).into(),
        Err(error) => cannot_start(&error),
    }
}

fn cannot_start(error: &std::io::Error) -> ExitCode {
    eprintln!("unstale: can't start: {error}");
    Exit::Failed.into()
}

async fn dispatch(command: Command, loaded: Loaded) -> Exit {
    match command {
        Command::Run(args) => tools::dry_run::run(&loaded, &args.how).await,
        Command::Check(args) => commands::check(&loaded, &args).await,
        Command::Publish(args) => commands::publish(&loaded, &args).await,
        Command::Invalidate(args) => commands::invalidate(&loaded, &args).await,
        Command::Flush(args) => tools::flush::run(&loaded, &args).await,
        Command::Explain(args) => commands::explain(&loaded, &args),
        Command::Tail(args) => tools::tail::run(&loaded, &args).await,
        Command::Health(args) => tools::health::run(&loaded, &args).await,
        Command::Stats(args) => tools::stats::run(&loaded, &args).await,
        Command::Top(args) => tools::top::run(&loaded, &args).await,
        Command::DeadLetters(command) => tools::dead_letters::run(&loaded, &command).await,
        Command::Why(args) => tools::why::run(&loaded, &args).await,
        Command::Config(Config::Show { json }) => commands::show(&loaded, json),
        Command::Config(Config::Schema) => commands::print_schema(),
        Command::Completions(args) => tools::pages::completions(&args),
        Command::Man(args) => tools::pages::man(&args),
        Command::Demo(args) => demo::run(&args).await,
        Command::DemoApi(args) => demo::api::run(args).await,
    }
}
