//! A member of a consumer group, as a process of its own: only a process can be killed or hang as they do.
//!
//! The test's binary starts itself as one: it runs [`a_member_works_until_it_is_told_to_leave`] and nothing
//! else, with its task in the environment. It leaves in good order when its standard input ends.

mod klamms;
mod librdkafkas;

use std::collections::BTreeSet;
use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;
use std::time::Duration;

use crate::diary::{Diary, Entry};

/// How long a member may be silent before the others get what it owned.
pub const SESSION: Duration = Duration::from_secs(3);
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(300);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How often it commits what it was given.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(50);

/// Of whose library a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Librdkafka,
    Klamm,
}

/// How the members of a group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// All give up everything in each rebalance.
    Range,
    CooperativeSticky,
    /// As `Range`, by members that stay the same when they come back in time (KIP-345).
    Static,
    /// As `CooperativeSticky`, by members of both libraries.
    Mixed,
    /// Their coordinator says who has what (KIP-848).
    Consumer,
    /// As `Consumer`, by members that stay the same when they come back in time.
    ConsumerStatic,
    /// A member of each protocol, so that the group changes its own whenever one of them is gone for long.
    Migrating,
}

/// By which protocol a member shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Classic,
    Consumer,
}

impl Manner {
    pub const ALL: [Manner; 7] = [
        Manner::Range,
        Manner::CooperativeSticky,
        Manner::Static,
        Manner::Mixed,
        Manner::Consumer,
        Manner::ConsumerStatic,
        Manner::Migrating,
    ];

    /// The group of those who do so.
    pub fn group(self) -> &'static str {
        match self {
            Manner::Range => "range",
            Manner::CooperativeSticky => "cooperative-sticky",
            Manner::Static => "static",
            Manner::Mixed => "mixed",
            Manner::Consumer => "consumer",
            Manner::ConsumerStatic => "consumer-static",
            Manner::Migrating => "migrating",
        }
    }

    fn of_group(name: &str) -> Manner {
        let mut all = Manner::ALL.into_iter();
        all.find(|manner| manner.group() == name)
            .expect("there is such a group")
    }

    /// Of the member with this number.
    pub fn library(self, number: usize) -> Library {
        match self {
            Manner::Mixed | Manner::Migrating if number % 2 == 1 => Library::Klamm,
            _ => Library::Librdkafka,
        }
    }

    pub fn is_static(self) -> bool {
        matches!(self, Manner::Static | Manner::ConsumerStatic)
    }
}

/// What a member is started with.
pub struct Task {
    pub manner: Manner,
    pub library: Library,
    /// Its own among all members.
    pub name: String,
    /// Where its library connects to.
    pub bootstrap: String,
    pub diary: PathBuf,
}

const GROUP: &str = "KLAMM_MEMBER_GROUP";
const LIBRARY: &str = "KLAMM_MEMBER_LIBRARY";
const NAME: &str = "KLAMM_MEMBER_NAME";
const BOOTSTRAP: &str = "KLAMM_MEMBER_BOOTSTRAP";
const DIARY: &str = "KLAMM_MEMBER_DIARY";

impl Task {
    fn protocol(&self) -> Protocol {
        match (self.manner, self.library) {
            (Manner::Consumer | Manner::ConsumerStatic, _) => Protocol::Consumer,
            (Manner::Migrating, Library::Librdkafka) => Protocol::Consumer,
            _ => Protocol::Classic,
        }
    }

    /// It gives up only what others are to have.
    fn is_cooperative(&self) -> bool {
        self.protocol() == Protocol::Consumer
            || matches!(self.manner, Manner::CooperativeSticky | Manner::Mixed)
    }

    pub fn start(&self) -> Child {
        let binary = env::current_exe().expect("this is a program");
        Command::new(binary)
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("member::a_member_works_until_it_is_told_to_leave")
            .env(GROUP, self.manner.group())
            .env(LIBRARY, format!("{:?}", self.library))
            .env(NAME, &self.name)
            .env(BOOTSTRAP, &self.bootstrap)
            .env(DIARY, &self.diary)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the member starts")
    }

    /// `None` if nobody has asked for a member.
    fn of_environment() -> Option<Task> {
        let group = env::var(GROUP).ok()?;
        let told = |name| env::var(name).expect("a member is told everything");
        Some(Task {
            manner: Manner::of_group(&group),
            library: match &*told(LIBRARY) {
                "Klamm" => Library::Klamm,
                _ => Library::Librdkafka,
            },
            name: told(NAME),
            bootstrap: told(BOOTSTRAP),
            diary: told(DIARY).into(),
        })
    }
}

#[test]
#[ignore = "the chaos starts its members so"]
fn a_member_works_until_it_is_told_to_leave() {
    let Some(task) = Task::of_environment() else {
        return;
    };
    let leaves = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let leaves = leaves.clone();
        move || {
            // It ends also when the one who has started this process ends.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            leaves.store(true, SeqCst);
        }
    });
    let leaves = || leaves.load(SeqCst);
    match task.library {
        Library::Librdkafka => librdkafkas::work(&task, leaves),
        Library::Klamm => klamms::work(&task, leaves),
    }
}

/// What the member owns, and notes.
struct Life {
    diary: Diary,
    owns: BTreeSet<i32>,
    /// Or its epoch; 0 or less outside of the group.
    generation: i32,
    /// It gives up what it owns by itself.
    leaves: bool,
}

impl Life {
    fn begin(task: &Task) -> Life {
        Life {
            diary: Diary::begin(&task.diary),
            owns: BTreeSet::new(),
            generation: -1,
            leaves: false,
        }
    }

    fn given(&mut self, partition: i32, offset: i64, value: &[u8]) {
        let value = std::str::from_utf8(value).unwrap();
        self.diary.note(&Entry::Given {
            partition,
            offset,
            value: value.trim_end().into(),
        });
    }

    /// It is in this generation, if it wasn't.
    fn comes_into(&mut self, generation: i32) {
        if generation != self.generation {
            self.generation = generation;
            self.owns(self.owns.clone());
        }
    }

    /// It owns just these from now on.
    fn owns(&mut self, partitions: BTreeSet<i32>) {
        self.owns = partitions.clone();
        self.diary.note(&Entry::Owns {
            generation: self.generation,
            partitions,
        });
    }

    fn takes(&mut self, partitions: &BTreeSet<i32>) {
        self.owns(self.owns.union(partitions).copied().collect());
    }

    /// As it was told to.
    fn gives_up(&mut self, partitions: BTreeSet<i32>) {
        if self.leaves {
            return self.loses(&partitions);
        }
        self.owns.retain(|owned| !partitions.contains(owned));
        self.diary.note(&Entry::GaveUp {
            generation: self.generation,
            partitions,
        });
    }

    /// Others may have had it already.
    fn loses(&mut self, partitions: &BTreeSet<i32>) {
        self.owns(self.owns.difference(partitions).copied().collect());
    }
}
