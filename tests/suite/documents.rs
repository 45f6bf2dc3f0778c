//! What the pages under `docs/` say, held against the code.

use std::{fs, path::Path};

use serde_json::Value;
use shardkeeper::worker::Config;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Settings with their defaults in words, such as `("lease.lease_duration", "10 s")`.
fn settings(prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
    if let Value::Object(fields) = value {
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
        Value::Null => "none".to_owned(),
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
