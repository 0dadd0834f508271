//! The command line against a cluster.

use std::process::Command;

use crate::nodes::Cluster;

/// Runs a command of the binary, and says whether it succeeded and what it printed, errors included.
fn klamm(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_klamm"))
        .args(arguments)
        .args(["--bootstrap", &cluster.bootstrap()])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// What a command prints that has to succeed.
pub fn works(cluster: &Cluster, arguments: &[&str]) -> String {
    let (success, said) = klamm(cluster, arguments);
    assert!(success, "{arguments:?}: {said}");
    said
}

/// And one that has to fail.
pub fn fails(cluster: &Cluster, arguments: &[&str]) -> String {
    let (success, said) = klamm(cluster, arguments);
    assert!(!success, "{arguments:?}: {said}");
    said
}
