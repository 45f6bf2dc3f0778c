//! The `shardkeeper` command.

mod dynamodb;
mod local;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Tools around the Shardkeeper consumer framework for Amazon Kinesis Data Streams.
///
/// Logs go to stderr; RUST_LOG sets what is logged, such as RUST_LOG=shardkeeper=debug.
#[derive(Parser)]
#[command(name = "shardkeeper", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a local Kinesis and a local DynamoDB for any AWS SDK, until SIGTERM or ctrl-c.
    Local(local::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,dynoxide=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match cli.command {
        Command::Local(args) => local::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
