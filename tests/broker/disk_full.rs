//! A disk that is full: producers are told so, readers go on, and writing goes on when there is
//! space again. The disk is a small tmpfs, which only root can mount: without it these tests say
//! so and check nothing. In a build for chaos tests a broker can also be told that its disk is full.

use std::path::Path;
use std::process::Command;

use klamm::model::{ErrorCode, Offset};
use klamm::protocol::delete_records::{self, DeleteRecordsPartition, DeleteRecordsTopic};
use tempfile::TempDir;

use crate::batches::{batch, noise};
use crate::calls::ACKS_ALL;
use crate::harness::{Broker, Home};
use crate::load::until;
use crate::wire::Wire;

const DISK_BYTES: usize = 24 * 1024 * 1024;
const VALUE_BYTES: usize = 300_000;

/// A mounted disk, which is unmounted when it is dropped: after the broker that uses it.
struct Disk(TempDir);

impl Disk {
    /// `None` where this may not mount.
    fn mount() -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], dir.path());
        if !mounted {
            eprintln!("skipped: mounting a tmpfs is not allowed here");
        }
        mounted.then(|| Disk(dir))
    }

    fn grow(&self) {
        let options = format!("remount,size={}", 4 * DISK_BYTES);
        assert!(mount(&["-o", &options], self.0.path()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whatever still uses it keeps it until it ends.
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "still mounted"
        );
    }
}

fn mount(options: &[&str], at: &Path) -> bool {
    let mounted = Command::new("mount").args(options).arg(at).output();
    mounted.is_ok_and(|output| output.status.success())
}

fn value(number: usize) -> Vec<u8> {
    let mut value = noise(VALUE_BYTES);
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// Appends until the disk is full, and a little longer; returns how many were acknowledged.
fn fill(wire: &mut Wire) -> usize {
    let mut acknowledged = 0;
    let mut refused = 0;
    while refused < 5 {
        let sent = batch(&[value(acknowledged)]);
        let result = wire.produce("orders", 0, ACKS_ALL, sent);
        if result.error_code == ErrorCode::None {
            assert_eq!(refused, 0, "no space comes from nowhere");
            assert_eq!(result.base_offset, Offset(acknowledged as i64));
            acknowledged += 1;
            assert!(acknowledged * VALUE_BYTES < 2 * DISK_BYTES, "never full");
        } else {
            assert_eq!(
                result.error_code,
                ErrorCode::KafkaStorageError,
                "{result:?}"
            );
            refused += 1;
        }
    }
    acknowledged
}

/// Each of the acknowledged records, from the first to the last, is there.
fn check_readable(wire: &mut Wire, range: std::ops::Range<usize>) {
    let read = wire.read_all("orders", 0);
    let first = range.start;
    assert_eq!(read.first().map(|(offset, _)| *offset), Some(first as i64));
    assert!(read.len() >= range.len());
    for (number, (offset, bytes)) in range.zip(read) {
        assert_eq!(offset, number as i64);
        assert!(bytes == value(number), "record {number} is another one");
    }
}

/// Produces one record more, as soon as the broker takes it.
fn append_when_there_is_space(broker: &Broker, wire: &mut Wire, number: usize) {
    let mut last = None;
    until("writing goes on", || {
        let result = wire.produce("orders", 0, ACKS_ALL, batch(&[value(number)]));
        if result.error_code != ErrorCode::None {
            let code = result.error_code;
            assert!(code.is_retriable(), "{result:?}\n{}", broker.log());
        }
        last = Some(result.base_offset.0);
        result.error_code == ErrorCode::None
    });
    assert_eq!(last, Some(number as i64), "an offset was left out");
}

fn home(disk: &Disk) -> Home {
    Home::new().with_data_in(&disk.0.path().join("data"))
}

#[test]
fn a_disk_that_grows_is_written_to_again() {
    let Some(disk) = Disk::mount() else { return };
    let home = home(&disk);
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    let acknowledged = fill(&mut wire);
    check_readable(&mut wire, 0..acknowledged);
    disk.grow();
    append_when_there_is_space(&broker, &mut wire, acknowledged);
    check_readable(&mut wire, 0..acknowledged + 1);
    broker.kill();
    let broker = home.start();
    check_readable(&mut broker.connect(), 0..acknowledged + 1);
}

#[test]
fn deleting_records_makes_room_on_a_full_disk() {
    let Some(disk) = Disk::mount() else { return };
    let broker = home(&disk).start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    let acknowledged = fill(&mut wire);
    let half = acknowledged / 2;
    let request = delete_records::Request {
        topics: vec![DeleteRecordsTopic {
            name: "orders".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: Offset(half as i64),
            }],
        }],
        timeout_ms: 10_000,
    };
    let response = wire.call::<delete_records::Api>(&request);
    let deleted = &response.topics[0].partitions[0];
    assert_eq!(deleted.error_code, ErrorCode::None, "{}", broker.log());
    append_when_there_is_space(&broker, &mut wire, acknowledged);
    check_readable(&mut wire, half..acknowledged + 1);
}

#[test]
fn a_start_on_a_full_disk_says_so_and_harms_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let home = home(&disk);
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    let acknowledged = fill(&mut wire);
    broker.kill();
    let (status, log) = home.start_in_vain();
    assert!(!status.success());
    assert!(log.contains("No space left on device"), "{log}");
    disk.grow();
    let broker = home.start();
    let mut wire = broker.connect();
    check_readable(&mut wire, 0..acknowledged);
    append_when_there_is_space(&broker, &mut wire, acknowledged);
}

/// How many bytes still fit.
#[cfg(feature = "chaos")]
const ROOM_BYTES: i32 = 5_000_000;

#[cfg(feature = "chaos")]
#[test]
fn a_disk_that_is_said_to_be_full_refuses_what_does_not_fit_until_there_is_room_again() {
    use crate::chaos::inject_for;
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    let mut other = broker.connect();
    let mut tell_disk = |fault, amount| inject_for(&mut other, "disk", "", fault, amount);
    assert_eq!(tell_disk("fill", ROOM_BYTES), ErrorCode::None);
    let acknowledged = fill(&mut wire);
    assert!(
        acknowledged * VALUE_BYTES <= ROOM_BYTES as usize,
        "{acknowledged}"
    );
    check_readable(&mut wire, 0..acknowledged);
    assert_eq!(tell_disk("burn", 0), ErrorCode::InvalidRequest);
    assert_eq!(tell_disk("free", 0), ErrorCode::None);
    append_when_there_is_space(&broker, &mut wire, acknowledged);
    check_readable(&mut wire, 0..acknowledged + 1);
    broker.kill();
    let broker = home.start();
    check_readable(&mut broker.connect(), 0..acknowledged + 1);
}
