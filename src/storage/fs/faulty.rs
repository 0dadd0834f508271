//! A file system in memory that loses power.
//!
//! Each file has what was written and what was synced; each directory has the names that are seen
//! and those that are on disk. [`FaultyFs::crash`] gives what a disk could hold after the power
//! went: of what was not synced, anything may be there, in part, or not.
//!
//! What is harsher here than on ext4, where POSIX promises nothing: syncing a file or a directory
//! doesn't put its own name on disk, and names that were not synced come and go independently of each other.

mod file;
mod inode;
mod names;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::file::FaultyFile;
use self::inode::Inode;
use self::names::{NameChange, Names, Node};
use super::{File, FileSystem, Lock, Random, Removed, Space};
use crate::model::Timestamp;

/// What was asked for to go wrong.
#[derive(Clone, Debug, Default)]
struct Faults {
    /// Counts the operations that change something on disk.
    operations: u64,
    /// At this operation the power goes.
    power_lost_at: Option<u64>,
    power_lost: bool,
    /// This operation fails, once.
    error_at: Option<u64>,
    /// All files together may not become larger.
    capacity_bytes: Option<u64>,
    syncs_fail: bool,
}

#[derive(Clone, Debug)]
struct State {
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    random: Random,
    syncs: u64,
    /// What a write notes as the time of its file.
    time: Timestamp,
}

/// The file system. A clone is the same one.
#[derive(Clone)]
pub struct FaultyFs {
    state: Arc<Mutex<State>>,
    at_io: Arc<Mutex<Option<AtIo>>>,
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Read,
    Sync,
}

/// Called before each of them.
type AtIo = Arc<dyn Fn(Io) + Send + Sync>;

impl fmt::Debug for FaultyFs {
    /// Its names only: the content would drown them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.state().names.paths()).finish()
    }
}

fn power_lost() -> io::Error {
    io::Error::other("the power is gone")
}

impl State {
    /// Counts an operation that changes the disk, and fails it if that was asked for.
    fn operation(&mut self) -> io::Result<()> {
        let faults = &mut self.faults;
        if faults.power_lost {
            return Err(power_lost());
        }
        faults.operations += 1;
        if faults.power_lost_at == Some(faults.operations) {
            faults.power_lost = true;
        }
        if faults.error_at == Some(faults.operations) {
            faults.error_at = None;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    /// After the operation at which the power goes nobody hears of its success.
    fn done<T>(&self, value: T) -> io::Result<T> {
        match self.faults.power_lost {
            true => Err(power_lost()),
            false => Ok(value),
        }
    }

    fn alive(&self) -> io::Result<()> {
        self.done(())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn sync_names(&mut self, covered: impl Fn(&NameChange) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if covered(&change) {
                change.apply(&mut self.durable_names);
            } else {
                self.pending.push(change);
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        let live = self.names.files();
        live.iter()
            .map(|i| self.inodes[*i].written.len() as u64)
            .sum()
    }
}

/// When a new file system begins to live.
const FIRST_TIME: Timestamp = Timestamp(1_700_000_000_000);
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl FaultyFs {
    /// An empty file system; the seed decides what a crash leaves.
    pub fn new(seed: u64) -> FaultyFs {
        FaultyFs {
            state: Arc::new(Mutex::new(State {
                inodes: Vec::new(),
                names: Names::default(),
                durable_names: Names::default(),
                pending: Vec::new(),
                locks: BTreeSet::new(),
                faults: Faults::default(),
                random: Random::new(seed),
                syncs: 0,
                time: FIRST_TIME,
            })),
            at_io: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the disk holds after the power went now. What was open on the old one stays there.
    pub fn crash(&self) -> FaultyFs {
        let mut old = self.state();
        old.faults.power_lost = true;
        let State {
            inodes,
            durable_names,
            pending,
            random,
            ..
        } = &mut *old;
        let mut names = durable_names.clone();
        let in_order_up_to = random.below(pending.len() as u64 + 1) as usize;
        let journaled = random.one_in(2);
        for (at, change) in pending.iter().enumerate() {
            let happened = match journaled {
                true => at < in_order_up_to,
                false => random.one_in(2),
            };
            if happened {
                change.apply(&mut names);
            }
        }
        names.drop_orphans();
        let kept = names.files();
        let disk = inodes.iter().enumerate().map(|(number, inode)| {
            let content = match kept.contains(&number) {
                true => inode.after_crash(random),
                false => Vec::new(),
            };
            Inode {
                dirty_from: content.len(),
                written: content.clone(),
                synced: content,
                modified: inode.modified,
            }
        });
        let disk: Vec<Inode> = disk.collect();
        let state = State {
            inodes: disk,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            locks: BTreeSet::new(),
            faults: Faults::default(),
            random: Random::new(old.random.draw()),
            syncs: 0,
            time: old.time,
        };
        FaultyFs {
            state: Arc::new(Mutex::new(state)),
            at_io: Arc::default(),
        }
    }

    /// What the files hold after the process was killed, with the power on: everything.
    pub fn restart(&self) -> FaultyFs {
        let mut state = self.state().clone();
        state.faults = Faults::default();
        state.locks.clear();
        FaultyFs {
            state: Arc::new(Mutex::new(state)),
            at_io: Arc::default(),
        }
    }

    /// How many operations have changed the disk so far.
    pub fn operations(&self) -> u64 {
        self.state().faults.operations
    }

    /// How many files were synced so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The power goes while this operation is carried out, counted from the first.
    pub fn lose_power_at(&self, operation: u64) {
        self.state().faults.power_lost_at = Some(operation);
    }

    /// From now on it is this late.
    pub fn set_time(&self, time: Timestamp) {
        self.state().time = time;
    }

    pub fn has_power(&self) -> bool {
        !self.state().faults.power_lost
    }

    /// This operation fails with EIO, once.
    pub fn fail_at(&self, operation: u64) {
        self.state().faults.error_at = Some(operation);
    }

    /// From now on all files together can't become larger than this (ENOSPC).
    pub fn limit_capacity(&self, bytes: Option<u64>) {
        self.state().faults.capacity_bytes = bytes;
    }

    /// The bytes in all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// From now on each sync of a file fails, and what it should have written is lost: the
    /// kernel marks such pages clean.
    pub fn fail_syncs(&self) {
        self.state().faults.syncs_fail = true;
    }

    /// From now on each read and each sync of a file calls this first, and may be held up by it.
    pub fn at_each_io(&self, call: impl Fn(Io) + Send + Sync + 'static) {
        let mut at_io = self.at_io.lock().unwrap_or_else(PoisonError::into_inner);
        *at_io = Some(Arc::new(call));
    }

    fn before(&self, io: Io) {
        let at_io = self
            .at_io
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(call) = at_io {
            call(io);
        }
    }

    /// Flips one bit of a file, on disk and in memory.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) {
        let mut state = self.state();
        if let Some(inode) = state.names.file(path) {
            let inode = &mut state.inodes[inode];
            for content in [&mut inode.written, &mut inode.synced] {
                if let Some(byte) = content.get_mut(position as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }
}

impl FaultyFs {
    fn file(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(FaultyFile {
            fs: self.clone(),
            inode,
        })
    }
}

#[derive(Debug)]
struct FaultyLock {
    fs: FaultyFs,
    path: PathBuf,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.fs.state().locks.remove(&self.path);
    }
}

impl FileSystem for FaultyFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.state();
        state.alive()?;
        match state.names.file(path) {
            Some(inode) => Ok(self.file(inode)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.operation()?;
        if !path.parent().is_some_and(|dir| state.names.is_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match state.names.file(path) {
            Some(inode) => {
                state.inodes[inode].dirty_from = 0;
                state.inodes[inode].written.clear();
                inode
            }
            None => {
                let time = state.time;
                state.inodes.push(Inode::new(time));
                let inode = state.inodes.len() - 1;
                state.change(NameChange::Link(path.to_owned(), Node::File(inode)));
                inode
            }
        };
        state.done(())?;
        Ok(self.file(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        state.done(())
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.change(NameChange::Exchange(from.to_owned(), to.to_owned()));
        state.done(())
    }

    fn remove(&self, path: &Path) -> io::Result<Removed> {
        let mut state = self.state();
        state.operation()?;
        if state.names.file(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(NameChange::Unlink(path.to_owned()));
        state.done(Removed::default())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let inside = state.names.within(path);
        for name in inside {
            state.change(NameChange::Unlink(name));
        }
        state.done(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        if !state.names.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = state.names.paths().filter(|p| p.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name()?.to_str().map(str::to_owned);
        Ok(children.filter_map(name).collect())
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.names.is_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let ancestors: Vec<&Path> = path.ancestors().collect();
        for dir in ancestors.into_iter().rev() {
            if !state.names.is_dir(dir) {
                state.operation()?;
                state.change(NameChange::Link(dir.to_owned(), Node::Dir));
            }
        }
        state.done(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.alive()?;
        state.sync_names(|change| change.parent() == Some(dir));
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        let total_bytes = state.faults.capacity_bytes.unwrap_or(u64::MAX);
        Ok(Space {
            total_bytes,
            usable_bytes: total_bytes.saturating_sub(state.used_bytes()),
        })
    }

    fn sync_file_system(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.alive()?;
        if state.faults.syncs_fail {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.syncs += 1;
        state.sync_names(|_| true);
        state.inodes.iter_mut().for_each(Inode::sync);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.state();
        state.alive()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(FaultyLock {
            fs: self.clone(),
            path: path.to_owned(),
        })))
    }
}
