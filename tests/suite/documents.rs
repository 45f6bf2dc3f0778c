//! What the pages under `docs/` say, held against the code.

use std::{fs, path::Path};

use serde_json::Value;
use shardkeeper::worker::Config;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Settings with their defaults in words, such as `("lease.lease_duration", "10 s")`.
fn settings(prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
    if let Value::Object(fields) = value
        && (prefix.is_empty() || !fields.is_empty())
    {
        if let (Some(secs), Some(nanos)) = (fields.get("secs").and_then(Value::as_u64), fields.get("nanos").and_then(Value::as_u64)) {
            let millis = secs * 1000 + nanos / 1_000_000;
            let text = match millis {
                _ if !millis.is_multiple_of(1000) => format!("{millis} ms"),
                _ if secs >= 60 && secs.is_multiple_of(60) => format!("{} min", secs / 60),
                _ => format!("{secs} s"),
            };
            found.push((prefix.to_owned(), text));
            return;
        }
        for (name, field) in fields {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            settings(&path, field, found);
        }
        return;
    }
    let text = match value {
        // A map without entries.
        Value::Null | Value::Object(_) => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Number(n) => match n.as_u64() {
            Some(n) if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
            Some(n) if n >= 1000 => format!("{},{:03}", n / 1000, n % 1000),
            _ => n.to_string(),
        },
        other => other.to_string(),
    };
    found.push((prefix.to_owned(), text));
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let mut expected = Vec::new();
    settings("", &serde_json::to_value(Config::default()).expect("settings are plain data"), &mut expected);
    expected.sort();
    let text = page("docs/configuration.md");
    let mut documented: Vec<(String, String)> = text
        .lines()
        .skip_while(|line| !line.starts_with("| Setting |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().unwrap_or_default().trim_matches('`').to_owned();
            (name, cells.next().unwrap_or_default().to_owned())
        })
        .collect();
    documented.sort();
    assert_eq!(documented, expected, "docs/configuration.md (left) differs from the defaults (right)");
}

#[test]
fn the_readme_lists_the_features_of_the_manifest() {
    let manifest = page("Cargo.toml");
    let mut features: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = [")?.0))
        .filter(|name| *name != "default")
        .collect();
    features.sort_unstable();
    for path in ["README.md", "src/lib.rs"] {
        let text = page(path);
        let mut listed: Vec<&str> = text
            .lines()
            .map(|line| line.trim_start_matches("//! "))
            .skip_while(|line| !line.starts_with("| Feature |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.split('`').nth(1))
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, features, "features in {path} (left) and Cargo.toml (right)");
    }
}

/// `name = "1"` and `name = { version = "1", features = ["a"] }`: names, versions (none for a path) and features.
fn dependencies(toml: &str) -> Vec<(String, Option<String>, Vec<String>)> {
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let after = |line: &str, key: &str| line.split_once(key).map(|(_, rest)| rest.to_owned());
    let lines = toml.lines().filter_map(|line| Some((line.split_once(" = ")?, line)));
    lines
        .map(|((name, value), line)| {
            let version = match value.strip_prefix('"') {
                Some(version) => version.split('"').next().map(str::to_owned),
                None => after(line, "version = ").and_then(|rest| quoted(&rest).into_iter().next()),
            };
            let features = after(line, "features = [").map(|rest| quoted(rest.split(']').next().unwrap_or_default())).unwrap_or_default();
            (name.trim().to_owned(), version, features)
        })
        .collect()
}

fn section<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("nothing begins with {from:?}"));
    rest.split(to).next().unwrap_or_default()
}

#[test]
fn the_readme_names_the_crates_that_its_program_needs() {
    let readme = page("README.md");
    let program = section(&readme, "```rust,no_run\n", "```");
    let listed = dependencies(section(&readme, "[dependencies]\n", "```"));
    let manifest = page("Cargo.toml");
    let ours = dependencies(section(&manifest, "[dependencies]\n", "[[bin]]"));
    for (name, version, features) in &listed {
        let path = name.replace('-', "_");
        assert!(program.contains(&format!("{path}::")), "the program does not use {name}");
        if name == "shardkeeper" {
            continue;
        }
        let same: Vec<_> = ours.iter().filter(|(n, ..)| n == name).collect();
        assert!(!same.is_empty(), "{name} is none of the crates that the program was compiled with");
        for (_, our_version, _) in &same {
            let (theirs, ours) = (version.as_deref().expect("a version"), our_version.as_deref().expect("a version"));
            assert!(ours == theirs || ours.starts_with(&format!("{theirs}.")), "{name} {theirs} in README.md, {ours} in Cargo.toml");
        }
        for feature in features {
            assert!(same.iter().any(|(_, _, f)| f.contains(feature)), "the program was not compiled with {name}/{feature}");
        }
    }
    // What it uses is listed: attributes and paths into other crates.
    for (used, name, feature) in [
        ("serde::Deserialize", "serde", Some("derive")),
        ("#[tokio::main]", "tokio", Some("macros")),
        ("#[tokio::main]", "tokio", Some("rt-multi-thread")),
        ("aws_config::load_defaults", "aws-config", None),
        ("tracing_subscriber::fmt", "tracing-subscriber", None),
    ] {
        assert!(program.contains(used), "the program does without {used}: correct this list");
        let found = listed.iter().any(|(n, _, features)| n == name && feature.is_none_or(|f| features.iter().any(|have| have == f)));
        assert!(found, "{name} with {feature:?} is not listed, and the program says {used}");
    }
    assert!(program.lines().count() <= 40, "a program that is read at a glance");
}

#[test]
fn the_example_for_aws_is_the_program_of_the_readme() {
    let readme = page("README.md");
    let tail = |text: &str| {
        let main = text.split("async fn main()").nth(1).unwrap_or_default().to_owned();
        // But for the stream and the application's name.
        let lines = main.lines().filter(|line| !line.contains("Worker::builder") && !line.contains("env::args")).map(str::to_owned);
        lines.take_while(|line| line != "}").collect::<Vec<_>>()
    };
    assert_eq!(tail(section(&readme, "```rust,no_run\n", "```")), tail(&page("examples/aws_consumer.rs")));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of pages");
        pages.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    let mut broken = Vec::new();
    for path in pages {
        let text = fs::read_to_string(&path).expect("a readable page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !file.is_empty() && !path.with_file_name(file).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
