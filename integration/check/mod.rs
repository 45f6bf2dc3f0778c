//! The promises of the framework, checked from outside: against what the service took and what workers wrote.

mod fencing;
mod nothing_lost;
mod order;
mod repeats;
mod self_test;
mod table_watch;

pub(crate) use order::Lineage;
pub(crate) use self_test::trials;
pub(crate) use table_watch::{TableWatch, saw_enough};

use std::collections::BTreeSet;

use crate::rig::{History, PutRecord, Result};

/// Everything known when an experiment is over.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// What the service took, sorted.
    pub(crate) put: Vec<PutRecord>,
    pub(crate) history: History,
    /// The parents of each shard that has any.
    pub(crate) parents: Vec<Lineage>,
    /// Workers that did not end or live cleanly: killed, stopped, or taken for dead.
    pub(crate) disturbed: BTreeSet<String>,
    pub(crate) table: TableWatch,
}

/// Checks all of them, and reports every violation.
///
/// # Errors
/// When there is one.
pub(crate) fn everything(evidence: &Evidence) -> Result {
    let mut violations = Vec::new();
    violations.extend(nothing_lost::violations(evidence));
    violations.extend(order::violations(evidence));
    violations.extend(repeats::violations(evidence));
    violations.extend(fencing::violations(evidence));
    violations.extend(evidence.table.violations(&evidence.history));
    if violations.is_empty() { Ok(()) } else { Err(format!("{} violations:\n{}", violations.len(), violations.join("\n")).into()) }
}
