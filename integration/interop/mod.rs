//! Other people's clients, unchanged, against the local server. Each is installed from its registry into a temporary
//! directory, so they run when asked to: `INTEROP=1 cargo test --test integration interop`.

mod kcl;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use libtest_mimic::Trial;

use crate::{
    rig::{Process, Result, Server, until_async},
    trial,
};

/// What a registry or a compiler may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// As they are on PyPI; those of npm, Go, Maven and crates.io stand in the files beside the clients.
const BOTO3: &str = "boto3==1.44.5";
const AWS_CLI: &str = "awscli==1.46.3";
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/clients");

pub(crate) fn trials_if_asked() -> Vec<Trial> {
    let asked = std::env::var_os("INTEROP").is_some_and(|value| value == "1");
    let trials: [(Trial, &[&str]); 7] = [
        (trial("interop_boto3", boto3), &["python3"]),
        (trial("interop_aws_cli", aws_cli), &["python3"]),
        (trial("interop_node", node), &["node", "npm"]),
        (trial("interop_go", go), &["go"]),
        (trial("interop_rust", rust), &["cargo"]),
        (trial("interop_kcl_3", kcl::version_3), &["java", "mvn"]),
        (trial("interop_kcl_2", kcl::version_2), &["java", "mvn"]),
    ];
    let label = |(trial, tools): (Trial, &[&str])| {
        let missing = || tools.iter().find(|tool| !is_installed(tool));
        let why =
            if asked { missing().map(|tool| format!("skipped: no {tool}")) } else { Some("skipped: set INTEROP=1 to run".to_owned()) };
        trial.with_ignored_flag(why.is_some()).with_kind(why.unwrap_or_default())
    };
    trials.into_iter().map(label).collect()
}

/// Whether a program can be started, by asking for its version in the three ways that are usual.
fn is_installed(tool: &str) -> bool {
    ["--version", "version", "-version"].iter().any(|question| {
        let command = Command::new(tool).arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    })
}

fn client(path: &str) -> PathBuf {
    Path::new(CLIENTS).join(path)
}

async fn boto3() -> Result {
    let dir = tempfile::tempdir()?;
    let python = environment(&dir, BOTO3).await?.join("python");
    let mut check = Command::new(python);
    check.arg(client("boto3_check.py"));
    against_server("boto3_check", check, &dir).await
}

async fn aws_cli() -> Result {
    let dir = tempfile::tempdir()?;
    let programs = environment(&dir, AWS_CLI).await?;
    let mut check = Command::new(programs.join("python"));
    check.arg(client("awscli/check.py")).arg("--aws").arg(programs.join("aws"));
    against_server("aws_cli_check", check, &dir).await
}

async fn node() -> Result {
    let dir = tempfile::tempdir()?;
    for file in ["package.json", "client.mjs"] {
        std::fs::copy(client("node").join(file), dir.path().join(file))?;
    }
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(dir.path());
    run("npm", install, &dir).await?;
    let mut check = Command::new("node");
    check.arg("client.mjs").current_dir(dir.path());
    against_server("node_check", check, &dir).await
}

async fn go() -> Result {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("check");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(".").current_dir(client("go"));
    run("go", build, &dir).await?;
    against_server("go_check", Command::new(program), &dir).await
}

async fn rust() -> Result {
    let dir = tempfile::tempdir()?;
    // Kept, since it takes minutes to build the SDK.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-rust");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--target-dir"]).arg(&target).current_dir(client("rust"));
    run("cargo", build, &dir).await?;
    against_server("rust_check", Command::new(target.join("debug/shardkeeper-interop-rust")), &dir).await
}

/// A Python environment with a package of PyPI; returns the directory of its programs.
async fn environment(dir: &tempfile::TempDir, package: &str) -> Result<PathBuf> {
    let environment = dir.path().join("venv");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    run("venv", make, dir).await?;
    let programs = environment.join("bin");
    let mut install = Command::new(programs.join("python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]);
    run("pip", install, dir).await?;
    Ok(programs)
}

async fn against_server(name: &str, mut check: Command, dir: &tempfile::TempDir) -> Result {
    let server = Server::start(dir.path(), &[]).await?;
    check.args(["--kinesis", &server.kinesis_endpoint, "--dynamodb", &server.dynamodb_endpoint]);
    run(name, check, dir).await
}

async fn run(name: &str, command: Command, dir: &tempfile::TempDir) -> Result {
    let mut process = Process::spawn(name, command, dir.path())?;
    let end = until_async(&format!("{name} ends"), PATIENCE, async || process.finished()).await?;
    if end.status.success() {
        return Ok(());
    }
    Err(format!("{name} ended with {}: {}{}", end.status, process.stdout()?, end.stderr).into())
}
