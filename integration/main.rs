//! Real processes on this machine: fleets of workers against the local server, what happens to bad input, and reading
//! over TLS.
//!
//! ```text
//! cargo test --test integration                    # everything but what needs a network
//! cargo test --test integration fleet              # by name
//! SHARDS=1000 cargo test --test integration memory # what a process takes at most, with as many shards; 200 if not said
//! KEEP=1 cargo test --test integration fleet       # leaves events and logs in the temporary directory
//! INTEROP=1 cargo test --test integration interop  # installs other clients from their registries into temporary directories
//! ```

mod bad_input;
mod check;
mod fleet;
mod interop;
mod memory;
#[path = "../examples/peer_consumer/peer/mod.rs"]
mod peer;
#[path = "../benches/read/responder/mod.rs"]
mod responder;
#[allow(dead_code, unused_imports, reason = "the fleet benchmark uses the other half")]
mod rig;
mod tls;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(code) = rig::run_as_worker() {
        return code;
    }
    if let Some(code) = memory::run().or_else(tls::run_as_client) {
        return code;
    }
    let mut trials = vec![trial("fleet_dynamodb", fleet::dynamodb), trial("fleet_sqlite", fleet::sqlite)];
    trials.extend(bad_input::trials());
    trials.extend(check::trials());
    trials.extend(memory::trials());
    trials.extend(tls::trials());
    trials.extend(interop::trials_if_asked());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A scenario as a test, on a runtime of its own.
fn trial<F>(name: &str, scenario: impl Fn() -> F + Send + 'static) -> Trial
where
    F: Future<Output = rig::Result> + 'static,
{
    Trial::test(name, move || runtime()?.block_on(scenario()).map_err(|error| Failed::from(error.to_string())))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}
