//! Who may import whom. The tables stand in `docs/ARCHITECTURE.md`; this reads them, and every `crate::`, `super::` and `self::`
//! path of the sources, and compares. Code under `#[cfg(test)]` may do as it likes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The longest file, its tests not counted.
const LINES: usize = 450;
/// What only the two modules that speak HTTP to clients may name.
const SERVER_CRATES: [&str; 7] = ["axum", "h2", "http_body", "http_body_util", "hyper", "hyper_util", "tower_http"];
/// Who may name one kind of backend or one engine of the store, beside its own folder.
const ASSEMBLERS: [&str; 2] = ["config", "server"];

type Table = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_file_keeps_to_the_tables() {
    let (rules, files) = (Rules::ours(), sources());
    assert!(files.len() > 50, "the sources are not where they were: {}", files.len());
    let faults: Vec<_> = files.iter().flat_map(|(path, source)| rules.faults(path, source)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_names_every_module_once_and_no_other() {
    let rules = Rules::ours();
    let there: BTreeSet<_> =
        sources().iter().map(|(path, _)| module(path)[0].clone()).filter(|name| name != "lib").collect();
    assert_eq!(rules.may_use.keys().cloned().collect::<BTreeSet<_>>(), there);
    let named: BTreeSet<_> = rules.may_use.values().flatten().cloned().collect();
    assert_eq!(named.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_file_opens_with_its_story() {
    let silent: Vec<_> = sources().into_iter().filter(|(_, source)| !source.starts_with("//!")).collect();
    assert!(silent.is_empty(), "{:?}", silent.iter().map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn no_file_is_long() {
    let long = sources().into_iter().filter_map(|(path, source)| {
        let lines = source.split("\n#[cfg(test)]").next().unwrap_or_default().lines().count();
        (lines > LINES).then(|| format!("{path}: {lines}"))
    });
    assert_eq!(long.collect::<Vec<_>>(), Vec::<String>::new());
}

/// The fuzzer compiles `wire` alone, in the long form of the tests only: that it can is seen here.
#[test]
fn the_fuzzer_has_every_crate_that_wire_names() {
    let manifest = |path: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(path)).expect("a manifest");
        let section = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        let entries = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
        entries.map(|(name, _)| name.replace('-', "_")).collect()
    };
    let (ours, its) = (manifest("Cargo.toml"), manifest("tests/fuzz/Cargo.toml"));
    let wire = sources().into_iter().filter(|(path, _)| path.starts_with("wire/"));
    let tokens = wire.flat_map(|(_, source)| without_tests(tokens(&source))).collect::<Vec<_>>();
    let named = tokens.windows(2).filter(|pair| pair[1] == "::" && ours.contains(&pair[0]));
    let named: BTreeSet<_> = named.map(|pair| pair[0].clone()).collect();
    assert!(named.contains("memchr"), "{named:?}");
    assert_eq!(named.difference(&its).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The test of the test.
#[test]
fn a_forbidden_import_is_found_wherever_it_hides() {
    let rules = Rules::read(
        "| module | may use |\n| --- | --- |\n| api | gateway |\n| gateway | store |\n| store | |\n| config | store |\n\n\
         | folder | shared |\n| --- | --- |\n| store | batch |\n",
        &["store/mod.rs", "store/batch.rs", "store/memory.rs", "store/disk.rs", "store/disk/index.rs"],
    );
    let faults = |path: &str, source: &str| rules.faults(path, source).len();
    assert_eq!(faults("api/mod.rs", "use crate::gateway::Gateway;"), 0);
    for source in [
        "use crate::store::Store;",
        "use crate::{gateway::Gateway, store::{self, Batch}};",
        "pub(super) use crate::store;",
        "fn f(s: &crate::store::Store) {}",
        "fn f() { let _ = r#\"\"\"#; crate::store::open() }",
        "fn f<'a>(c: char) { if c == '\"' { crate::store::open() } }",
        "#[serde(with = \"crate::store\")] struct S;",
        "use super::store::Store;",
        "use axum::Router; use reqwest::Client;",
    ] {
        assert_ne!(faults("api/mod.rs", source), 0, "{source}");
    }
    for innocent in [
        "// crate::store::Store",
        "/* crate::store /* nested */ crate::store */",
        "//! [`Store`](crate::store::Store)",
        "const S: &str = \"see crate::store\";",
        "#[cfg(test)]\nmod tests { use crate::store::Store; }",
        "#[cfg(test)]\nuse crate::store::Store;",
        "use crate::gateway::store;",
    ] {
        assert_eq!(faults("api/mod.rs", innocent), 0, "{innocent}");
    }
    assert_eq!(faults("gateway.rs", "fn f() { hyper::body(); }"), 1);
    assert_eq!(faults("client.rs", "use reqwest::Client;"), 0);
    assert_eq!(
        faults("store/disk.rs", "use super::batch::Batch; use super::{Store, batch}; use self::index::Index;"),
        0
    );
    assert_eq!(faults("store/disk/index.rs", "use super::Log; use crate::store::disk::Log;"), 0);
    assert_eq!(faults("store/disk.rs", "use super::memory::Memory;"), 1);
    assert_eq!(faults("store/disk/index.rs", "use super::super::memory::Memory;"), 1);
    assert_eq!(faults("store/disk/index.rs", "use crate::store::memory::Memory;"), 1);
    assert_eq!(
        faults("store/mod.rs", "fn f() { memory::open() } use self::memory::Memory; use crate::store::disk;"),
        0
    );
    assert_eq!(faults("gateway.rs", "use crate::store::{Store, memory::Memory};"), 1, "only the traits");
    assert_eq!(faults("config.rs", "use crate::store::memory::Config;"), 0);
}

struct Rules {
    may_use: Table,
    shared: Table,
    modules: BTreeSet<Vec<String>>,
}

impl Rules {
    fn ours() -> Self {
        let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the tables");
        let files = sources();
        Self::read(&document, &files.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>())
    }

    fn read(document: &str, files: &[&str]) -> Self {
        Self {
            may_use: table(document, "| module | may use |"),
            shared: table(document, "| folder | shared |"),
            modules: files.iter().map(|path| module(path)).collect(),
        }
    }

    /// What is wrong with a file; its path is that under `src/`.
    fn faults(&self, path: &str, source: &str) -> Vec<String> {
        let here = module(path);
        let mut faults = BTreeSet::new();
        let tokens = without_tests(tokens(source));
        for used in paths(&tokens, &here) {
            let Some(top) = used.first() else { continue };
            if *top != here[0] && self.may_use.contains_key(top) && !self.allows(&here[0], top) {
                faults.insert(format!("{path}: `{}` may not use `{}`", here[0], used.join("::")));
            }
            faults.extend(self.too_close(path, &here, &used));
        }
        for (at, name) in tokens.iter().enumerate() {
            let starts = at == 0 || tokens[at - 1] != "::";
            let is_crate = starts && tokens.get(at + 1).is_some_and(|next| next == "::");
            let forbidden = match name.as_str() {
                name if SERVER_CRATES.contains(&name) => !["api", "server"].contains(&here[0].as_str()),
                "reqwest" => here[0] != "client",
                "redis" => path != "store/redis.rs",
                _ => false,
            };
            if is_crate && forbidden {
                faults.insert(format!("{path}: `{}` may not name `{name}`", here[0]));
            }
        }
        faults.into_iter().collect()
    }

    /// A module that is not in the table may do nothing.
    fn allows(&self, here: &str, top: &str) -> bool {
        here == "lib" || self.may_use.get(here).is_some_and(|may| may.contains(top))
    }

    /// A sibling that should not be known, or one kind where only the trait should be.
    fn too_close(&self, path: &str, here: &[String], used: &[String]) -> Option<String> {
        let [folder, file, ..] = used else { return None };
        let shared = self.shared.get(folder)?;
        if shared.contains(file) || !self.modules.contains(&used[..2]) {
            return None;
        }
        let fault = match here {
            // The folder's own `mod.rs`, which is what all of them are made of.
            [own] if own == folder => false,
            [own, sibling, ..] if own == folder => sibling != file,
            // Protocols are chosen by who speaks them; kinds and engines by the configuration alone.
            _ => ["backend", "store"].contains(&folder.as_str()) && !ASSEMBLERS.contains(&here[0].as_str()),
        };
        fault.then(|| format!("{path}: `{}` is not to be known here", used.join("::")))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows below a header: the first column, and the names in the second.
fn table(document: &str, header: &str) -> Table {
    let rows = document.lines().skip_while(|line| *line != header).skip(2).take_while(|line| line.starts_with('|'));
    let table = rows.map(|row| {
        let mut columns = row.trim_matches('|').split('|').map(str::trim);
        let name = columns.next().unwrap_or_default().to_owned();
        let names = columns.next().unwrap_or_default().split(',').map(|name| name.trim().to_owned());
        (name, names.filter(|name| !name.is_empty()).collect())
    });
    table.collect()
}

/// The path under `src/` and the text of each file.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") => found.push(path),
                false => {}
            }
        }
    }
    let (src, mut found) = (root().join("src"), Vec::new());
    walk(&src, &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("a source"))).collect()
}

/// `store/memory.rs` is `store::memory`, `store/mod.rs` is `store`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Names, `::`, and single characters. Comments are left out, and strings but for those that are paths of this crate.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(hashes) = raw(rest) {
            let (open, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if first == '"' {
            let end = string(rest);
            let text = rest[1..end].trim_end_matches('"');
            if text.starts_with("crate::") {
                tokens.extend(self::tokens(text));
                tokens.push(";".to_owned());
            }
            end
        } else if first == '\'' {
            character(rest)
        } else if is_name(first) {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// How many `#` a raw string has, if one begins here.
fn raw(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?;
    let string = hashes.trim_start_matches('#');
    string.starts_with('"').then(|| hashes.len() - string.len())
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// A character, or only the tick of a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text[1..].char_indices();
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let behind = 1 + at + escaped.len_utf8();
            text[behind..].find('\'').map_or(text.len(), |end| behind + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 2,
        _ => 1,
    }
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().take(mark.len()).eq(mark.iter()) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        while at < tokens.len() {
            depth += i32::from(tokens[at] == "{") - i32::from(tokens[at] == "}");
            let over = depth == 0 && (tokens[at] == "}" || tokens[at] == ";");
            at += 1;
            if over {
                break;
            }
        }
    }
    kept
}

/// The modules of this crate that are named, each as its path from the root.
fn paths(tokens: &[String], here: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins = at == 0 || tokens[at - 1] != "::";
        let base = match token.as_str() {
            "crate" | "lastword" => Vec::new(),
            "super" => here[..here.len() - 1].to_vec(),
            "self" => here.to_vec(),
            _ => continue,
        };
        if begins && tokens.get(at + 1).is_some_and(|next| next == "::") {
            tree(tokens, at + 2, base, &mut found);
        }
    }
    found
}

/// Reads a path, or a tree of them, behind `base`; gives back where it ends.
fn tree(tokens: &[String], mut at: usize, mut base: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, base.clone(), found).max(at + 1);
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "super" => _ = base.pop(),
            "self" => {}
            name => base.push(name.to_owned()),
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    found.push(base);
    at
}
