//! Reading over TLS and HTTP/2, as from the service itself: which connections there are, and how dead ones are left.
//!
//! ```text
//! this process ─▶ client: this executable again; SSL_CERT_FILE names the authority that it trusts
//!                   stream client or worker ──TLS──▶ front ──clear text──▶ local server
//! ```
//!
//! Trusted certificates are read once in a process, from where its environment says. So each case has a process.

mod cases;
mod front;
mod thousand;

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use libtest_mimic::Trial;

use crate::{
    rig::{GENEROUS, Process, Result, until_async},
    runtime, trial,
};

/// Names the case that a process is to run.
const CASE: &str = "SHARDKEEPER_TLS_CASE";
/// Where a process reads certificates of authorities from, on all systems.
const AUTHORITIES: &str = "SSL_CERT_FILE";
/// The client of subscriptions leaves it to the SDK where there is a proxy.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

pub(crate) fn trials() -> Vec<Trial> {
    cases::ALL.iter().map(|case| trial(&format!("tls_{}", case.name), || in_a_process_of_its_own(case.name))).collect()
}

async fn in_a_process_of_its_own(case: &'static str) -> Result {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(env::current_exe()?);
    command.env(CASE, case).env(AUTHORITIES, dir.path().join("authority.pem"));
    for name in PROXIES {
        command.env_remove(name);
    }
    let mut process = Process::spawn(case, command, dir.path())?;
    // The case knows what it waits for in vain, and says so first.
    let end = until_async(&format!("{case} ends"), 5 * GENEROUS, async || process.finished()).await?;
    if end.status.success() { Ok(()) } else { Err(format!("{}: {}", end.status, end.stderr).into()) }
}

/// Runs a case if the environment names one.
pub(crate) fn run_as_client() -> Option<ExitCode> {
    let name = env::var(CASE).ok()?;
    let outcome = || -> Result {
        let case = cases::ALL.iter().find(|case| case.name == name).ok_or("no such case")?;
        let authority = env::var_os(AUTHORITIES).map(PathBuf::from).ok_or("no file for the authority")?;
        runtime()?.block_on((case.run)(authority))
    };
    let Err(error) = outcome() else { return Some(ExitCode::SUCCESS) };
    // Nothing is left to do when stderr is closed.
    drop(writeln!(std::io::stderr(), "{error}"));
    Some(ExitCode::FAILURE)
}
