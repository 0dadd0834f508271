//! Group commit: what must be synced, in one job that runs off the arbiter while appends go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Log;
use crate::model::Offset;
use crate::storage::checkpoint::CheckpointJob;
use crate::storage::fs::{File, FileSystem};
use crate::storage::lease::Lease;

/// What a job has put on disk: give it to [`Log::complete_sync`] as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Everything below it.
    pub offset: Offset,
    /// How often the log had been truncated by then: what was cut since doesn't count.
    truncations: u64,
    /// How many segments' names had been made by then.
    names: u64,
}

/// What was written since the last sync, other than to the active segment.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: Vec<UnsyncedFile>,
    /// How many segments were made since the log was opened, and how many of their names are on
    /// disk.
    names_made: u64,
    names_synced: u64,
    /// The log's own directory, first checkpoint or witness aren't on disk.
    new_log: bool,
}

/// A file of a sealed segment: its data, or an index.
#[derive(Debug)]
struct UnsyncedFile {
    segment: Offset,
    /// Where the next segment starts.
    next: Offset,
    /// Which segment's making sealed it: a job that knew of that one has this file.
    made: u64,
    file: Arc<dyn File>,
}

impl Unsynced {
    /// A segment was sealed at `base`, where another begins.
    pub fn note_roll(&mut self, segment: Offset, base: Offset, files: Vec<Arc<dyn File>>) {
        self.names_made += 1;
        let made = self.names_made;
        self.files
            .extend(files.into_iter().map(|file| UnsyncedFile {
                segment,
                next: base,
                made,
                file,
            }));
    }

    /// Names may have been made in an earlier life that nobody synced.
    pub fn note_names(&mut self) {
        self.names_made += 1;
    }

    /// Up to where all files are on disk, indexes too, if what is below `synced` is.
    pub fn recovery_point(&self, synced: Offset) -> Offset {
        let bases = self.files.iter().map(|f| f.segment);
        bases.fold(synced, Offset::min)
    }

    pub fn note_new_log(&mut self) {
        self.new_log = true;
        self.names_made += 1;
    }

    /// The first checkpoint was written, outside of a sync.
    pub fn note_first_checkpoint(&mut self) {
        self.new_log = false;
    }

    /// Whether the log was made and not synced since.
    pub fn is_new_log(&self) -> bool {
        self.new_log
    }

    fn names(&self) -> Names {
        match self.names_made == self.names_synced {
            true => Names::Unchanged,
            false => Names::Changed,
        }
    }

    fn covered(&mut self, covered: Covered) {
        self.files.retain(|f| f.made > covered.names);
        self.names_synced = self.names_synced.max(covered.names);
        // The first sync of a new log has its first checkpoint.
        self.new_log &= self.names_synced == 0;
    }

    /// The segments below `start` are gone.
    pub fn forget_below(&mut self, start: Offset) {
        self.files.retain(|f| f.next > start);
    }

    /// All files are gone, and the names of those in their place on disk.
    pub fn forget_all(&mut self) {
        self.files.clear();
        self.names_synced = self.names_made;
        self.new_log = false;
    }

    /// The files beyond `offset` are gone.
    pub fn truncate(&mut self, offset: Offset) {
        self.files.retain(|f| f.next <= offset);
    }
}

/// One sync of one log. It holds its own files: the log may go on, roll, or be dropped.
#[derive(Debug)]
pub struct SyncJob {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    files: Vec<Arc<dyn File>>,
    names: Names,
    first_checkpoint: Option<CheckpointJob>,
    covers: Covered,
    _lease: Lease,
}

/// Whether names in the log's directory must be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Unchanged,
    Changed,
}

impl SyncJob {
    /// Puts it all on disk, and returns then. An error is final: the process must end.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        if let Some(checkpoint) = &self.first_checkpoint {
            checkpoint.run()?;
        }
        match self.names {
            Names::Unchanged => Ok(()),
            Names::Changed => self.fs.sync_dir(&self.dir),
        }
    }

    /// Puts it on disk with everything else that the file system holds, which must be followed by
    /// [`Self::finish_after_file_system`] of each job that this is done for.
    pub fn sync_file_system(&self) -> io::Result<()> {
        self.fs.sync_file_system(&self.dir)
    }

    /// What is left to do once the whole file system was synced, after the job began.
    pub fn finish_after_file_system(&self) -> io::Result<()> {
        match &self.first_checkpoint {
            // It is written, renamed and synced for itself.
            Some(checkpoint) => checkpoint.run(),
            None => Ok(()),
        }
    }

    pub fn covers(&self) -> Covered {
        self.covers
    }

    /// The directory of the log, which says whose job it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Log {
    /// A sync of everything that was appended so far; `None` when it is all on disk. One a log at
    /// a time: what is appended while it runs is for the next.
    pub fn begin_sync(&self) -> Option<SyncJob> {
        if self.synced_offset == self.end_offset && self.unsynced.names() == Names::Unchanged {
            return None;
        }
        let mut files: Vec<_> = self.unsynced.files.iter().map(|f| f.file.clone()).collect();
        if self.active.size > 0 {
            files.push(self.active.file.clone());
        }
        Some(SyncJob {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            files,
            names: self.unsynced.names(),
            first_checkpoint: self.unsynced.new_log.then(|| self.checkpoint()),
            covers: Covered {
                offset: self.end_offset,
                truncations: self.truncations,
                names: self.unsynced.names_made,
            },
            _lease: self.lease.clone(),
        })
    }

    /// Notes that a job has run. Where the log was truncated meanwhile it covers nothing.
    pub fn complete_sync(&mut self, covered: Covered) {
        if covered.truncations != self.truncations {
            return;
        }
        self.unsynced.covered(covered);
        self.active.note_sync();
        self.synced_offset = self.synced_offset.max(covered.offset);
    }
}
