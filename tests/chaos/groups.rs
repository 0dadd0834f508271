//! Consumer groups at work while it happens: members that are processes of their own, and somebody who looks
//! all the while what is committed.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klamm::client::Client;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::diary::{entries, Moment};
use crate::group_history::{GroupHistory, Look};
use crate::member::{Manner, Task};
use crate::nodes::{Cluster, WAIT_MAX};
use crate::writers::{PARTITIONS, TOPIC};

/// Where groups are kept, and in how many partitions: each of these groups has a coordinator of its own.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub const COORDINATORS: i32 = 3;
/// How many members each group has.
const MEMBERS: usize = 2;
/// Between two looks at what a group has committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A place in a group that one process after the other has.
struct Member {
    manner: Manner,
    name: String,
    bootstrap: String,
    diaries: PathBuf,
    /// How often it has begun.
    lives: usize,
    process: Option<Child>,
}

/// A group for each [`Manner`].
pub struct Groups {
    members: Vec<Member>,
    watches: Vec<Watch>,
    diaries: TempDir,
}

impl Groups {
    pub async fn start(cluster: &Cluster) -> Groups {
        let diaries = tempfile::tempdir().unwrap();
        let (mut members, mut watches) = (Vec::new(), Vec::new());
        for manner in Manner::ALL {
            for number in 0..MEMBERS {
                let mut member = Member {
                    manner,
                    name: format!("{}-{number}", manner.group()),
                    bootstrap: cluster.kafka(),
                    diaries: diaries.path().into(),
                    lives: 0,
                    process: None,
                };
                member.begin();
                members.push(member);
            }
            watches.push(Watch::start(manner, cluster.client().await));
        }
        Groups {
            members,
            watches,
            diaries,
        }
    }

    /// How many members there are in all.
    pub const MEMBERS: usize = MEMBERS * Manner::ALL.len();

    pub fn name(&self, member: usize) -> &str {
        &self.members[member].name
    }

    /// A member begins that had ended.
    pub fn begin(&mut self, member: usize) {
        self.members[member].begin();
    }

    /// `kill -9`.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// It leaves in good order; returns when it has.
    pub fn leave(&mut self, member: usize) {
        self.members[member].leave();
    }

    /// It hangs, or no longer.
    pub fn signal(&self, member: usize, name: &str) {
        self.members[member].signal(name);
    }

    /// No member has ended by itself.
    pub fn all_run(&mut self) {
        for member in &mut self.members {
            let ended = match &mut member.process {
                Some(process) => process.try_wait().unwrap(),
                None => None,
            };
            assert_eq!(ended, None, "{} has ended by itself", member.name);
        }
    }

    /// Until every group has committed all records before these offsets, by partition.
    pub async fn await_committed(&self, ends: &[i64]) {
        let begun = Instant::now();
        for watch in &self.watches {
            while !watch.has_committed(ends) {
                assert!(
                    begun.elapsed() < WAIT_MAX,
                    "group {} stays behind {ends:?}: {:?}",
                    watch.manner.group(),
                    watch.looks.lock().unwrap().last()
                );
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Ends all of them, and checks what they did against what is in each partition, from offset 0 on.
    pub async fn stop_and_check(mut self, records: &[Vec<(i64, Vec<u8>)>]) {
        self.members.iter_mut().for_each(Member::leave);
        for watch in std::mem::take(&mut self.watches) {
            let group = watch.manner.group();
            let mut history = GroupHistory::new(records);
            watch
                .stop()
                .await
                .into_iter()
                .for_each(|look| history.seen(look));
            let mut members = self.members.iter().filter(|m| m.manner.group() == group);
            let checked = members
                .try_for_each(|member| member.tell(&mut history))
                .and_then(|()| history.check());
            if let Err(violation) = checked {
                let kept = self.keep_diaries();
                panic!(
                    "group {group}: {violation}; the diaries are in {}",
                    kept.display()
                );
            }
        }
    }

    /// They tell more than the violation does.
    fn keep_diaries(&mut self) -> PathBuf {
        self.diaries.disable_cleanup(true);
        self.diaries.path().into()
    }
}

impl Member {
    fn begin(&mut self) {
        self.lives += 1;
        let task = Task {
            manner: self.manner,
            name: self.name.clone(),
            bootstrap: self.bootstrap.clone(),
            diary: self.diary(self.lives),
        };
        self.process = Some(task.start());
    }

    fn diary(&self, life: usize) -> PathBuf {
        self.diaries.join(format!("{}.{life}", self.name))
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn leave(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            let status = process.wait().unwrap();
            assert!(status.success(), "{} has failed: {status}", self.name);
        }
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            let pid = process.id().to_string();
            let told = Command::new("kill").args(["-s", name, &pid]).status();
            assert!(told.expect("there is a command kill").success());
        }
    }

    /// What it has noted in all its lives.
    fn tell(&self, history: &mut GroupHistory) -> Result<(), crate::group_history::Violation> {
        for life in 1..=self.lives {
            let owner = match self.manner {
                Manner::Static => self.name.clone(),
                _ => format!("{}.{life}", self.name),
            };
            history.lived(&owner, entries(&self.diary(life)).unwrap())?;
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Looks again and again at what a group has committed.
struct Watch {
    manner: Manner,
    stop: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(manner: Manner, client: Client) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let looks = Arc::<Mutex<Vec<Look>>>::default();
        let watching = watch(manner.group(), client, stop.clone(), looks.clone());
        Watch {
            manner,
            stop,
            looks,
            task: tokio::spawn(watching),
        }
    }

    fn has_committed(&self, ends: &[i64]) -> bool {
        let looks = self.looks.lock().unwrap();
        let last = looks.last();
        last.is_some_and(|look| look.committed.iter().zip(ends).all(|(has, end)| has >= end))
    }

    async fn stop(self) -> Vec<Look> {
        self.stop.store(true, SeqCst);
        self.task.await.unwrap();
        std::mem::take(&mut self.looks.lock().unwrap())
    }
}

async fn watch(
    group: &'static str,
    client: Client,
    stop: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
) {
    while !stop.load(SeqCst) {
        let asked = Moment::now();
        // Nobody may be there to ask just now.
        if let Ok(offsets) = client.admin().group_offsets(group).await {
            let committed = |partition| {
                let offset = offsets.get(&(TOPIC.to_owned(), partition));
                offset.map_or(0, |offset| offset.0)
            };
            let look = Look {
                asked,
                told: Moment::now(),
                committed: (0..PARTITIONS).map(committed).collect(),
            };
            looks.lock().unwrap().push(look);
        }
        sleep(LOOK_INTERVAL).await;
    }
}
