//! The dependency order of the modules, and who may name what, read from the sources.
//!
//! The order is the code map of `docs/architecture.md`: a module uses itself and what stands above it. Test code is exempt.

mod source;

use std::{collections::BTreeMap, fs, path::Path};

use source::{Source, rust_files};

/// Files that only decide: a snapshot and the time go in, a decision comes out.
const PURE: &[&str] = &[
    "types/",
    "limits.rs",
    "error.rs",
    "lease/model.rs",
    "lease/signal.rs",
    "lease/coordinator/balance.rs",
    "lease/coordinator/liveness.rs",
    "checkpoint/progress.rs",
    "retrieval/polling/pacing.rs",
    "retrieval/kpl/counts.rs",
    "retrieval/kpl/format.rs",
    "retrieval/kpl/mod.rs",
    "retrieval/kpl/wire.rs",
    "shards/lineage.rs",
    "shards/audit.rs",
    "shards/cleanup.rs",
    "consumer/state.rs",
    "local/model/",
];

/// Names that only some places may use, and why.
const CONFINED: &[Confined] = &[
    Confined {
        name: "DynamoDbLeaseTable",
        allowed: &["lease/mod.rs", "lease/dynamodb/", "worker/builder.rs", "multilang/", "bin/"],
        reason: "everything else works on any LeaseTable",
    },
    Confined {
        name: "SqliteLeaseTable",
        allowed: &["lease/mod.rs", "lease/sqlite/", "local/", "multilang/", "bin/"],
        reason: "everything else works on any LeaseTable",
    },
    Confined {
        name: "MemoryLeaseTable",
        allowed: &["lease/mod.rs", "lease/memory.rs", "local/", "testing/", "bin/"],
        reason: "everything else works on any LeaseTable",
    },
    Confined {
        name: "AwsStreamClient",
        allowed: &["stream/aws", "worker/builder.rs", "multilang/", "bin/"],
        reason: "everything else works on any StreamClient",
    },
    Confined {
        name: "update_lease",
        allowed: &["lease/", "shards/sync.rs", "testing/"],
        reason: "the coordinator changes leases; shards::sync only moves the frozen start of rows not yet begun",
    },
    Confined {
        name: "create_lease",
        allowed: &["lease/", "shards/", "testing/"],
        reason: "leases are made by shards::sync and by the writer of a parent",
    },
    Confined { name: "delete_lease", allowed: &["lease/", "shards/", "testing/"], reason: "leases are deleted by shards::cleanup" },
    Confined { name: "put_worker", allowed: &["lease/", "testing/"], reason: "a worker writes its own row" },
    Confined { name: "heartbeat", allowed: &["lease/", "testing/"], reason: "a worker renews its own row" },
    Confined {
        name: "process_records",
        allowed: &["processor/", "consumer/", "testing/", "multilang/"],
        reason: "the driver is the only caller of user code",
    },
    Confined { name: "SystemTime", allowed: &["clock.rs", "types/timestamp.rs", "stream/aws"], reason: "wall time comes from a Clock" },
];

/// What would make two runs of one seed differ: an end of a path, where it may be named all the same, and what to use.
const IRREPRODUCIBLE: &[Confined] = &[
    Confined { name: "sync::watch", allowed: &[], reason: "its wake order differs from run to run: use Notify or a CancellationToken" },
    Confined { name: "collections::HashMap", allowed: &[], reason: "its order differs from run to run: use BTreeMap" },
    Confined { name: "collections::HashSet", allowed: &[], reason: "its order differs from run to run: use BTreeSet" },
    Confined { name: "collections::hash_map", allowed: &[], reason: "its order differs from run to run: use BTreeMap" },
    Confined { name: "thread::spawn", allowed: &[], reason: "threads run beside virtual time: use task::Spawner" },
    Confined { name: "thread::scope", allowed: &[], reason: "threads run beside virtual time: use task::Spawner" },
    Confined {
        name: "thread::Builder",
        allowed: &["worker/runtime.rs", "lease/sqlite/thread.rs"],
        reason: "threads run beside virtual time; those of coordination and of SQLite are replaced in a simulation",
    },
    Confined { name: "task::spawn_blocking", allowed: &[], reason: "its threads run beside virtual time" },
    Confined { name: "task::block_in_place", allowed: &[], reason: "it blocks a thread that others wait for" },
];

/// Where a crate of the AWS SDK may be named: path of the file and first letters of the crate.
const AWS_SDK: &[(&str, &str)] = &[
    ("stream/aws", "aws_"),
    ("lease/dynamodb", "aws_"),
    ("metrics/cloudwatch", "aws_"),
    // The one setting a first program has: `Worker::builder(..).aws(&sdk_config)`.
    ("worker/builder.rs", "aws_types"),
    // The server's first client lives in its tests; the command itself needs no SDK.
];

/// Lines of a file at which it is reported, and at which it is refused.
const LONG: usize = 600;
const TOO_LONG: usize = 800;

struct Confined {
    name: &'static str,
    allowed: &'static [&'static str],
    reason: &'static str,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Shipped code: without `x_test.rs` files, and without the programs, which use the crate from outside.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    rust_files(&src)
        .into_iter()
        .map(|path| path.to_string_lossy().replace('\\', "/"))
        .filter(|path| !path.ends_with("_test.rs") && !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .map(|path| Source::new(&path, &fs::read_to_string(src.join(&path)).expect("a readable source file")))
        .collect()
}

/// Top-level modules in the order of the code map: rows of the form ``| `name` | … |``.
fn code_map() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Code map")).expect("a section called Code map");
    section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

fn report(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_code_map_lists_every_top_level_module() {
    let mut found: Vec<String> = sources().iter().filter_map(|source| source.module.first().cloned()).collect();
    found.sort();
    found.dedup();
    let mut listed = code_map();
    listed.sort();
    assert_eq!(found, listed, "the code map of docs/architecture.md (right) differs from src (left)");
}

#[test]
fn modules_use_only_what_stands_above_them_in_the_code_map() {
    let map = code_map();
    let rank = |module: &str| map.iter().position(|name| name == module);
    let sources = sources();
    let root_names: BTreeMap<String, String> = sources
        .iter()
        .filter(|source| source.module.is_empty())
        .flat_map(Source::top_level_uses)
        .filter_map(|path| Some((path.last()?.clone(), path.first()?.clone())))
        .collect();
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.module.first().is_some_and(|first| first != "bin")) {
        for path in source.references() {
            let Some(first) = path.first() else { continue };
            let module = root_names.get(first).unwrap_or(first);
            // Macros and the crate's own constants have no rank.
            let (Some(user), Some(used)) = (rank(&source.module[0]), rank(module)) else { continue };
            if used > user {
                violations.push(format!("src/{} uses {}: `{module}` stands below `{}`", source.path, path.join("::"), source.module[0]));
            }
        }
    }
    report(&violations);
}

#[test]
fn only_the_edges_name_the_aws_sdk() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        for name in source.identifiers().into_iter().filter(|name| name.starts_with("aws_")) {
            if !AWS_SDK.iter().any(|(path, prefix)| source.path.starts_with(path) && name.starts_with(prefix)) {
                violations.push(format!("src/{} names {name}", source.path));
            }
        }
    }
    report(&violations);
}

#[test]
fn confined_names_stay_where_they_belong() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        let names = source.identifiers();
        for confined in CONFINED.iter().filter(|confined| names.iter().any(|name| name == confined.name)) {
            if !confined.allowed.iter().any(|path| source.path.starts_with(path)) {
                violations.push(format!("src/{} names {}: {}", source.path, confined.name, confined.reason));
            }
        }
    }
    report(&violations);
}

#[test]
fn deciding_code_waits_for_nothing_and_reads_no_clock() {
    let sources = sources();
    let mut violations = Vec::new();
    for pure in PURE {
        let mut files = sources.iter().filter(|source| source.path.starts_with(pure)).peekable();
        assert!(files.peek().is_some(), "src/{pure} is gone: correct the list");
        for source in files {
            for name in source.identifiers() {
                if ["async", "await", "Notify", "Mutex"].contains(&name.as_str()) {
                    violations.push(format!("src/{} says {name}", source.path));
                }
            }
            for name in source.calls() {
                if ["now", "elapsed", "spawn", "from_system"].contains(&name.as_str()) {
                    violations.push(format!("src/{} calls {name}", source.path));
                }
            }
        }
    }
    report(&violations);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("bin/")) {
        let unbiased = source.macros_without("select", "biased");
        if unbiased > 0 {
            violations
                .push(format!("src/{} has {unbiased} select! without biased: which branch is looked at first is random", source.path));
        }
        for path in source.paths() {
            // Whatever the crate's own modules are called.
            if matches!(path.first().map(String::as_str), Some("crate" | "self" | "super")) {
                continue;
            }
            let path = path.join("::");
            // A name below it counts as well: `std::collections::HashMap::new`.
            for refused in IRREPRODUCIBLE.iter().filter(|r| format!("::{path}::").contains(&format!("::{}::", r.name))) {
                if !refused.allowed.iter().any(|allowed| source.path.starts_with(allowed)) {
                    violations.push(format!("src/{} names {path}: {}", source.path, refused.reason));
                }
            }
        }
        for name in source.calls() {
            if ["spawn_blocking", "block_in_place"].contains(&name.as_str()) {
                violations.push(format!("src/{} calls {name}: it leaves virtual time", source.path));
            }
        }
    }
    report(&violations);
}

#[test]
fn files_hold_one_idea() {
    let mut violations = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "integration"].map(|name| root().join(name)) {
        if !folder.is_dir() {
            continue;
        }
        for path in rust_files(&folder) {
            let path = folder.join(path);
            let lines = fs::read_to_string(&path).expect("a readable source file").lines().count();
            let short = path.strip_prefix(root()).expect("below the root").display();
            if lines > TOO_LONG {
                violations.push(format!("{short} has {lines} lines: split it"));
            } else if lines > LONG {
                println!("{short} has {lines} lines");
            }
        }
    }
    report(&violations);
}
