//! The command line against a broker, both real processes.

#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const KLAMM: &str = env!("CARGO_BIN_EXE_klamm");
/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker's process, killed when the test ends.
struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    fn start(data_dir: &Path) -> Broker {
        Broker::start_at(data_dir, "127.0.0.1:0")
    }

    fn start_at(data_dir: &Path, address: &str) -> Broker {
        let mut process = server(data_dir, address).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut log = stderr.lines();
        let mut seen = String::new();
        let address = loop {
            let line = log
                .next()
                .unwrap_or_else(|| panic!("no broker:\n{seen}"))
                .unwrap();
            if let Some((_, rest)) = line.split_once("listens on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
            seen.push_str(&line);
        };
        // Nobody must have to wait for us to read its log.
        thread::spawn(move || log.for_each(drop));
        Broker { process, address }
    }

    fn klamm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KLAMM);
        command.args(args).env("KLAMM_BOOTSTRAP", &self.address);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.klamm(args).output().unwrap()
    }

    /// Its stdout; it must succeed.
    fn stdout(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "klamm {args:?}: {}",
            stderr(&output)
        );
        output.stdout
    }

    fn json(&self, args: &[&str]) -> Value {
        let stdout = self.stdout(args);
        serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("klamm {args:?}: {error}: {stdout:?}"))
    }

    /// The one line on stderr of a command that fails with exit code 1.
    fn failure(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "klamm {args:?} succeeds");
        failure(&output)
    }

    fn produce(&self, topic: &str, bytes: &[u8], args: &[&str]) -> Output {
        let mut producer = self
            .klamm(&[&["produce", topic], args].concat())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        producer.stdin.take().unwrap().write_all(bytes).unwrap();
        producer.wait_with_output().unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It has ended already where the test has ended it.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn server(data_dir: &Path, address: &str) -> Command {
    let mut command = Command::new(KLAMM);
    command
        .arg("server")
        .env("KLAMM__NODE__DATA_DIR", data_dir)
        .env("KLAMM__LISTENERS__NATIVE__BIND", address)
        .env("KLAMM__LISTENERS__KAFKA__ENABLED", "false")
        .env("KLAMM__GROUPS__INITIAL_REBALANCE_DELAY_MS", "0")
        .stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn failure(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("klamm: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn signal(process: &Child, name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &process.id().to_string()]);
    assert!(kill.status().unwrap().success());
}

fn data_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Tries until it holds, or too long.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

/// The directory of the only partition.
fn partition_dir(data_dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(data_dir.join("logs")).unwrap();
    let only = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    only
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    let mut bytes: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    bytes.extend_from_slice(b"\n\n\r\n");
    bytes.extend(std::iter::repeat_n(b'x', 500_000));
    bytes.push(b'\n');
    let file = dir.path().join("in");
    fs::write(&file, &bytes).unwrap();

    broker.stdout(&["topic", "create", "bytes"]);
    let output = broker.run(&["produce", "bytes", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let digits: String = said.chars().take_while(|c| !c.is_whitespace()).collect();
    assert_eq!(digits.replace(',', ""), lines.to_string(), "{said}");
    assert!(said.contains("acknowledged, 0 failed"), "{said}");
    assert!(said.contains(", the slowest after "), "{said}");
    assert_eq!(
        said.lines().count(),
        1,
        "no progress bar into a pipe: {said}"
    );
    assert!(
        broker.stdout(&["consume", "bytes"]) == bytes,
        "other bytes came back"
    );
}

#[test]
fn a_last_line_without_newline_gets_one_and_compression_changes_nothing() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("lines-{codec}");
        broker.stdout(&["topic", "create", &topic]);
        // As scripts say "stdin".
        let args = ["-", "--compression", codec];
        let output = broker.produce(&topic, b"one\ntwo\n\nlast", &args);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(broker.stdout(&["consume", &topic]), b"one\ntwo\n\nlast\n");
    }
}

#[test]
fn a_line_that_the_topic_does_not_take_is_named_and_those_before_it_are_written() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    let small = ["--config", "max.message.bytes=1000"];
    broker.stdout(&[&["topic", "create", "small"], &small[..]].concat());
    // Together much more than one batch may have.
    let fit: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    let long = "x".repeat(1000) + "\n";
    let text = format!("{fit}{long}after\n");
    let output = broker.produce("small", text.as_bytes(), &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["1,000 records", "stdin: line 1001 of 1000 bytes", " 1000 "] {
        assert!(said.contains(part), "{said}");
    }
    assert!(
        broker.stdout(&["consume", "small"]) == fit.as_bytes(),
        "other lines came back"
    );
    // It is the compressed batch that counts.
    let output = broker.produce("small", long.as_bytes(), &["--compression", "zstd"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let endless = "x".repeat(8 * 1024 * 1024 + 1);
    let output = broker.produce("small", format!("\n{endless}").as_bytes(), &[]);
    let said = stderr(&output);
    assert!(
        said.contains("line 2 has more than 8388608 bytes"),
        "{said}"
    );
}

#[test]
fn nothing_is_lost_doubled_or_changed_when_the_broker_is_killed_meanwhile() {
    let dir = data_dir();
    let mut broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "killed"]);
    let lines: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    let (first, rest) = lines.split_at(lines.len() / 2);

    let mut producer = broker
        .klamm(&["produce", "killed"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producer.stdin.take().unwrap();
    stdin.write_all(first.as_bytes()).unwrap();
    eventually("records are acknowledged", || {
        let topic = broker.json(&["topic", "describe", "killed", "--output", "json"]);
        topic["partitions"][0]["end_offset"].as_i64() > Some(0)
    });
    broker.kill();
    let rest = rest.to_owned();
    let writer = thread::spawn(move || stdin.write_all(rest.as_bytes()).unwrap());
    let broker = Broker::start_at(dir.path(), &broker.address);
    writer.join().unwrap();
    let output = producer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        broker.stdout(&["consume", "killed"]) == lines.as_bytes(),
        "other lines came back"
    );
}

#[test]
fn a_consumer_starts_and_ends_where_it_is_told() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "places"]);
    broker.produce("places", b"k:a\nk:b\nc\n", &["--key-separator", ":"]);
    let consume = |args: &[&str]| {
        let stdout = broker.stdout(&[&["consume", "places"], args].concat());
        String::from_utf8(stdout).unwrap()
    };
    assert_eq!(consume(&[]), "a\nb\nc\n");
    assert_eq!(consume(&["--from", "1"]), "b\nc\n");
    assert_eq!(consume(&["--from", "1", "--max", "1"]), "b\n");
    assert_eq!(consume(&["--from", "end"]), "");
    assert_eq!(
        consume(&["--from", "2020-01-01T00:00:00Z", "--max", "2"]),
        "a\nb\n"
    );
    assert_eq!(consume(&["--from", "2999-01-01T00:00:00Z"]), "");
    assert_eq!(consume(&["--follow", "--max", "3"]), "a\nb\nc\n");

    let lines = consume(&["--output", "json"]);
    let records: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records[1]["key"], "k");
    assert_eq!(records[1]["value"], "b");
    assert_eq!(records[1]["offset"], 1);
    assert_eq!(records[1]["partition"], 0);
    assert!(records[1]["timestamp"].as_i64() > Some(1_700_000_000_000));
    assert_eq!(records[2]["key"], Value::Null);

    let missing = broker.failure(&["consume", "places", "--partition", "7"]);
    assert!(missing.contains("partition 7"), "{missing}");
}

#[test]
fn every_partition_is_read_and_one_alone_if_asked() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "three", "--partitions", "3"]);
    for partition in ["0", "1", "2"] {
        broker.produce(
            "three",
            format!("in {partition}\n").as_bytes(),
            &["--partition", partition],
        );
    }
    assert_eq!(
        broker.stdout(&["consume", "three", "--partition", "1"]),
        b"in 1\n"
    );
    let all = String::from_utf8(broker.stdout(&["consume", "three"])).unwrap();
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["in 0", "in 1", "in 2"]);
}

#[test]
fn partitions_that_end_before_the_start_are_left_out_and_named() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "uneven", "--partitions", "3"]);
    for (partition, lines) in [("0", "a0\na1\na2\n"), ("1", "b0\n"), ("2", "c0\nc1\n")] {
        broker.produce("uneven", lines.as_bytes(), &["--partition", partition]);
    }
    let output = broker.run(&["consume", "uneven", "--from", "2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(output.stdout, b"a2\n");
    let said = stderr(&output);
    assert!(
        said.contains("partition 1 (ends at 1), 2 (ends at 2)"),
        "{said}"
    );

    // Those that are waited for are no exception: nothing below the start is written.
    let follow = ["consume", "uneven", "--from", "2", "--follow", "--max", "2"];
    let mut follower = broker
        .klamm(&follow)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(follower.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    broker.produce("uneven", b"b1\nb2\n", &["--partition", "1"]);
    let mut rest = String::new();
    stdout.read_line(&mut rest).unwrap();
    assert_eq!([first, rest], ["a2\n", "b2\n"]);
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_partition_that_is_offline_hides_no_other() {
    let dir = data_dir();
    let mut broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "pair", "--partitions", "2"]);
    for (partition, line) in [("0", b"a\n"), ("1", b"b\n")] {
        broker.produce("pair", line, &["--partition", partition]);
    }
    signal(&broker.process, "TERM");
    assert!(broker.process.wait().unwrap().success());
    // Shorter than what was synced.
    for partition in fs::read_dir(dir.path().join("logs")).unwrap() {
        let partition = partition.unwrap().path();
        if partition.to_str().unwrap().ends_with("-0") {
            for file in fs::read_dir(partition).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|e| e == "log") {
                    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
                    file.set_len(10).unwrap();
                }
            }
        }
    }
    let broker = Broker::start(dir.path());
    assert_eq!(
        broker.stdout(&["consume", "pair", "--partition", "1"]),
        b"b\n"
    );
    let refused = broker.failure(&["consume", "pair"]);
    assert!(refused.contains("KAFKA_STORAGE_ERROR"), "{refused}");
    let topic = broker.json(&["topic", "describe", "pair", "--output", "json"]);
    assert_eq!(topic["partitions"][0]["error"], "KAFKA_STORAGE_ERROR");
    assert_eq!(topic["partitions"][0]["end_offset"], Value::Null);
    assert_eq!(topic["partitions"][1]["error"], Value::Null);
    assert_eq!(topic["partitions"][1]["end_offset"], 1);
}

#[test]
fn ctrl_c_is_the_end_of_following_and_else_an_interruption() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "cut"]);
    broker.produce("cut", b"line\n", &[]);
    let consume = |address: &str, args: &[&str]| {
        let mut consumer = broker.klamm(&[&["consume", "cut"], args].concat());
        consumer.env("KLAMM_BOOTSTRAP", address);
        consumer.stdout(Stdio::piped()).stderr(Stdio::piped());
        consumer.spawn().unwrap()
    };
    let mut follower = consume(&broker.address, &["--follow"]);
    let mut first = [0; 5];
    let mut stdout = follower.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"line\n");
    signal(&follower, "INT");
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    // A broker that doesn't answer its greeting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let reader = consume(&silent.local_addr().unwrap().to_string(), &[]);
    let (mut connection, _) = silent.accept().unwrap();
    connection.read_exact(&mut first).unwrap();
    signal(&reader, "INT");
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(stderr(&output), "klamm: interrupted\n");
}

#[test]
fn a_deleted_topic_ends_a_consumer_that_follows() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "passing"]);
    broker.produce("passing", b"line\n", &[]);
    let mut consumer = broker.klamm(&["consume", "passing", "--follow"]);
    consumer.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = consumer.spawn().unwrap();
    let mut first = [0; 5];
    let mut stdout = follower.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    broker.stdout(&["topic", "delete", "passing"]);
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(follower.wait_with_output()));
    let output = end.recv_timeout(PATIENCE).expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("klamm: topic passing can't be read any more"),
        "{said}"
    );
}

#[test]
fn a_closed_stdout_ends_a_consumer_quietly() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "long"]);
    let lines: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    broker.produce("long", lines.as_bytes(), &[]);
    let mut consumer = broker
        .klamm(&["consume", "long"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(consumer.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    drop(stdout);
    let output = consumer.wait_with_output().unwrap();
    assert_eq!(first, "line 0\n");
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
}

#[test]
fn topics_are_created_described_altered_and_deleted() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&[
        "topic",
        "create",
        "t",
        "--partitions",
        "2",
        "--config",
        "retention.ms=1000",
    ]);
    let describe = || broker.json(&["topic", "describe", "t", "--output", "json"]);
    let retention = |topic: &Value| {
        let configs = topic["configs"].as_array().unwrap().clone();
        let config = configs
            .into_iter()
            .find(|config| config["name"] == "retention.ms");
        config.unwrap()
    };
    let topic = describe();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(topic["partitions"][1]["leader"], 1);
    assert_eq!(retention(&topic)["value"], "1000");
    assert_eq!(retention(&topic)["source"], "topic");

    broker.stdout(&[
        "topic",
        "alter",
        "t",
        "--partitions",
        "3",
        "--config",
        "retention.ms=2000",
    ]);
    let topic = describe();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(retention(&topic)["value"], "2000");
    broker.stdout(&["topic", "alter", "t", "--default", "retention.ms"]);
    assert_ne!(retention(&describe())["source"], "topic");

    let listed = broker.json(&["topic", "list", "--output", "json"]);
    assert_eq!(listed[0]["name"], "t");
    let table = String::from_utf8(broker.stdout(&["topic", "list"])).unwrap();
    assert!(table.starts_with("NAME"), "{table}");
    broker.stdout(&["topic", "delete", "t"]);
    assert_eq!(
        broker.json(&["topic", "list", "--output", "json"]),
        Value::Array(vec![])
    );
}

#[test]
fn groups_are_listed_described_reset_and_deleted() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "words"]);
    assert!(broker.produce("words", b"a\nb\nc\n", &[]).status.success());
    assert_eq!(
        broker.json(&["group", "list", "--output", "json"]),
        serde_json::json!([])
    );
    let error = broker.failure(&["group", "describe", "readers"]);
    assert!(error.contains("no group readers"), "{error}");

    // Nothing is changed unless that is asked for.
    let reset = |args: &[&str]| {
        let fixed = ["group", "reset", "readers", "--output", "json"];
        let moves = broker.json(&[&fixed[..], args].concat());
        (
            moves[0]["from"].as_i64().unwrap(),
            moves[0]["to"].as_i64().unwrap(),
        )
    };
    assert_eq!(reset(&["--topic", "words", "--to-offset", "2"]), (-1, 2));
    assert_eq!(
        broker.json(&["group", "list", "--output", "json"]),
        serde_json::json!([])
    );
    let execute = ["--topic", "words", "--to-offset", "2", "--execute"];
    assert_eq!(reset(&execute), (-1, 2));
    let listed = broker.json(&["group", "list", "--output", "json"]);
    assert_eq!(listed[0]["group"], "readers");
    assert_eq!(listed[0]["state"], "Empty");
    let described = broker.json(&["group", "describe", "readers", "--output", "json"]);
    let progress = &described["partitions"][0];
    assert_eq!(progress["topic"], "words");
    assert_eq!(progress["committed"], 2);
    assert_eq!((&progress["end"], &progress["lag"]), (&3.into(), &1.into()));
    let table = String::from_utf8(broker.stdout(&["group", "describe", "readers"])).unwrap();
    assert!(table.contains("readers: Empty"), "{table}");

    // All ways go from what is committed, and none out of the partition.
    assert_eq!(reset(&["--to-earliest"]), (2, 0));
    assert_eq!(reset(&["--to-latest"]), (2, 3));
    assert_eq!(reset(&["--to-offset", "9"]), (2, 3));
    assert_eq!(reset(&["--shift-by", "-1"]), (2, 1));
    assert_eq!(reset(&["--by-duration", "1h"]), (2, 0));
    assert_eq!(reset(&["--to-datetime", "2999-01-01T00:00:00Z"]), (2, 3));
    assert_eq!(reset(&["--shift-by", "-7", "--execute"]), (2, 0));
    assert_eq!(reset(&["--to-latest"]), (0, 3));

    broker.stdout(&["group", "delete", "readers"]);
    let error = broker.failure(&["group", "delete", "readers"]);
    assert!(error.contains("GROUP_ID_NOT_FOUND"), "{error}");
}

/// Starts `klamm consume` as a member of the group, and answers each line that it writes.
fn member(broker: &Broker, args: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut consume = broker.klamm(&[&["consume", "shared", "--group", "readers"], args].concat());
    consume.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = consume.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (to, written) = mpsc::channel();
    thread::spawn(move || {
        for line in lines {
            let _ = to.send(line.unwrap());
        }
    });
    (child, written)
}

/// So many lines, sorted.
fn lines(written: &mpsc::Receiver<String>, count: usize) -> Vec<String> {
    let next = || written.recv_timeout(PATIENCE).expect("a line");
    let mut lines: Vec<String> = (0..count).map(|_| next()).collect();
    lines.sort();
    lines
}

#[test]
fn members_of_a_group_write_each_record_once_and_commit_what_they_have_written() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "shared", "--partitions", "2"]);
    broker.produce("shared", b"a\nb\nc\n", &[]);
    let described = || broker.json(&["group", "describe", "readers", "--output", "json"]);
    let lag = || -> Option<i64> {
        let described = described();
        let partitions = described["partitions"].as_array()?.iter();
        partitions.map(|partition| partition["lag"].as_i64()).sum()
    };

    let (first, written) = member(&broker, &[]);
    assert_eq!(lines(&written, 3), ["a", "b", "c"]);
    signal(&first, "TERM");
    let output = first.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(described()["state"], "Empty", "it has left");
    assert_eq!(lag(), Some(0));

    // One goes on where another has stopped, also in the midst of a batch.
    broker.produce("shared", b"d\ne\nf\ng\n", &[]);
    let (second, written) = member(&broker, &["--max", "3"]);
    let mut seen = lines(&written, 3);
    assert!(second.wait_with_output().unwrap().status.success());
    assert_eq!(lag(), Some(1));
    let (third, written) = member(&broker, &["--output", "json"]);
    let rest: Value = serde_json::from_str(&lines(&written, 1)[0]).unwrap();
    assert_eq!(rest["topic"], "shared");
    seen.push(rest["value"].as_str().unwrap().to_owned());
    seen.sort();
    assert_eq!(seen, ["d", "e", "f", "g"]);

    // Two share the partitions, and the table tells who has which.
    let (fourth, _written) = member(&broker, &[]);
    eventually("they share", || {
        let described = described();
        let partitions = described["partitions"].as_array().unwrap();
        let owner = |place: usize| partitions[place]["member_id"].as_str();
        partitions.len() == 2 && owner(0).is_some() && owner(1).is_some() && owner(0) != owner(1)
    });
    let table = String::from_utf8(broker.stdout(&["group", "describe", "readers"])).unwrap();
    assert!(
        table.starts_with("readers: Stable, cooperative-sticky"),
        "{table}"
    );
    for child in [&third, &fourth] {
        signal(child, "INT");
    }
    for child in [third, fourth] {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(lag(), Some(0));
}

#[test]
fn a_groups_lag_is_told_in_records_and_in_the_time_since_the_first_of_them() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "shared"]);
    let begun = Instant::now();
    broker.produce("shared", b"old\n", &[]);
    // So that it can be told from the others.
    thread::sleep(Duration::from_secs(1));
    broker.produce("shared", b"new\nnewer\n", &["--compression", "lz4"]);
    let lag = |offset: &str| {
        let reset = [
            "group",
            "reset",
            "readers",
            "--topic",
            "shared",
            "--execute",
        ];
        broker.stdout(&[&reset[..], &["--to-offset", offset]].concat());
        let described = broker.json(&["group", "describe", "readers", "--output", "json"]);
        let progress = &described["partitions"][0];
        (
            progress["lag"].as_i64(),
            progress["lag_seconds"].as_f64().unwrap(),
        )
    };
    let (records, seconds) = lag("0");
    assert_eq!(records, Some(3));
    assert!(
        seconds >= 1.0 && seconds <= begun.elapsed().as_secs_f64(),
        "{seconds}"
    );
    // In the midst of a compressed batch.
    let (records, seconds) = lag("2");
    assert_eq!(records, Some(1));
    let limit = begun.elapsed().as_secs_f64() - 1.0;
    assert!((0.0..=limit).contains(&seconds), "{seconds} of {limit}");
    assert_eq!(lag("3"), (Some(0), 0.0));
}

#[test]
fn what_fails_says_why_in_one_line_and_what_is_misused_ends_with_2() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "there"]);
    for (args, reason) in [
        (&["topic", "create", "there"][..], "TOPIC_ALREADY_EXISTS"),
        (&["topic", "create", "../x"], "INVALID_TOPIC"),
        (
            &["topic", "create", "x", "--partitions", "0"],
            "INVALID_PARTITIONS",
        ),
        (
            &["topic", "create", "x", "--replication-factor", "3"],
            "INVALID_REPLICATION_FACTOR",
        ),
        (
            &["topic", "create", "x", "--config", "no.such=1"],
            "INVALID_CONFIG",
        ),
        (&["topic", "delete", "missing"], "UNKNOWN_TOPIC"),
        (&["topic", "describe", "missing"], "UNKNOWN_TOPIC"),
        (&["consume", "missing"], "UNKNOWN_TOPIC"),
        (&["consume", "there", "--from", "17"], "17"),
        (&["produce", "there", "no-such-file"], "no-such-file"),
        (&["log", "verify", "no-such-dir"], "no-such-dir"),
        (
            &["cluster", "status", "--bootstrap", "127.0.0.1:1"],
            "127.0.0.1:1",
        ),
        (&["server", "--config", "no-such.toml"], "no-such.toml"),
    ] {
        let said = broker.failure(args);
        assert!(said.contains(reason), "klamm {args:?}: {said}");
    }
    for args in [
        &["consume", "there", "--from", "yesterday"][..],
        &["consume", "there", "and-there"],
        &["consume", "there", "--group", "g", "--from", "7"],
        &["consume", "there", "--group", "g", "--partition", "0"],
        &["topic", "alter", "there"],
        &["produce", "there", "--key-separator", ""],
        &["perf", "latency", "--acks", "0"],
        &["no-such-command"],
    ] {
        let output = broker.run(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "klamm {args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_second_broker_on_the_same_data_directory_is_refused() {
    let dir = data_dir();
    let _broker = Broker::start(dir.path());
    let output = server(dir.path(), "127.0.0.1:0").output().unwrap();
    let said = failure(&output);
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
}

#[test]
fn the_cluster_and_its_actors_can_be_seen() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "seen"]);
    let status = broker.json(&["cluster", "status", "--output", "json"]);
    assert_eq!(status["brokers"][0]["process_id"], broker.process.id());
    assert_eq!(status["partitions"], 1);
    assert_eq!(status["leaderless_partitions"], 0);
    let quorum = &status["quorum"];
    assert_eq!(
        (&quorum["leader"], &quorum["voters"][0]["lag"]),
        (&1.into(), &0.into())
    );
    let text = String::from_utf8(broker.stdout(&["cluster", "status"])).unwrap();
    assert!(text.contains("metadata: voter 1 leads in term "), "{text}");

    let actors = broker.json(&["actors", "--output", "json"]);
    let actors = actors.as_array().unwrap();
    for (kind, name) in [("partition_leader", "seen-0"), ("controller", "controller")] {
        let actor = actors
            .iter()
            .find(|actor| actor["kind"] == kind && actor["name"] == name)
            .unwrap_or_else(|| panic!("{kind} {name} isn't in {actors:?}"));
        assert_eq!(actor["state"], "running");
        assert_eq!(actor["restarts"], 0);
    }
    let kind = broker.json(&["actors", "--kind", "partition_leader", "--output", "json"]);
    assert_eq!(kind.as_array().unwrap().len(), 1);
}

#[test]
fn a_log_is_verified_offline_up_to_its_first_bad_byte() {
    let dir = data_dir();
    let mut broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "checked"]);
    for line in [b"first\n", b"other\n"] {
        broker.produce("checked", line, &[]);
    }
    broker.kill();
    let partition = partition_dir(dir.path());
    let partition = partition.to_str().unwrap();
    let verified = String::from_utf8(broker.stdout(&["log", "verify", partition])).unwrap();
    assert!(verified.contains("2 batches, 2 records"), "{verified}");

    let dump = String::from_utf8(broker.stdout(&["log", "dump", "--output", "json", partition]));
    let batches: Vec<Value> = dump
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(batches[1]["base_offset"], 1);
    let records = broker.stdout(&["log", "dump", "--records", "--output", "json", partition]);
    assert!(String::from_utf8(records)
        .unwrap()
        .contains("\"value\":\"other\""));

    // One bit of the second batch's value.
    let file = batches[1]["file"].as_str().unwrap();
    let second = batches[1]["position"].as_u64().unwrap() as usize;
    let mut bytes = fs::read(file).unwrap();
    let end = second + batches[1]["bytes"].as_u64().unwrap() as usize;
    bytes[end - 2] ^= 1;
    fs::write(file, bytes).unwrap();
    let bad = broker.failure(&["log", "verify", partition]);
    assert!(bad.contains(&format!("byte {second} ")), "{bad}");
    assert!(bad.contains("offset 1 "), "{bad}");
    assert!(bad.contains(file), "{bad}");
}

#[test]
fn every_load_runs_and_reports_in_json() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    let json = |args: &[&str]| broker.json(&[&["perf"], args, &["--output", "json"]].concat());
    let produce = |args: &[&str]| {
        let base = [
            "produce",
            "--records",
            "5000",
            "--warm-up",
            "0",
            "--partitions",
            "2",
        ];
        json(&[&base, args].concat())
    };
    let written = produce(&["--batch-records", "100", "--producers", "3"]);
    assert_eq!(written["records"], 5000);
    assert_eq!(written["failed_records"], 0);
    assert!(written["latency"]["p99_us"].as_u64() > Some(0));
    assert_eq!(written["broker"]["process_id"], broker.process.id());
    assert!(written["broker"]["rss_peak_kib"].as_u64() > Some(1000));
    assert_eq!(
        produce(&["--rate", "20000", "--codec", "lz4"])["records"],
        5000
    );
    assert_eq!(produce(&["--acks", "1"])["records"], 5000);
    let unacknowledged = produce(&["--acks", "0", "--batch-records", "1000"]);
    assert_eq!(unacknowledged["latency"], Value::Null);

    // What was sent without acknowledgement has been waited for.
    let consume = ["consume", "--partitions", "2", "--consumers", "2"];
    for check in [&[][..], &["--check", "records"]] {
        assert_eq!(json(&[&consume, check].concat())["records"], 20_000);
    }
    let latency = json(&["latency", "--records", "200", "--in-flight", "16"]);
    assert_eq!(latency["records"], 200);
    // In less than a second a few ticks would decide.
    assert_eq!(latency["broker_cpu_us_per_record"], Value::Null);
    let paced = json(&[
        "latency",
        "--records",
        "50",
        "--rate",
        "500",
        "--topic",
        "paced",
    ]);
    assert!(paced["seconds"].as_f64() >= Some(0.09), "{paced}");
    let idle = json(&["connections", "--idle", "20", "--seconds", "1"]);
    assert_eq!(idle["connections"], 20);
    let polling = [
        "connections",
        "--long-poll",
        "20",
        "--seconds",
        "1",
        "--max-wait-ms",
        "100",
    ];
    assert!(json(&polling)["polls"].as_u64() >= Some(20));
}

#[cfg(not(feature = "chaos"))]
#[test]
fn a_build_without_chaos_can_break_no_actor() {
    let mut fault = Command::new(KLAMM);
    let output = fault.args(["fault", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("unrecognized subcommand 'fault'"), "{said}");
    let help = Command::new(KLAMM).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("fault"));
}

#[cfg(feature = "chaos")]
#[test]
fn an_actor_that_is_made_to_panic_is_back() {
    let dir = data_dir();
    let broker = Broker::start(dir.path());
    broker.stdout(&["topic", "create", "broken"]);
    broker.stdout(&["fault", "panic", "partition_leader", "broken-0"]);
    eventually("it is back", || {
        let actors = broker.json(&["actors", "--kind", "partition_leader", "--output", "json"]);
        actors[0]["restarts"] == 1 && actors[0]["state"] == "running"
    });
    broker.produce("broken", b"still here\n", &[]);
    assert_eq!(broker.stdout(&["consume", "broken"]), b"still here\n");
    let missing = broker.failure(&["fault", "stop", "partition_leader", "nobody-7"]);
    assert!(missing.contains("nobody-7"), "{missing}");
}
