//! Reading the config, and refusing what isn't one.
//!
//! The crate `config` is generous: it drops a key that nobody asks for and makes 2 of 1.5. So
//! before its values become structs, they are held against the tree of the defaults, key by key.

use std::collections::HashMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Value, ValueKind};
use thiserror::Error;

use super::Config;

/// Before a key's path in the environment, and between its parts.
const ENVIRONMENT_PREFIX: &str = "KLAMM";
const ENVIRONMENT_SEPARATOR: &str = "__";

/// Why a config is refused: one line, with the key's full path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("config file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("config key {key} isn't known; {section} knows {known}")]
    UnknownKey {
        key: String,
        section: String,
        known: String,
    },
    #[error("config key {key} {reason}")]
    Value { key: String, reason: String },
    #[error("config: {0}")]
    Unreadable(String),
}

impl ConfigError {
    pub(super) fn value(key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl Config {
    /// The defaults, then `file` if there is one, then this process's environment. What lies in a
    /// file of its own (`cluster.secret_file`) is read too.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let environment = std::env::vars_os().filter_map(|(key, value)| {
            Some((
                key.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        let text = match file {
            Some(path) => Some(read(path)?),
            None => None,
        };
        let parsed = Config::parse(text.as_deref(), environment);
        let mut config = parsed.map_err(|error| match (error, file) {
            (ConfigError::Unreadable(reason), Some(path)) => ConfigError::File {
                path: path.display().to_string(),
                reason,
            },
            (error, _) => error,
        })?;
        config.cluster.read_secret_file()?;
        Ok(config)
    }

    /// The defaults, then the TOML `text`, then those variables that start with `KLAMM__`.
    pub fn parse(
        text: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let environment: HashMap<_, _> = environment.into_iter().collect();
        let mut builder = config::Config::builder();
        if let Some(text) = text {
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        let given = builder
            .add_source(
                Environment::with_prefix(ENVIRONMENT_PREFIX)
                    .prefix_separator(ENVIRONMENT_SEPARATOR)
                    .separator(ENVIRONMENT_SEPARATOR)
                    .source(Some(environment)),
            )
            .build()
            .map_err(unreadable)?;
        let known = config::Config::try_from(&Config::default()).map_err(unreadable)?;
        check("", &given.cache, &known.cache)?;
        // Two listeners have one kind of section and other defaults, so serde can't fill them in.
        let whole = config::Config::builder().add_source(known);
        let whole = whole.add_source(given).build().map_err(unreadable)?;
        let config: Config = whole.try_deserialize().map_err(with_key)?;
        config.validate()?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn unreadable(error: config::ConfigError) -> ConfigError {
    ConfigError::Unreadable(one_line(&error.to_string()))
}

/// An error of the crate `config`, with the key's path first and the reason after it.
fn with_key(error: config::ConfigError) -> ConfigError {
    match error {
        config::ConfigError::At {
            error,
            key: Some(key),
            ..
        } => ConfigError::value(&key, format!("can't be used: {}", reason(&error))),
        config::ConfigError::Type {
            unexpected,
            expected,
            key: Some(key),
            ..
        } => ConfigError::value(&key, format!("is {unexpected}, and must be {expected}")),
        other => unreadable(other),
    }
}

/// What the crate `config` says, without the name of our enum.
fn reason(error: &config::ConfigError) -> String {
    let said = one_line(&error.to_string());
    match said.split_once(" does not have variant constructor ") {
        Some((_, given)) => format!("{given:?} isn't one of its values"),
        None => said,
    }
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}

/// Holds what was given against the tree of the defaults: the same keys, the same kinds of value.
fn check(path: &str, given: &Value, known: &Value) -> Result<(), ConfigError> {
    match (&given.kind, &known.kind) {
        (ValueKind::Table(given), ValueKind::Table(known)) => {
            let mut names: Vec<&String> = given.keys().collect();
            names.sort();
            for name in names {
                let key = join(path, name);
                let Some(known) = known.get(name) else {
                    return Err(unknown_key(key, path, known.keys()));
                };
                check(&key, &given[name], known)?;
            }
            Ok(())
        }
        (_, ValueKind::Table(_)) => Err(ConfigError::value(path, "is a section, not a value")),
        (ValueKind::Table(_), _) => Err(ConfigError::value(path, "is a value, not a section")),
        (given, known) => check_kind(given, known)
            .map_err(|expected| ConfigError::value(path, format!("must be {expected}"))),
    }
}

/// The environment gives all values as strings; a file gives each its kind. On refusal says what
/// is expected.
fn check_kind(given: &ValueKind, known: &ValueKind) -> Result<(), String> {
    let is_right = match (given, known) {
        (ValueKind::I64(_), ValueKind::I64(_)) => true,
        (ValueKind::I64(number), ValueKind::U64(_)) => *number >= 0,
        (ValueKind::String(text), ValueKind::I64(_)) => text.parse::<i64>().is_ok(),
        (ValueKind::String(text), ValueKind::U64(_)) => text.parse::<u64>().is_ok(),
        (ValueKind::Boolean(_), ValueKind::Boolean(_)) => true,
        (ValueKind::String(text), ValueKind::Boolean(_)) => text.parse::<bool>().is_ok(),
        (ValueKind::String(_), ValueKind::String(_) | ValueKind::Nil) => true,
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    let expected = match known {
        ValueKind::I64(_) => "a whole number",
        ValueKind::U64(_) => "a whole number that isn't negative",
        ValueKind::Boolean(_) => "true or false",
        _ => "a string",
    };
    Err(format!("{expected}, and is {given}"))
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

fn unknown_key<'a>(
    key: String,
    section: &str,
    known: impl Iterator<Item = &'a String>,
) -> ConfigError {
    let mut known: Vec<&str> = known.map(String::as_str).collect();
    known.sort_unstable();
    ConfigError::UnknownKey {
        key,
        section: match section {
            "" => "the config".to_owned(),
            _ => format!("[{section}]"),
        },
        known: known.join(", "),
    }
}
