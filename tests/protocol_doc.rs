//! `docs/PROTOCOL.md` and `docs/KAFKA.md` say what the code does: their tables of fields, error codes,
//! APIs and topic configs are made from the code itself, and these tests fail when they differ.
//!
//! `KLAMM_UPDATE_DOCS=1 cargo test --test protocol_doc` writes them anew.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use klamm::engine::metadata::TOPIC_CONFIG_KEYS;
use klamm::model::ErrorCode;
use klamm::protocol::ApiKey;

/// A struct as its source declares it.
#[derive(Debug, Clone)]
struct Struct {
    name: String,
    doc: String,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    rust_type: String,
    doc: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The structs of one API's messages, in order, and the first sentence of its module.
fn parse(source: &str) -> (String, Vec<Struct>) {
    let (module, mut structs) = parse_structs(source);
    let fields = structs.iter().flat_map(|item| &item.fields);
    let types: Vec<String> = fields.map(|field| field.rust_type.clone()).collect();
    let is_part = |name: &str| {
        types
            .iter()
            .any(|ty| ty.split(['<', '>']).any(|word| word == name))
    };
    structs.retain(|item| matches!(&*item.name, "Request" | "Response") || is_part(&item.name));
    (module, structs)
}

/// The structs of a file, in order, and the first sentence of its module.
fn parse_structs(source: &str) -> (String, Vec<Struct>) {
    let mut module = String::new();
    let mut structs: Vec<Struct> = Vec::new();
    let mut doc = String::new();
    let mut inside = false;
    let mut skipped = false;
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("//!") {
            module += text;
        } else if let Some(text) = line.strip_prefix("///") {
            doc += text;
        } else if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.trim_end_matches([' ', '{', '}', ';']).to_string();
            inside = rest.ends_with('{');
            structs.push(Struct {
                name,
                doc: std::mem::take(&mut doc).trim().to_string(),
                fields: Vec::new(),
            });
        } else if line == "}" {
            inside = false;
        } else if line == "#[serde(skip)]" {
            // MessagePack doesn't have it.
            skipped = true;
        } else if let (true, Some(_)) = (skipped, line.strip_prefix("pub ")) {
            (skipped, doc) = (false, String::new());
        } else if let (true, Some(rest)) = (inside, line.strip_prefix("pub ")) {
            let (name, rust_type) = rest.trim_end_matches(',').split_once(": ").unwrap();
            structs.last_mut().unwrap().fields.push(Field {
                name: name.to_string(),
                rust_type: rust_type.to_string(),
                doc: std::mem::take(&mut doc).trim().to_string(),
            });
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    (module.trim().to_string(), structs)
}

/// A field's type in the words of MessagePack.
fn wire_type(rust: &str) -> String {
    let inner = |prefix: &str| {
        rust.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix('>'))
    };
    if let Some(inner) = inner("Option<") {
        return format!("{} or nil", wire_type(inner));
    }
    if let Some(inner) = inner("Vec<") {
        return format!("array of {}", wire_type(inner));
    }
    match rust {
        "bool" => "bool".into(),
        "String" => "str".into(),
        "Records" => "bin: record batches".into(),
        "Opaque" => "bin".into(),
        "TopicId" | "DirectoryId" => "bin: 16 bytes".into(),
        "BrokerId" | "LeaderEpoch" => "int32".into(),
        "Offset" | "Timestamp" => "int64".into(),
        "ErrorCode" => "int16: error code".into(),
        "u16" | "u32" | "u64" => format!("uint{}", &rust[1..]),
        "i8" | "i16" | "i32" | "i64" => format!("int{}", &rust[1..]),
        other => format!("[{other}]"),
    }
}

/// Links between Rust items mean nothing to other languages.
fn plain(doc: &str) -> String {
    let doc = doc
        .replace("[`super::describe_configs::", "[`")
        .replace("[`", "`")
        .replace("`]", "`");
    doc.replace('|', "\\|")
}

fn write_struct(out: &mut String, item: &Struct) {
    let note = match item.doc.is_empty() {
        true => String::new(),
        false => format!(": {}", plain(&item.doc)),
    };
    writeln!(out, "**{}**{note}\n", item.name).unwrap();
    if item.fields.is_empty() {
        writeln!(out, "An empty array.\n").unwrap();
        return;
    }
    writeln!(out, "| # | field | type | |\n|---|---|---|---|").unwrap();
    for (i, field) in item.fields.iter().enumerate() {
        let wire_type = wire_type(&field.rust_type);
        writeln!(
            out,
            "| {i} | `{}` | {wire_type} | {} |",
            field.name,
            plain(&field.doc)
        )
        .unwrap();
    }
    out.push('\n');
}

/// The list in `api.rs`: name, key, module, versions in MessagePack.
fn apis() -> Vec<(String, String, String, String)> {
    let source = read("src/protocol/api.rs");
    let list = source.rsplit_once("apis! {").unwrap().1;
    let lines = list
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'));
    let parsed = lines.map(|line| {
        let (name, rest) = line.split_once(" = ").unwrap();
        let mut rest = rest.split(", ").map(str::to_string);
        let mut next = || rest.next().unwrap();
        let (key, module, versions) = (next(), next(), next());
        let versions = versions.strip_prefix("message_pack ").unwrap().to_string();
        (name.to_string(), key, module, versions)
    });
    parsed.collect()
}

fn fields() -> String {
    let mut out = String::new();
    for (name, key, module, versions) in apis() {
        let source = read(&format!("src/protocol/{module}.rs"));
        let (about, structs) = parse(&source);
        let (first, last) = versions.split_once("..=").unwrap();
        let versions = match first == last {
            true => format!("version {first}"),
            false => format!("versions {first} to {last}"),
        };
        writeln!(
            out,
            "### {name}\n\nKey {key}, {versions}. {}\n",
            plain(&about)
        )
        .unwrap();
        let known: HashMap<&str, &Struct> = structs
            .iter()
            .map(|item| (item.name.as_str(), item))
            .collect();
        for item in &structs {
            write_struct(&mut out, item);
        }
        for root in ["Request", "Response"] {
            assert!(known.contains_key(root), "{module} has no {root}");
        }
        assert!(source.contains("Serialize"), "{module}");
    }
    writeln!(out, "### Shared\n\nWhat several of the APIs above hold.\n").unwrap();
    for item in &parse_structs(&read("src/protocol/leader.rs")).1 {
        write_struct(&mut out, item);
    }
    out
}

fn error_codes() -> String {
    let mut out = String::from("| code | name | a retry can help |\n|---|---|---|\n");
    for code in ErrorCode::ALL {
        let retry = match code.is_retriable() {
            true => "yes",
            false => "",
        };
        writeln!(out, "| {} | {} | {retry} |", code.code(), code.name()).unwrap();
    }
    out.push('\n');
    out
}

fn kafka_apis() -> String {
    let mut out = String::from("| API | key | versions |\n|---|---|---|\n");
    for api in ApiKey::ALL {
        if let Some(versions) = api.kafka_versions() {
            let (from, to) = versions.into_inner();
            writeln!(out, "| {} | {} | {from} to {to} |", api.name(), *api as i16).unwrap();
        }
    }
    out.push('\n');
    out
}

fn topic_configs() -> String {
    let mut out = String::from("| name | default | the broker's name | |\n|---|---|---|---|\n");
    for key in TOPIC_CONFIG_KEYS {
        let (name, default, broker, doc) = (key.name, key.default, key.broker_synonym, key.doc);
        let broker = match broker {
            "" => String::new(),
            broker => format!("`{broker}`"),
        };
        writeln!(out, "| `{name}` | {default} | {broker} | {doc} |").unwrap();
    }
    out.push('\n');
    out
}

/// Puts `made` between the markers of `section`.
fn replace(document: &str, section: &str, made: &str) -> String {
    let begin = format!("<!-- {section}: made by tests/protocol_doc.rs -->\n");
    let end = format!("<!-- end of {section} -->");
    let (before, rest) = document
        .split_once(&begin)
        .expect("the document has the section");
    let (_, after) = rest.split_once(&end).expect("the section has an end");
    format!("{before}{begin}\n{made}{end}{after}")
}

#[test]
fn the_document_has_the_fields_and_error_codes_of_the_code() {
    let document = read("docs/PROTOCOL.md");
    let made = replace(&document, "fields", &fields());
    let made = replace(&made, "error codes", &error_codes());
    hold("docs/PROTOCOL.md", &document, &made);
}

#[test]
fn the_document_for_kafkas_clients_has_the_apis_and_topic_configs_of_the_code() {
    let document = read("docs/KAFKA.md");
    let made = replace(&document, "apis", &kafka_apis());
    let made = replace(&made, "topic configs", &topic_configs());
    hold("docs/KAFKA.md", &document, &made);
}

/// The document is as it was made, or is written so where that is asked for.
fn hold(path: &str, document: &str, made: &str) {
    if std::env::var_os("KLAMM_UPDATE_DOCS").is_some() {
        fs::write(root().join(path), made).unwrap();
        return;
    }
    for (line, (is, should)) in document.lines().zip(made.lines()).enumerate() {
        assert_eq!(is, should, "line {}: see this test's first lines", line + 1);
    }
    assert_eq!(document.lines().count(), made.lines().count());
}
