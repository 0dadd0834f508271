//! Linux's file system, through `rustix`.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::{flock, FallocateFlags, FlockOperation, RenameFlags, CWD};
use rustix::io::{Errno, ReadWriteFlags};

use super::{File, FileSystem, Lock, Space};
use crate::model::Timestamp;

/// How many slices one write takes (`IOV_MAX`).
const SLICES_A_WRITE_MAX: usize = 1024;

/// So much of a removed file is freed at once. The syncs of others wait for as long as that takes: 128 MiB
/// hold them up for 20 ms on ext4.
const FREE_BYTES: u64 = 2 << 20;
/// A disk that has hung is no reason to rest for longer.
const FREE_REST_MAX: Duration = Duration::from_millis(100);

/// The machine's own file system.
///
/// A large file is freed piece by piece when it is removed, but only if nobody has it open: a shared lock
/// (`flock`) says so, which everybody takes who opens a file here.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

#[derive(Debug)]
pub(super) struct RealFile(fs::File);

#[cfg(feature = "chaos")]
impl RealFile {
    pub fn as_fd(&self) -> &fs::File {
        &self.0
    }
}

/// Says that the file is in use. `NotFound` when it was removed since it was opened: then it can be empty.
fn in_use(file: fs::File) -> io::Result<fs::File> {
    // A file system without locks: then who removes the file gets none either, and doesn't cut it.
    if flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
        return Err(io::ErrorKind::NotFound.into());
    }
    match file.metadata()?.nlink() {
        0 => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(file),
    }
}

/// Gives the disk back what a file holds that has no name any more, unless somebody has it open: then it is
/// freed when that one closes it. One that has another name (a backup by hard links, say) stays as it is.
fn free(file: &fs::File) -> io::Result<()> {
    let found = file.metadata()?;
    let mut len = found.len();
    let is_spared = found.nlink() > 0 || len <= FREE_BYTES;
    if is_spared || flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    while len > 0 {
        let began = Instant::now();
        len = len.saturating_sub(FREE_BYTES);
        file.set_len(len)?;
        // Then the disk is left to others for as long.
        std::thread::sleep(began.elapsed().min(FREE_REST_MAX));
    }
    Ok(())
}

/// A file whose name is gone. Dropped, it gives the disk back what it holds, piece by piece.
#[derive(Debug, Default)]
pub struct Removed(Option<fs::File>);

impl Drop for Removed {
    fn drop(&mut self) {
        let freed = self.0.as_ref().map_or(Ok(()), free);
        // Then the kernel does it, in one piece.
        if let Err(e) = freed {
            log::debug!("a removed file can't be freed in pieces: {e}");
        }
    }
}

/// What the callers get: the file, which in a build for chaos tests notes how far it was synced.
fn handed_out(file: fs::File) -> io::Result<Arc<dyn File>> {
    let file = RealFile(in_use(file)?);
    #[cfg(feature = "chaos")]
    let file = super::synced_mark::MarkedFile::new(file)?;
    Ok(Arc::new(file))
}

/// A lock by `flock`, which the kernel drops with the file.
#[derive(Debug)]
struct RealLock {
    _file: fd_lock::RwLock<fs::File>,
}

impl Lock for RealLock {}

impl File for RealFile {
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut position = position;
        let mut parts = parts.to_vec();
        let mut rest = &mut parts[..];
        // Drops what is empty at the start, which would look like a write that wrote nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let slices = &rest[..rest.len().min(SLICES_A_WRITE_MAX)];
            match rustix::io::pwritev(&self.0, slices, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match rustix::io::pread(&self.0, &mut buffer[read..], position + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(read)
    }

    fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        loop {
            let parts = &mut [IoSliceMut::new(buffer)];
            match rustix::io::preadv2(&self.0, parts, position, ReadWriteFlags::NOWAIT) {
                Ok(n) => return Ok(Some(n)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                // A file system that can't tell what is in memory: ask for a plain read.
                Err(Errno::OPNOTSUPP) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, position: u64, len: u64) -> io::Result<()> {
        rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, position, len)?;
        Ok(())
    }

    fn modified(&self) -> io::Result<Timestamp> {
        let since_epoch = self.0.metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let ms = since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Ok(Timestamp(ms))
    }
}

impl FileSystem for RealFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        handed_out(fs::OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(in_use(fs::File::open(path)?)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        #[cfg(feature = "chaos")]
        super::full_disk::check(path)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        handed_out(options.open(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
            exchanged => Ok(exchanged?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<Removed> {
        let file = fs::OpenOptions::new().write(true).open(path);
        fs::remove_file(path)?;
        Ok(Removed(file.ok()))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => self.remove_dir_all(&entry.path())?,
                false => drop(self.remove(&entry.path())?),
            }
        }
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        #[cfg(feature = "chaos")]
        super::full_disk::check(path)?;
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        rustix::fs::syncfs(fs::File::open(path)?)?;
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            usable_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = fd_lock::RwLock::new(options.open(path)?);
        match lock.try_write() {
            // The guard would unlock when dropped, and it can't be kept beside what it borrows:
            // forgotten, it leaves the lock to the file, which unlocks when it is closed.
            Ok(guard) => std::mem::forget(guard),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
        Ok(Some(Box::new(RealLock { _file: lock })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 3 * FREE_BYTES + 5;

    fn large_file(path: &Path) -> Arc<dyn File> {
        let file = RealFs.create(path).unwrap();
        file.write_vectored_at(&[IoSlice::new(b"end")], LARGE - 3)
            .unwrap();
        file
    }

    #[test]
    fn a_removed_file_is_freed_when_its_remover_has_the_time_if_nobody_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        drop(large_file(&path));
        let watching = fs::File::open(&path).unwrap();
        let removed = RealFs.remove(&path).unwrap();
        assert_eq!(watching.metadata().unwrap().len(), LARGE);
        drop(removed);
        assert_eq!(watching.metadata().unwrap().len(), 0);
        let error = RealFs.open_read_only(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // As if it had been opened just before, by the name.
        let error = in_use(watching).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_removed_file_stays_whole_for_those_who_have_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dir").join("file");
        fs::create_dir(dir.path().join("dir")).unwrap();
        let writer = large_file(&path);
        let reader = RealFs.open_read_only(&path).unwrap();
        drop(writer);
        RealFs.remove_dir_all(&dir.path().join("dir")).unwrap();
        assert!(!path.exists());
        let mut end = [0; 3];
        assert_eq!(reader.read_at(&mut end, LARGE - 3).unwrap(), 3);
        assert_eq!(&end, b"end");
    }

    #[test]
    fn a_removed_file_stays_whole_under_its_other_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, backup) = (dir.path().join("file"), dir.path().join("backup"));
        drop(large_file(&path));
        fs::hard_link(&path, &backup).unwrap();
        RealFs.remove(&path).unwrap();
        assert_eq!(fs::metadata(&backup).unwrap().len(), LARGE);
    }

    #[test]
    fn a_replaced_file_has_the_other_name() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        RealFs.replace(&new, &old).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"new");
        assert_eq!(fs::read(&new).unwrap(), b"old");
    }

    #[test]
    fn more_slices_than_one_write_takes_are_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs.create(&dir.path().join("file")).unwrap();
        let parts: Vec<Vec<u8>> = (0..5_000).map(|n| vec![n as u8; n % 3]).collect();
        let slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_vectored_at(&slices, 7).unwrap();
        file.write_vectored_at(&[IoSlice::new(b"")], 0).unwrap();
        let expected = [vec![0; 7], parts.concat()].concat();
        let mut read = vec![1; expected.len() + 1];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), expected.len());
        assert!(read[..expected.len()] == expected);
    }
}
