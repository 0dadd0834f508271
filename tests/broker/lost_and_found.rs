//! Logs without a topic, and topics without a log, at the start.

use std::fs;
use std::path::{Path, PathBuf};

use klamm::model::ErrorCode;

use crate::batches::batch;
use crate::calls::ACKS_ALL;
use crate::harness::Home;

/// The directories of all logs, by partition.
fn log_dirs(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.data().join("logs")).unwrap();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    dirs
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_log_whose_topics_deletion_was_cut_off_is_removed_and_one_of_an_unknown_topic_stays() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    wire.append("orders", &["a"]);
    let dir = log_dirs(&home).remove(0);
    let kept = home.data().join("kept");
    copy_dir(&dir, &kept);
    assert_eq!(wire.delete_topic("orders"), ErrorCode::None);
    broker.stop();
    // As after a crash between the deletion and the removal.
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&kept, &dir).unwrap();
    let unknown = dir.with_file_name("9f1c1a52-3a8e-4a55-8f9f-6d0a5d2c7b11-0");
    copy_dir(&dir, &unknown);
    let mut broker = home.start();
    let named = broker.wait_for_log("belongs to no topic");
    assert!(named.contains(unknown.to_str().unwrap()), "{named}");
    assert_eq!(log_dirs(&home), [unknown]);
}

#[test]
fn a_partition_whose_directory_vanished_is_offline_and_the_others_serve() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 2, &[]);
    for partition in 0..2 {
        wire.produce("orders", partition, ACKS_ALL, batch(&["a"]));
    }
    broker.stop();
    let dir = log_dirs(&home).remove(0);
    fs::remove_dir_all(&dir).unwrap();
    let mut broker = home.start();
    let named = broker.wait_for_log("orders-0 is offline");
    assert!(named.contains(dir.to_str().unwrap()), "{named}");
    let mut wire = broker.connect();
    assert_eq!(wire.read_all("orders", 1).len(), 1);
    let refused = wire.produce("orders", 0, ACKS_ALL, batch(&["b"]));
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError);
    assert!(!dir.exists());
    // Deleting the topic ends it, and nothing is left to be named.
    assert_eq!(wire.delete_topic("orders"), ErrorCode::None);
    broker.stop();
    home.start().stop();
    let witnesses = fs::read_dir(home.data().join("witnesses")).unwrap();
    assert_eq!(witnesses.count(), 0);
    assert_eq!(log_dirs(&home), Vec::<PathBuf>::new());
}
