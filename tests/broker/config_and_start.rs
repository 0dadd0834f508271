//! Starting: what is refused, and with which words.

use crate::harness::Home;

#[test]
fn a_second_broker_on_the_same_data_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let broker = home.start();
    let (status, log) = home.start_in_vain();
    assert!(!status.success());
    assert!(log.contains("is in use by another broker"), "{log}");
    assert!(log.contains(home.data().to_str().unwrap()), "{log}");
    broker.connect().create_topic("orders", 1, &[]);
}

#[test]
fn a_wrong_config_is_refused_with_the_keys_path() {
    for (key, value) in [
        ("log.flsh", "\"os\""),
        ("log.segment_bytes", "131072"),
        ("log.index_interval_bytes", "4294967296"),
        ("shutdown.x.y", "1"),
    ] {
        let (status, log) = Home::new().with(key, value).start_in_vain();
        assert!(!status.success());
        let named = key.split('.').take(2).collect::<Vec<_>>().join(".");
        assert!(log.contains(&named), "{key}: {log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[test]
fn the_data_of_another_node_is_refused() {
    let home = Home::new();
    home.start().stop();
    let (status, log) = home.with("node.id", 2).start_in_vain();
    assert!(!status.success());
    assert!(log.contains("node 1"), "{log}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let first = Home::new().start();
    let home = Home::new();
    home.start().stop();
    let (status, log) = home.bound_to(first.address).start_in_vain();
    assert!(!status.success());
    assert!(log.contains(&first.address.to_string()), "{log}");
}

#[test]
fn metadata_that_is_lost_never_means_that_the_data_is_to_be_deleted() {
    let home = Home::new();
    let broker = home.start();
    let mut wire = broker.connect();
    wire.create_topic("orders", 1, &[]);
    wire.append("orders", &["a"]);
    broker.stop();
    std::fs::remove_dir_all(home.data().join("metadata")).unwrap();
    let logs = || std::fs::read_dir(home.data().join("logs")).unwrap().count();
    assert_eq!(logs(), 1);
    let (status, log) = home.start_in_vain();
    assert!(!status.success());
    assert!(log.contains("metadata is empty"), "{log}");
    assert_eq!(logs(), 1);
}
