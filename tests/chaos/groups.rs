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
use crate::group_history::{GroupHistory, Life, Look, Violation};
use crate::member::{Library, Manner, Task};
use crate::nodes::{Cluster, WAIT_MAX};
use crate::writers::{PARTITIONS, TOPIC};

/// Where groups are kept, and in how many partitions: among them they have a coordinator on each node.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub const COORDINATORS: i32 = 3;
/// How many members each group has.
const MEMBERS: usize = 2;
/// Between two looks at what a group has committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A place in a group that one process after the other has.
struct Member {
    manner: Manner,
    library: Library,
    name: String,
    bootstrap: String,
    diaries: PathBuf,
    /// How often it has begun.
    lives: usize,
    process: Option<Child>,
    /// Since when it stands still.
    still_since: Option<Moment>,
    /// From when to when it stood still.
    still: Vec<(Moment, Moment)>,
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
                let library = manner.library(number);
                let mut member = Member {
                    manner,
                    library,
                    name: format!("{}-{number}", manner.group()),
                    bootstrap: match library {
                        Library::Librdkafka => cluster.kafka(),
                        Library::Klamm => cluster.bootstrap(),
                    },
                    diaries: diaries.path().into(),
                    lives: 0,
                    process: None,
                    still_since: None,
                    still: Vec::new(),
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

    /// It hangs, as by SIGSTOP.
    pub fn stop(&mut self, member: usize) {
        self.members[member].stop();
    }

    pub fn go_on(&mut self, member: usize) {
        self.members[member].go_on();
    }

    /// No member has failed.
    pub fn all_run(&mut self) {
        self.members.iter_mut().for_each(Member::runs);
    }

    /// Until every group has committed all records before these offsets, by partition.
    pub async fn await_committed(&mut self, ends: &[i64]) {
        let begun = Instant::now();
        while let Some(behind) = self.watches.iter().find(|watch| !watch.has_committed(ends)) {
            self.members.iter_mut().for_each(Member::runs);
            if begun.elapsed() > WAIT_MAX {
                let (group, told) = (behind.manner.group(), behind.tell().await);
                let kept = self.keep_diaries();
                let kept = kept.display();
                panic!("group {group} stays behind {ends:?}: {told}; the diaries are in {kept}");
            }
            sleep(Duration::from_millis(5)).await;
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
            let members = self.members.iter().filter(|m| m.manner.group() == group);
            let lives: usize = members.clone().map(|member| member.lives).sum();
            let mut told = members.map(|member| member.tell(&mut history));
            let told = told.find(Result::is_err).unwrap_or(Ok(()));
            println!(
                "group {group}: {} generations in {lives} lives",
                history.generations()
            );
            if let Err(violation) = told.and_then(|()| history.check()) {
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
            library: self.library,
            name: self.name.clone(),
            bootstrap: self.bootstrap.clone(),
            diary: self.diary(self.lives),
        };
        self.process = Some(task.start());
    }

    /// It hasn't failed. A static one may be fenced; then another one begins in its place.
    fn runs(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        if let Some(status) = process.try_wait().unwrap() {
            let is_fenced = self.manner.is_static() && status.success();
            assert!(is_fenced, "{} has failed: {status}", self.name);
            self.begin();
        }
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

    fn stop(&mut self) {
        self.still_since = Some(Moment::now());
        self.signal("STOP");
    }

    fn go_on(&mut self) {
        self.signal("CONT");
        if let Some(since) = self.still_since.take() {
            self.still.push((since, Moment::now()));
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
    fn tell(&self, history: &mut GroupHistory) -> Result<(), Violation> {
        for life in 1..=self.lives {
            let owner = match self.manner.is_static() {
                true => self.name.clone(),
                false => format!("{}.{life}", self.name),
            };
            history.lived(Life {
                owner: &owner,
                still: &self.still,
                // A rebalance has librdkafka go back to where the application stands, which it looks up behind the
                // back of a poll: the record that this poll answers comes again (2.12.1, `rd_kafka_consume0` and
                // `rd_kafka_toppar_pause_resume`).
                repeats_last: self.library == Library::Librdkafka,
                entries: entries(&self.diary(life)).unwrap(),
            })?;
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
    client: Client,
    stop: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(manner: Manner, client: Client) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let looks = Arc::<Mutex<Vec<Look>>>::default();
        let watching = watch(manner.group(), client.clone(), stop.clone(), looks.clone());
        Watch {
            manner,
            client,
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

    /// What is known of the group.
    async fn tell(&self) -> String {
        let described = self
            .client
            .admin()
            .describe_group(self.manner.group())
            .await;
        let last = self.looks.lock().unwrap().last().cloned();
        format!("{last:?} of {described:?}")
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
