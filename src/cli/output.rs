//! What lists and descriptions look like: a table for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{presets, CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::error::CliError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// `--output`, for every command that lists or describes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Output {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
}

impl Output {
    /// Prints `value` as JSON, or the table that `table` makes of it.
    pub fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let text = match self.output {
            Format::Table => table(value),
            Format::Json => serde_json::to_string_pretty(value)
                .map_err(|error| CliError::failed(format!("JSON: {error}")))?,
        };
        print(&text)
    }
}

/// Writes the text and a newline to stdout.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end())
        .and_then(|()| stdout.flush())
        .map_err(CliError::stdout)
}

/// One behind the other, as ids and replicas are shown.
pub fn joined<T: Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    values.join(",")
}

/// A column's heading, and where its values stand.
pub enum Column {
    Left(&'static str),
    Right(&'static str),
}

/// A plain table without lines, in the manner of `ps`.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|column| match column {
            Column::Left(name) | Column::Right(name) => *name,
        }));
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in columns.iter().enumerate() {
        let alignment = match column {
            Column::Left(_) => CellAlignment::Left,
            Column::Right(_) => CellAlignment::Right,
        };
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(alignment);
            column.set_padding((0, 2));
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A number with its thousands apart: `12,345,678`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, rounded to whole numbers.
pub fn per_second(count: u64, seconds: f64) -> u64 {
    match seconds > 0.0 {
        true => (count as f64 / seconds).round() as u64,
        false => 0,
    }
}

/// Milliseconds as people say them: `350 ms`, `42 s`, `3 h 12 min`.
pub fn age(age_ms: i64) -> String {
    let seconds = age_ms / 1000;
    match seconds {
        _ if age_ms < 1000 => format!("{age_ms} ms"),
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn ages_are_said_in_two_units_at_most() {
        for (ms, text) in [
            (350, "350 ms"),
            (42_000, "42 s"),
            (600_000, "10 min"),
            (11_520_000, "3 h 12 min"),
            (180_000_000, "2 d 2 h"),
        ] {
            assert_eq!(age(ms), text);
        }
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_trailing_blanks() {
        let text = table(
            &[Column::Left("NAME"), Column::Right("N")],
            [
                vec!["a".into(), "10".into()],
                vec!["bcd".into(), "1".into()],
            ],
        );
        assert_eq!(text, "NAME   N\na     10\nbcd    1");
    }
}
