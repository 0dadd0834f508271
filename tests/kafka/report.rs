//! The rows of `docs/CLIENTS.md` that these tests make: what ran, with which client, and whether it
//! worked.
//!
//! A test begins with a [`Row`] and ends with [`Row::works`]. The document must have that row; with
//! `KLAMM_UPDATE_DOCS` it is given it, and a run of all tests drops the rows that no test makes.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

const BEGIN: &str = "<!-- libraries: made by tests/kafka -->\n";
const END: &str = "<!-- end of libraries -->";
const HEAD: &str = "\n| Client | Version | What | Result |\n|---|---|---|---|\n";

/// Tests run side by side, and share the document.
static DOCUMENT: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
pub enum Client {
    Rdkafka,
    Rskafka,
}

/// What one test shows of one client. A test that panics before it [works](Row::works) fails it.
pub struct Row {
    client: Client,
    what: &'static str,
    works: bool,
}

impl Row {
    pub fn new(client: Client, what: &'static str) -> Row {
        Row {
            client,
            what,
            works: false,
        }
    }

    /// The end of a test that held.
    pub fn works(mut self) {
        self.works = true;
        self.tell();
    }

    fn tell(&self) {
        let _document = lock();
        let line = format!("{} {} |", self.place(), self.result());
        let document = read();
        let (before, rows, after) = parts(&document);
        if std::env::var_os("KLAMM_UPDATE_DOCS").is_none() {
            let has = rows.contains(&line.as_str());
            assert!(has || !self.works, "docs/CLIENTS.md lacks: {line}");
            return;
        }
        let mut rows: Vec<&str> = first_rows(rows);
        rows.retain(|row| !row.starts_with(&self.place()));
        rows.push(&line);
        rows.sort_unstable();
        let rows = rows.join("\n");
        let made = format!("{before}{BEGIN}{HEAD}{rows}\n\n{END}{after}");
        fs::write(path(), made).unwrap();
    }

    /// The row up to its result.
    fn place(&self) -> String {
        let (name, version) = match self.client {
            Client::Rdkafka => {
                let (_, library) = rdkafka::util::get_rdkafka_version();
                let version = locked_version("rdkafka");
                ("rdkafka", format!("{version}, librdkafka {library}"))
            }
            Client::Rskafka => ("rskafka", locked_version("rskafka")),
        };
        format!("| {name} | {version} | {} |", self.what)
    }

    fn result(&self) -> &'static str {
        match self.works {
            true => "works",
            false => "fails",
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if !self.works {
            self.tell();
        }
    }
}

/// No rows if this run makes all of them anew, and none was made yet.
fn first_rows(rows: Vec<&str>) -> Vec<&str> {
    static FIRST: Once = Once::new();
    let runs_all = std::env::args().len() == 1;
    let mut rows = rows;
    FIRST.call_once(|| {
        if runs_all {
            rows.clear();
        }
    });
    rows
}

/// What stands before, in and after the section.
fn parts(document: &str) -> (&str, Vec<&str>, &str) {
    let (before, rest) = document.split_once(BEGIN).expect("a section");
    let (section, after) = rest.split_once(END).expect("its end");
    let rows = section.strip_prefix(HEAD).unwrap_or_default();
    let rows = rows.lines().filter(|line| !line.is_empty());
    (before, rows.collect(), after)
}

fn locked_version(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let (_, rest) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .expect("it is a dependency");
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn lock() -> MutexGuard<'static, ()> {
    DOCUMENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/CLIENTS.md")
}

fn read() -> String {
    fs::read_to_string(path()).unwrap()
}

#[test]
fn the_document_has_no_row_that_no_test_makes() {
    let _document = lock();
    let document = read();
    let (_, rows, _) = parts(&document);
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kafka");
    let files = fs::read_dir(dir).unwrap();
    let sources = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let sources: String = sources.collect();
    for row in rows {
        let what = row.split(" | ").nth(2).unwrap();
        assert!(sources.contains(&format!("{what:?}")), "{row}");
    }
}
