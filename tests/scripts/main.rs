//! Golden scripts: what a core is asked, and what it does, line by line.
//!
//! Each file in `group/` and `consumer/` is a test of a group's coordinator, in the classic protocol and in the
//! consumer protocol. A line that begins with `>` is a command,
//! see [`group_world`]; those below it are what came of it. `KLAMM_UPDATE_GOLDENS=1 cargo test --test
//! scripts` writes them anew: read the difference before it is committed.

mod consumer_words;
mod group_words;
mod group_world;

use std::fs;
use std::path::Path;

use group_world::World;

macro_rules! scripts {
    ($folder:ident: $($name:ident)*) => {
        mod $folder {$(
            #[test]
            fn $name() {
                super::hold(stringify!($folder), stringify!($name));
            }
        )*}
    };
}

scripts! { group:
    administration
    join_refusals
    offsets
    rebalances
    retention
    static_members
    time_outs
    writes
}

scripts! { consumer:
    assignors
    classic_members
    fencing
    giving_up
    group_size
    joins_and_leaves
    migration_policies
    offsets
    static_members
    subscriptions
    time_outs
    upgrade
    upgrade_meanwhile
    writes
}

fn hold(folder: &str, name: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let path = dir.join(folder).join(format!("{name}.txt"));
    let golden = fs::read_to_string(&path).unwrap();
    let made = run(&golden);
    if std::env::var_os("KLAMM_UPDATE_GOLDENS").is_some() {
        return fs::write(&path, made).unwrap();
    }
    for (number, (is, was)) in made.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "{folder}/{name}.txt, line {}", number + 1);
    }
    assert_eq!(made, golden, "{folder}/{name}.txt");
}

/// The script with what comes of its commands by now. Comments and empty lines stay.
fn run(golden: &str) -> String {
    let mut world = World::default();
    let mut made = String::new();
    for line in golden.lines() {
        match line.strip_prefix('>') {
            Some(command) => {
                made += &format!("{line}\n");
                for told in world.command(command.trim()) {
                    made += &format!("  {told}\n");
                }
            }
            None if line.is_empty() || line.starts_with('#') => made += &format!("{line}\n"),
            None => {}
        }
    }
    made
}
