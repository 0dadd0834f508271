//! The data directory: everything that one broker keeps.
//!
//! ```text
//! <data>/lock              held while a broker runs: a second one is refused
//! <data>/meta.properties   whose data this is: node and cluster
//! <data>/clean-shutdown    there between a clean stop and the next start
//! <data>/logs/<topic id>-<partition>/
//! <data>/witnesses/<topic id>-<partition>    see [`super::witness`]
//! <data>/quarantine/<topic id>-<partition>.<n>    logs that were corrupt, and filled again by others
//! <data>/metadata/
//! ```
//!
//! The clean mark is taken (read, removed, and its removal synced) before anything else is
//! written: a broker that dies at any later moment is found to have died. A mark that can't be
//! read counts as none.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use super::fs::{
    create_dir_durably, parent_of, read_all, replace_file, FileSystem, Lock, TEMPORARY_SUFFIX,
};
use super::log::Shutdown;
use super::witness::{LogHome, Witness};
use crate::model::{BrokerId, ClusterId, Incarnation, PartitionId};

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "meta.properties";
const CLEAN_FILE: &str = "clean-shutdown";
/// As which broker this node was registered last.
const REGISTRATION_FILE: &str = "registration";
const LOGS_DIR: &str = "logs";
const WITNESSES_DIR: &str = "witnesses";
const QUARANTINE_DIR: &str = "quarantine";
/// So many corrupt logs of one partition are kept: a disk that spoils more than these is no place for it.
const PUT_ASIDE_MAX: usize = 3;
const METADATA_DIR: &str = "metadata";
/// What the name of a log's directory ends with while it is removed.
const DELETED_SUFFIX: &str = ".deleted";
/// The version of this layout, in the identity file.
const LAYOUT_VERSION: &str = "1";

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    #[error(
        "the data directory {} is in use by another broker: stop it, or set [node] data_dir",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("can't {operation} {}: {source}", file.display())]
    Storage {
        operation: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    /// The directory belongs to another node or cluster, or its identity can't be read.
    #[error("{}: {reason}", file.display())]
    Identity { file: PathBuf, reason: String },
    #[error(
        "{PUT_ASIDE_MAX} corrupt logs of {id} lie in {} already: look after the disk, and remove them",
        dir.display()
    )]
    TooManyPutAside { id: PartitionId, dir: PathBuf },
}

fn storage<'a>(
    operation: &'static str,
    file: &'a Path,
) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |source| DataDirError::Storage {
        operation,
        file: file.to_owned(),
        source,
    }
}

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: BrokerId,
    pub cluster_id: ClusterId,
}

/// An open data directory, locked until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    identity: Option<Identity>,
    /// Who left the clean mark.
    closed_by: Option<Incarnation>,
    registration: Option<i64>,
    _lock: Box<dyn Lock>,
}

impl DataDir {
    /// Opens the directory, or makes one; locks it, and takes the clean mark.
    pub fn open(fs: Arc<dyn FileSystem>, path: &Path) -> Result<DataDir, DataDirError> {
        for dir in [LOGS_DIR, WITNESSES_DIR] {
            let dir = path.join(dir);
            create_dir_durably(&*fs, &dir).map_err(storage("create", &dir))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = fs.lock(&lock_path).map_err(storage("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| DataDirError::InUse(path.to_owned()))?;
        let mut dir = DataDir {
            fs,
            path: path.to_owned(),
            identity: None,
            closed_by: None,
            registration: None,
            _lock: lock,
        };
        dir.identity = dir.read_identity()?;
        dir.closed_by = dir.take_clean_mark()?;
        dir.registration = dir.read_registration()?;
        dir.purge()?;
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the last run ended; a new directory counts as unclean.
    pub fn shutdown_of_last_run(&self) -> Shutdown {
        match self.closed_by {
            Some(_) => Shutdown::Clean,
            None => Shutdown::Unclean,
        }
    }

    /// The incarnation that closed the directory cleanly, if one did.
    pub fn closed_by(&self) -> Option<Incarnation> {
        self.closed_by
    }

    /// The broker epoch of the last registration that was noted.
    pub fn registration(&self) -> Option<i64> {
        self.registration
    }

    /// Notes the broker epoch of this life: whether the next one has everything that this one has
    /// acknowledged is judged by it.
    pub fn note_registration(&self, broker_epoch: i64) -> Result<(), DataDirError> {
        let file = self.path.join(REGISTRATION_FILE);
        let text = format!("version={LAYOUT_VERSION}\nbroker_epoch={broker_epoch}\n");
        replace_file(&*self.fs, &file, text.as_bytes()).map_err(storage("write", &file))
    }

    fn read_registration(&self) -> Result<Option<i64>, DataDirError> {
        let file = self.path.join(REGISTRATION_FILE);
        match read_all(&*self.fs, &file) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).unwrap_or_default();
                Ok(value_of(&text, "broker_epoch").and_then(|epoch| epoch.parse().ok()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(storage("read", &file)(e)),
        }
    }

    /// `None` where the directory is new.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Refuses to be the data of another node than the one whose it is.
    pub fn check_node(&self, node_id: BrokerId) -> Result<(), DataDirError> {
        match &self.identity {
            Some(mine) if mine.node_id != node_id => Err(DataDirError::Identity {
                file: self.path.join(IDENTITY_FILE),
                reason: format!(
                    "this is the data of node {} of cluster {}, and node {node_id} was started",
                    mine.node_id, mine.cluster_id
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Makes the directory that of `identity`; refused where it is somebody else's.
    pub fn claim(&mut self, identity: &Identity) -> Result<(), DataDirError> {
        let file = self.path.join(IDENTITY_FILE);
        match &self.identity {
            Some(mine) if mine == identity => Ok(()),
            Some(mine) => Err(DataDirError::Identity {
                file,
                reason: format!(
                    "this is the data of node {} of cluster {}, and node {} of cluster {} was started",
                    mine.node_id, mine.cluster_id, identity.node_id, identity.cluster_id
                ),
            }),
            None => {
                let text = format!(
                    "version={LAYOUT_VERSION}\nnode.id={}\ncluster.id={}\n",
                    identity.node_id, identity.cluster_id
                );
                // A life before may have made the directory, and been killed before it was synced.
                let parent = parent_of(&self.path);
                self.fs.sync_dir(parent).map_err(storage("sync", parent))?;
                replace_file(&*self.fs, &file, text.as_bytes()).map_err(storage("write", &file))?;
                self.identity = Some(identity.clone());
                Ok(())
            }
        }
    }

    /// The directory of a partition's log.
    pub fn log_dir(&self, id: &PartitionId) -> PathBuf {
        self.path.join(LOGS_DIR).join(id.to_string())
    }

    /// Where a partition's log lives, and what says so.
    pub fn log_home(&self, id: &PartitionId) -> LogHome {
        let witness = self.path.join(WITNESSES_DIR).join(id.to_string());
        LogHome {
            dir: self.log_dir(id),
            witness: Witness::at(witness),
        }
    }

    /// The partitions that have a log here, ascending.
    pub fn logs(&self) -> Result<BTreeSet<PartitionId>, DataDirError> {
        self.partitions_in(LOGS_DIR)
    }

    /// The partitions that have a log here, or a witness of one, ascending.
    pub fn traces(&self) -> Result<BTreeSet<PartitionId>, DataDirError> {
        let witnesses = self.partitions_in(WITNESSES_DIR)?;
        Ok(self.logs()?.union(&witnesses).copied().collect())
    }

    /// The partitions that have a witness, and no log: those whose log was lost. A directory without a file
    /// is none.
    pub fn lost_logs(&self) -> Result<BTreeSet<PartitionId>, DataDirError> {
        let mut lost = BTreeSet::new();
        for id in self.partitions_in(WITNESSES_DIR)? {
            let home = self.log_home(&id);
            let is_there = home.has_log(&*self.fs);
            if !is_there.map_err(storage("look for", &home.dir))? {
                lost.insert(id);
            }
        }
        Ok(lost)
    }

    fn partitions_in(&self, dir: &str) -> Result<BTreeSet<PartitionId>, DataDirError> {
        let dir = self.path.join(dir);
        let names = self.fs.list(&dir).map_err(storage("list", &dir))?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// Where the metadata's store is.
    pub fn metadata_dir(&self) -> PathBuf {
        self.path.join(METADATA_DIR)
    }

    /// Removes a partition's log for good: under another name first, so that after a crash it is
    /// either there or rubbish, and never half of it. A log that isn't there is removed already.
    pub fn remove_log(&self, id: &PartitionId) -> Result<(), DataDirError> {
        let logs = self.path.join(LOGS_DIR);
        let dir = self.log_dir(id);
        let deleted = logs.join(format!("{id}{DELETED_SUFFIX}"));
        // First, so that no witness is left whose log was removed.
        let witness = self.log_home(id).witness;
        witness
            .remove(&*self.fs)
            .map_err(storage("remove the witness of", &dir))?;
        if !self.logs()?.contains(id) {
            return Ok(());
        }
        let names = self.fs.list(&logs).map_err(storage("list", &logs))?;
        if names.contains(&format!("{id}{DELETED_SUFFIX}")) {
            self.fs
                .remove_dir_all(&deleted)
                .map_err(storage("remove", &deleted))?;
        }
        self.fs
            .rename(&dir, &deleted)
            .map_err(storage("rename", &dir))?;
        self.fs.sync_dir(&logs).map_err(storage("sync", &logs))?;
        self.fs
            .remove_dir_all(&deleted)
            .map_err(storage("remove", &deleted))
    }

    /// Puts a partition's corrupt log where nobody opens it, and says where that is. Killed in between, the next
    /// start finds it as it was, without its witness.
    pub fn put_aside(&self, id: &PartitionId) -> Result<PathBuf, DataDirError> {
        let quarantine = self.path.join(QUARANTINE_DIR);
        create_dir_durably(&*self.fs, &quarantine).map_err(storage("create", &quarantine))?;
        let names = self.fs.list(&quarantine);
        let names = names.map_err(storage("list", &quarantine))?;
        let mut free = (0..PUT_ASIDE_MAX).map(|n| format!("{id}.{n}"));
        let Some(name) = free.find(|name| !names.contains(name)) else {
            return Err(DataDirError::TooManyPutAside {
                id: *id,
                dir: quarantine,
            });
        };
        let LogHome { dir, witness } = self.log_home(id);
        witness
            .remove(&*self.fs)
            .map_err(storage("remove the witness of", &dir))?;
        let aside = quarantine.join(name);
        self.fs
            .rename(&dir, &aside)
            .map_err(storage("rename", &dir))?;
        for dir in [quarantine, self.path.join(LOGS_DIR)] {
            self.fs.sync_dir(&dir).map_err(storage("sync", &dir))?;
        }
        Ok(aside)
    }

    /// Leaves the clean mark: the last thing that a broker does, after all logs were closed.
    pub fn mark_clean(&self, incarnation: Incarnation) -> Result<(), DataDirError> {
        let file = self.path.join(CLEAN_FILE);
        let text = format!("version={LAYOUT_VERSION}\nincarnation={incarnation}\n");
        replace_file(&*self.fs, &file, text.as_bytes()).map_err(storage("write", &file))
    }

    fn take_clean_mark(&self) -> Result<Option<Incarnation>, DataDirError> {
        let file = self.path.join(CLEAN_FILE);
        let bytes = match read_all(&*self.fs, &file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(storage("read", &file)(e)),
        };
        self.fs.remove(&file).map_err(storage("remove", &file))?;
        self.fs
            .sync_dir(&self.path)
            .map_err(storage("sync", &self.path))?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let incarnation = value_of(&text, "incarnation").and_then(|v| Uuid::parse_str(v).ok());
        if incarnation.is_none() {
            log::warn!("{} can't be read: taken as unclean", file.display());
        }
        Ok(incarnation.map(Incarnation))
    }

    fn read_identity(&self) -> Result<Option<Identity>, DataDirError> {
        let file = self.path.join(IDENTITY_FILE);
        let bytes = match read_all(&*self.fs, &file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(storage("read", &file)(e)),
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let version = value_of(&text, "version");
        let node_id = value_of(&text, "node.id").and_then(|v| v.parse().ok());
        let cluster_id = value_of(&text, "cluster.id").filter(|v| !v.is_empty());
        match (version, node_id, cluster_id) {
            (Some(LAYOUT_VERSION), Some(node_id), Some(cluster_id)) => Ok(Some(Identity {
                node_id: BrokerId(node_id),
                cluster_id: ClusterId(cluster_id.to_owned()),
            })),
            (Some(version), ..) if version != LAYOUT_VERSION => Err(DataDirError::Identity {
                file,
                reason: format!("layout version {version} isn't known to this build"),
            }),
            _ => Err(DataDirError::Identity {
                file,
                reason: "it doesn't say version, node.id and cluster.id".into(),
            }),
        }
    }

    /// Removes what the last run was about to remove or to write.
    fn purge(&self) -> Result<(), DataDirError> {
        let logs = self.path.join(LOGS_DIR);
        let names = self.fs.list(&logs).map_err(storage("list", &logs))?;
        for name in names.iter().filter(|name| name.ends_with(DELETED_SUFFIX)) {
            let dir = logs.join(name);
            self.fs
                .remove_dir_all(&dir)
                .map_err(storage("remove", &dir))?;
        }
        let names = self
            .fs
            .list(&self.path)
            .map_err(storage("list", &self.path))?;
        let temporary = format!(".{TEMPORARY_SUFFIX}");
        for name in names.iter().filter(|name| name.ends_with(&temporary)) {
            let file = self.path.join(name);
            self.fs.remove(&file).map_err(storage("remove", &file))?;
        }
        Ok(())
    }
}

/// The value of a `key=value` line.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| line.split_once('='));
    values.find(|(k, _)| *k == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;
    use crate::storage::fs::{FaultyFs, RealFs};

    const DATA: &str = "/data";

    fn identity(node: i32) -> Identity {
        Identity {
            node_id: BrokerId(node),
            cluster_id: ClusterId("c".into()),
        }
    }

    fn open(fs: &FaultyFs) -> Result<DataDir, DataDirError> {
        DataDir::open(Arc::new(fs.clone()), Path::new(DATA))
    }

    #[test]
    fn a_second_broker_on_the_same_directory_is_refused_by_its_name() {
        let temporary = tempfile::tempdir().unwrap();
        let open = || DataDir::open(Arc::new(RealFs), temporary.path());
        let first = open().unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, DataDirError::InUse(_)));
        let path = temporary.path().display().to_string();
        assert!(error.to_string().contains(&path), "{error}");
        drop(first);
        open().unwrap();
    }

    #[test]
    fn the_clean_mark_is_good_for_one_start() {
        let fs = FaultyFs::new(1);
        let dir = open(&fs).unwrap();
        assert_eq!(dir.shutdown_of_last_run(), Shutdown::Unclean);
        let incarnation = Incarnation::random();
        dir.mark_clean(incarnation).unwrap();
        drop(dir);
        let fs = fs.crash();
        let dir = open(&fs).unwrap();
        assert_eq!(dir.shutdown_of_last_run(), Shutdown::Clean);
        assert_eq!(dir.closed_by(), Some(incarnation));
        drop(dir);
        let dir = open(&fs.crash()).unwrap();
        assert_eq!(dir.shutdown_of_last_run(), Shutdown::Unclean);
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let fs = FaultyFs::new(1);
        let mut dir = open(&fs).unwrap();
        dir.claim(&identity(1)).unwrap();
        drop(dir);
        let mut dir = open(&fs.crash()).unwrap();
        assert_eq!(dir.identity(), Some(&identity(1)));
        dir.claim(&identity(1)).unwrap();
        let error = dir.claim(&identity(2)).unwrap_err().to_string();
        assert!(error.contains("node 1"), "{error}");
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_an_error_and_not_a_new_directory() {
        let fs = FaultyFs::new(1);
        drop(open(&fs).unwrap());
        let file = Path::new(DATA).join(IDENTITY_FILE);
        for text in [
            "",
            "version=2\nnode.id=1\ncluster.id=c\n",
            "version=1\nnode.id=x\n",
        ] {
            replace_file(&fs, &file, text.as_bytes()).unwrap();
            assert!(matches!(open(&fs), Err(DataDirError::Identity { .. })));
        }
    }

    #[test]
    fn a_directory_that_was_claimed_outlives_power_loss_with_all_its_parents() {
        for seed in 0..20 {
            let fs = FaultyFs::new(seed);
            let path = Path::new("/var/lib/klamm");
            let open = |fs: &FaultyFs| DataDir::open(Arc::new(fs.clone()), path).unwrap();
            open(&fs).claim(&identity(1)).unwrap();
            let fs = fs.crash();
            assert!(fs.is_dir(&path.join(LOGS_DIR)).unwrap(), "seed {seed}");
            assert_eq!(open(&fs).identity(), Some(&identity(1)));
        }
    }

    #[test]
    fn a_log_that_is_put_aside_is_there_or_where_it_was_after_a_crash_and_only_so_many_are_kept() {
        let id = PartitionId {
            topic_id: TopicId::random(),
            partition: 3,
        };
        let make_log = |fs: &FaultyFs, dir: &DataDir| {
            let log_dir = dir.log_dir(&id);
            fs.create_dir_all(&log_dir).unwrap();
            dir.log_home(&id).witness.write(fs).unwrap();
            replace_file(fs, &log_dir.join("a"), b"a").unwrap();
            fs.sync_dir(parent_of(&log_dir)).unwrap();
        };
        for operation in 1..20 {
            let fs = FaultyFs::new(operation);
            let dir = open(&fs).unwrap();
            make_log(&fs, &dir);
            fs.lose_power_at(fs.operations() + operation);
            let put_aside = dir.put_aside(&id);
            let fs = fs.crash();
            let dir = open(&fs).unwrap();
            let aside = Path::new(DATA).join(QUARANTINE_DIR).join(format!("{id}.0"));
            let places = [&dir.log_dir(&id), &aside];
            let there = places.map(|place| fs.list(place).is_ok_and(|names| !names.is_empty()));
            assert!(there[0] != there[1], "{operation}: {there:?}");
            assert!(put_aside.is_err() || there[1], "{operation}");
        }
        let fs = FaultyFs::new(1);
        let dir = open(&fs).unwrap();
        for n in 0..PUT_ASIDE_MAX {
            make_log(&fs, &dir);
            let name = format!("{id}.{n}");
            assert!(dir.put_aside(&id).unwrap().ends_with(name));
        }
        make_log(&fs, &dir);
        let refused = dir.put_aside(&id).unwrap_err();
        assert!(matches!(refused, DataDirError::TooManyPutAside { .. }));
        assert!(fs.is_dir(&dir.log_dir(&id)).unwrap());
    }

    #[test]
    fn a_removed_log_is_there_as_a_whole_or_not_at_all_after_a_crash() {
        let id = PartitionId {
            topic_id: TopicId::random(),
            partition: 3,
        };
        for operation in 1..20 {
            let fs = FaultyFs::new(operation);
            let dir = open(&fs).unwrap();
            let log_dir = dir.log_dir(&id);
            fs.create_dir_all(&log_dir).unwrap();
            dir.log_home(&id).witness.write(&fs).unwrap();
            for name in ["a", "b"] {
                replace_file(&fs, &log_dir.join(name), name.as_bytes()).unwrap();
            }
            fs.lose_power_at(fs.operations() + operation);
            let removed = dir.remove_log(&id);
            let fs = fs.crash();
            let dir = open(&fs).unwrap();
            let left = fs.list(&log_dir).unwrap_or_default();
            let witness = dir.log_home(&id).witness;
            let is_witnessed = witness.find(&fs).unwrap().is_some();
            assert!(!is_witnessed || left.len() == 2, "{operation}: {left:?}");
            assert!(left.is_empty() || left.len() == 2, "{operation}: {left:?}");
            if removed.is_ok() {
                assert!(left.is_empty(), "{operation}: {left:?}");
                assert!(!dir.logs().unwrap().contains(&id) || left.is_empty());
            }
        }
    }
}
