//! The arrows of `docs/ARCHITECTURE.md`, held: which module may import which.
//!
//! The sources are read as text, without their comments and strings. So an arrow is found wherever
//! it hides: in a `use` with braces, in a path inside a function, in a macro, behind `super`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and what it may import. A module that isn't here may not be at all.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("record", &["model"]),
    ("protocol", &["record", "model"]),
    ("client", &["protocol", "record", "model"]),
    ("config", &["model"]),
    ("engine", &["model"]),
    ("storage", &["record", "model"]),
    ("raft", &["engine", "storage", "protocol", "model"]),
    ("api", &["actors", "engine", "protocol", "record", "model"]),
    (
        "actors",
        &[
            "api", "engine", "storage", "raft", "protocol", "record", "model", "config",
        ],
    ),
    (
        "node",
        &[
            "actors", "api", "engine", "storage", "raft", "protocol", "record", "model", "config",
        ],
    ),
    (
        "cli",
        &[
            "client", "config", "node", "storage", "protocol", "record", "model",
        ],
    ),
    ("main", &["cli"]),
];

/// Arrows that only some files of a module may have.
const ARROWS_OF_FILES: &[(&str, &str, &[&str])] = &[("cli", "storage", &["src/cli/log.rs"])];

/// What the pure core may not know: clocks, randomness, I/O, tasks.
const IMPURE: &[&str] = &[
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "random()",
    "new_v4",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "tokio::",
    "actix",
    "async fn",
    "async move",
    ".await",
];

#[test]
fn every_import_follows_an_arrow() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let module = top_module(&file);
        if module == "lib" {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            wrong.push(format!("{}: no arrows for module {module}", file.display()));
            continue;
        };
        for imported in imports(&code(&read(&file)), depth(&file)) {
            let is_allowed = imported == module
                || may.contains(&imported.as_str())
                || !allowed.contains_key(imported.as_str());
            if !is_allowed || is_kept_to_other_files(&file, &module, &imported) {
                wrong.push(format!("{}: {module} → {imported}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden arrows:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_library_has_its_arrows() {
    let library = code(&read(Path::new("src/lib.rs")));
    let declared: BTreeSet<&str> = library
        .split("pub mod ")
        .skip(1)
        .filter_map(|rest| rest.split(';').next())
        .collect();
    let listed: BTreeSet<&str> = ARROWS
        .iter()
        .map(|(module, _)| *module)
        .filter(|module| *module != "main")
        .collect();
    assert_eq!(declared, listed);
}

#[test]
fn the_core_knows_no_clock_no_chance_and_no_io() {
    let mut wrong = Vec::new();
    for file in sources() {
        if top_module(&file) != "engine" {
            continue;
        }
        let code = code(&read(&file));
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!("{}: {word}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|file| !read(file).starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "without //!: {silent:?}");
}

#[test]
fn an_arrow_is_found_wherever_it_hides() {
    for (text, depth, expected) in [
        ("use crate::model::Offset;", 1, &["model"][..]),
        (
            "use crate::{model::{Offset, Timestamp}, record::Batch};",
            1,
            &["model", "record"],
        ),
        (
            "pub(crate) use crate::{\n    self as house, raft, engine as core\n};",
            1,
            &["engine", "raft"],
        ),
        ("fn f() -> crate::storage::Log { todo() }", 2, &["storage"]),
        (
            "macro_rules! m { () => { $crate::node::run() } }",
            1,
            &["node"],
        ),
        ("use super::node;", 1, &["node"]),
        ("use super::super::{node, model};", 2, &["model", "node"]),
        ("use super::records;", 2, &[]),
        (
            "// use crate::node;\n/* crate::node */ /// crate::node\nlet s = \"crate::node\";",
            1,
            &[],
        ),
        (
            "let s = r#\"a\" crate::node\"#; use crate::api;",
            1,
            &["api"],
        ),
        ("use klamm::client::Client;", 1, &["client"]),
        ("use crate::protocol::api::Api;", 1, &["protocol"]),
    ] {
        let found: Vec<String> = imports(&code(text), depth).into_iter().collect();
        assert_eq!(found, expected, "{text}");
    }
}

fn is_kept_to_other_files(file: &Path, module: &str, imported: &str) -> bool {
    ARROWS_OF_FILES.iter().any(|(from, to, files)| {
        *from == module && *to == imported && !files.iter().any(|allowed| file.ends_with(allowed))
    })
}

/// The modules of the crate that a file imports. `depth` is how many `super` lead to the crate.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "klamm::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                found.extend(first_names(&code[at + root.len()..]));
            }
        }
    }
    let climb = "super::".repeat(depth);
    for (at, _) in code.match_indices(&climb) {
        if !code[..at].ends_with("super::") {
            found.extend(first_names(&code[at + climb.len()..]));
        }
    }
    found.remove("self");
    found
}

/// The first name of each path at the start of `rest`: one, or those of the braces.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return Vec::from_iter(name(rest));
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// A source without its comments and without what stands in its strings.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if raw_string_hashes(rest).is_some() => raw_string_length(rest),
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with("'\\\"'") => 4,
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

/// The bytes of the string literal that `text` starts with, quotes included.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// How many `#` open the raw string that `text` starts with, if it does.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    text[1 + hashes..].starts_with('"').then_some(hashes)
}

fn raw_string_length(text: &str) -> usize {
    let hashes = raw_string_hashes(text).unwrap_or(0);
    let opening = hashes + 2;
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = text[opening..].find(&closing);
    inside.map_or(text.len(), |length| opening + length + closing.len())
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "too few sources found: {files:?}");
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

/// `src/storage/log/mod.rs` and `src/storage.rs` both belong to `storage`.
fn top_module(file: &Path) -> String {
    let inside = file.strip_prefix("src").unwrap();
    let first = inside.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// How deep the file's module lies below the crate.
fn depth(file: &Path) -> usize {
    let parts = file.strip_prefix("src").unwrap().iter().count();
    match file.file_name().is_some_and(|name| name == "mod.rs") {
        true => parts - 1,
        false => parts,
    }
}
