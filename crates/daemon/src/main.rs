//! `unstale`: arguments, configuration, then the one command that was asked for.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use unstale::cli::{Cli, Command, Config, Exit};
use unstale::commands;
use unstale::config::{self, Loaded};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Config(Config::Schema) = cli.command {
        return commands::print_schema().into();
    }
    let refused = |problems: unstale_router::Problems| {
        eprint!("{}", problems.render(std::io::stderr().is_terminal()));
        ExitCode::from(Exit::Configuration)
    };
    let loaded = match config::load(&cli.global.sources()) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(problems),
    };
    if let (Command::Run | Command::Check(_), Err(problems)) = (&cli.command, loaded.require_routes()) {
        return refused(problems);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(dispatch(cli.command, loaded)).into(),
        Err(error) => {
            eprintln!("unstale: can't start: {error}");
            Exit::Failed.into()
        }
    }
}

async fn dispatch(command: Command, loaded: Loaded) -> Exit {
    match command {
        Command::Run => unstale::run::run(loaded).await,
        Command::Check(args) => commands::check(&loaded, &args).await,
        Command::Publish(args) => commands::publish(&loaded, &args).await,
        Command::Invalidate(args) => commands::invalidate(&loaded, &args).await,
        Command::Explain(args) => commands::explain(&loaded, &args),
        Command::Config(Config::Show { json }) => commands::show(&loaded, json),
        Command::Config(Config::Schema) => commands::print_schema(),
    }
}
