//! Source files as token trees: what shipped code names, without comments, strings and test code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A file under `src/`.
pub(super) struct Source {
    /// Below `src/`, with forward slashes, such as `lease/table.rs`.
    pub(super) path: String,
    /// The module it holds, such as `["lease", "table"]`; empty for `lib.rs`.
    pub(super) module: Vec<String>,
    code: Vec<TokenTree>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("src/{path} is not Rust: {error}"));
        let stem = path.trim_end_matches(".rs").trim_end_matches("mod").trim_end_matches('/');
        let module = stem.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
        Self { path: path.to_owned(), module, code: without_tests(tokens) }
    }

    /// Every path that begins with `crate` or `super`, from the root of the crate: `["lease", "LeaseTable"]`.
    pub(super) fn references(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        collect(&self.code, &self.module, &mut found);
        found
    }

    /// Every identifier.
    pub(super) fn identifiers(&self) -> Vec<String> {
        let mut found = Vec::new();
        each_level(&self.code, &mut |level| {
            found.extend(level.iter().filter_map(|token| match token {
                TokenTree::Ident(ident) => Some(ident.to_string()),
                TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
            }));
        });
        found
    }

    /// Names that stand before round brackets: calls of functions and methods, and their definitions.
    pub(super) fn calls(&self) -> Vec<String> {
        let mut found = Vec::new();
        each_level(&self.code, &mut |level| {
            found.extend(level.windows(2).filter_map(|pair| match pair {
                [TokenTree::Ident(name), TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => Some(name.to_string()),
                _ => None,
            }));
        });
        found
    }

    /// Every path of two segments and more, in `use` items and elsewhere, as written: `["tokio", "sync", "mpsc"]`.
    pub(super) fn paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        each_level(&self.code, &mut |level| {
            for (i, token) in level.iter().enumerate() {
                let inside = i > 0 && is_punct(level.get(i - 1), ':');
                if !inside && matches!(token, TokenTree::Ident(_)) && is_punct(level.get(i + 1), ':') && is_punct(level.get(i + 2), ':') {
                    expand(&level[i..], &[], &mut found);
                }
            }
        });
        found
    }

    /// How many calls of the macro `name!` do not begin with `first;`.
    pub(super) fn macros_without(&self, name: &str, first: &str) -> usize {
        let mut found = 0;
        each_level(&self.code, &mut |level| {
            for call in level.windows(3) {
                let [called, mark, TokenTree::Group(body)] = call else { continue };
                if is_ident(called, name) && is_punct(Some(mark), '!') {
                    let body: Vec<TokenTree> = body.stream().into_iter().collect();
                    let begins = body.first().is_some_and(|token| is_ident(token, first)) && is_punct(body.get(1), ';');
                    found += usize::from(!begins);
                }
            }
        });
        found
    }

    /// Paths that `use` items at the top of the file name, as written.
    pub(super) fn top_level_uses(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for (i, token) in self.code.iter().enumerate() {
            if is_ident(token, "use") {
                expand(&self.code[i + 1..], &[], &mut found);
            }
        }
        found
    }
}

/// All Rust files below `directory`, sorted, as paths relative to it.
pub(super) fn rust_files(directory: &Path) -> Vec<PathBuf> {
    fn visit(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                visit(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root).expect("below the root").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    visit(directory, directory, &mut found);
    found.sort();
    found
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if *ident == name)
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// The tokens without items marked `#[cfg(test)]`, at any depth.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_test_attribute(&tokens[i..]) {
            i += 2;
            // The item ends at its semicolon, or at its body; the braces of a `use` are not a body.
            let mut in_use = false;
            while i < tokens.len() {
                let token = &tokens[i];
                i += 1;
                in_use |= is_ident(token, "use");
                let body = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace) && !in_use;
                if body || is_punct(Some(token), ';') {
                    break;
                }
            }
            continue;
        }
        kept.push(match &tokens[i] {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream()).into_iter().collect();
                TokenTree::Group(Group::new(group.delimiter(), inner))
            }
            other => other.clone(),
        });
        i += 1;
    }
    kept
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [mark, TokenTree::Group(attribute), ..] = tokens else { return false };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    is_punct(Some(mark), '#') && (text == "cfg(test)" || text.starts_with("cfg(all(test"))
}

fn each_level(tokens: &[TokenTree], look: &mut impl FnMut(&[TokenTree])) {
    look(tokens);
    for token in tokens {
        if let TokenTree::Group(group) = token {
            each_level(&group.stream().into_iter().collect::<Vec<_>>(), look);
        }
    }
}

fn collect(tokens: &[TokenTree], module: &[String], found: &mut Vec<Vec<String>>) {
    each_level(tokens, &mut |level| {
        for (i, token) in level.iter().enumerate() {
            let after_path = i > 0 && is_punct(level.get(i - 1), ':');
            if after_path || !is_punct(level.get(i + 1), ':') {
                continue;
            }
            if is_ident(token, "crate") {
                expand(skip_colons(&level[i + 1..]), &[], found);
            } else if is_ident(token, "super") {
                let mut base = module.to_vec();
                let mut rest = &level[i..];
                while rest.first().is_some_and(|token| is_ident(token, "super")) && is_punct(rest.get(1), ':') {
                    base.pop();
                    rest = skip_colons(&rest[1..]);
                }
                expand(rest, &base, found);
            }
        }
    });
}

fn skip_colons(tokens: &[TokenTree]) -> &[TokenTree] {
    if is_punct(tokens.first(), ':') && is_punct(tokens.get(1), ':') { &tokens[2..] } else { tokens }
}

/// Follows one path from its next segment, through the braces of a `use`.
fn expand(tokens: &[TokenTree], base: &[String], found: &mut Vec<Vec<String>>) {
    match tokens.first() {
        Some(TokenTree::Ident(name)) => {
            let mut path = base.to_vec();
            path.push(name.to_string());
            if is_punct(tokens.get(1), ':') && is_punct(tokens.get(2), ':') {
                expand(&tokens[3..], &path, found);
            } else {
                found.push(path);
            }
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in inner.split(|token| is_punct(Some(token), ',')) {
                expand(branch, base, found);
            }
        }
        // A glob, or generic arguments: the path so far is what is named.
        _ if !base.is_empty() => found.push(base.to_vec()),
        _ => {}
    }
}

#[test]
fn paths_and_macros_are_found_at_any_depth() {
    let source = Source::new(
        "lease/table.rs",
        r#"
        use tokio::{sync::{mpsc, watch}, select};
        async fn f() {
            loop { tokio::select! { biased; () = a() => {} } }
            select! { () = b() => { tokio::select! { () = c() => {} } } }
            let started = std::thread::spawn(|| std::collections::HashMap::<u8, u8>::new());
        }
        "#,
    );
    assert_eq!(source.macros_without("select", "biased"), 2);
    let paths: Vec<String> = source.paths().iter().map(|path| path.join("::")).collect();
    for path in ["tokio::sync::watch", "tokio::select", "std::thread::spawn", "std::collections::HashMap"] {
        assert!(paths.iter().any(|found| found == path), "nothing of {path} in {paths:?}");
    }
}

#[test]
fn references_are_found_through_braces_macros_and_super() {
    let source = Source::new(
        "lease/coordinator/mod.rs",
        r#"
        //! crate::not_in_comments
        use crate::{types::{ShardId, WorkerId}, error::Result};
        #[cfg(test)]
        use crate::hidden::{A, B};
        fn f() { log!("crate::not_in_strings", crate::clock::now()); super::super::stream::Client::<u8>::new(); super::table() }
        #[cfg(test)]
        mod tests { use crate::hidden; }
        fn g() -> crate::Error {}
        "#,
    );
    let found: Vec<String> = source.references().iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        ["types::ShardId", "types::WorkerId", "error::Result", "Error", "stream::Client", "lease::table", "clock::now"],
        "test code, comments and strings are left out; what stands in inner brackets comes last"
    );
}
