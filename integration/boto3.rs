//! boto3 from PyPI, unchanged, against the local server: needs Python and the package index, so it runs when asked to.

use std::process::Command;

use libtest_mimic::Trial;

use crate::{
    rig::{Process, Result, Server},
    trial,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/clients/boto3_check.py");

pub(crate) fn trial_if_asked() -> Trial {
    let asked = std::env::var_os("INTEROP").is_some_and(|value| value == "1");
    trial("boto3", boto3).with_kind(if asked { "" } else { "skipped: set INTEROP=1 to run" }).with_ignored_flag(!asked)
}

async fn boto3() -> Result {
    let dir = tempfile::tempdir()?;
    let environment = dir.path().join("venv");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    run("venv", make, &dir).await?;
    let python = environment.join("bin").join("python");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "boto3"]);
    run("pip", install, &dir).await?;

    let server = Server::start(dir.path(), &[]).await?;
    let mut check = Command::new(&python);
    check.arg(SCRIPT).args(["--kinesis", &server.kinesis_endpoint, "--dynamodb", &server.dynamodb_endpoint]);
    run("boto3_check", check, &dir).await
}

async fn run(name: &str, command: Command, dir: &tempfile::TempDir) -> Result {
    let mut process = Process::spawn(name, command, dir.path())?;
    let end = process.end().await?;
    if end.status.success() {
        return Ok(());
    }
    Err(format!("{name} ended with {}: {}{}", end.status, process.stdout()?, end.stderr).into())
}
