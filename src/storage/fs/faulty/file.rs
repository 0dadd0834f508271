//! An open file of a [`FaultyFs`].

use std::io::{self, IoSlice};

use super::super::File;
use super::{FaultyFs, Io, EIO, ENOSPC};
use crate::model::Timestamp;

#[derive(Debug)]
pub(super) struct FaultyFile {
    pub fs: FaultyFs,
    pub inode: usize,
}

impl File for FaultyFile {
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.operation()?;
        let bytes: Vec<u8> = parts
            .iter()
            .map(|part| &part[..])
            .collect::<Vec<_>>()
            .concat();
        let end = position + bytes.len() as u64;
        let len = state.inodes[self.inode].written.len() as u64;
        let grows = end.saturating_sub(len);
        let room = match state.faults.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(state.used_bytes()),
            None => u64::MAX,
        };
        let fits = bytes.len() as u64 - grows.saturating_sub(room).min(bytes.len() as u64);
        let time = state.time;
        let inode = &mut state.inodes[self.inode];
        inode.write(position as usize, &bytes[..fits as usize]);
        inode.modified = time;
        if fits < bytes.len() as u64 {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.done(())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.fs.before(Io::Read);
        let state = self.fs.state();
        state.alive()?;
        let content = &state.inodes[self.inode].written;
        let from = (position as usize).min(content.len());
        let len = buffer.len().min(content.len() - from);
        buffer[..len].copy_from_slice(&content[from..from + len]);
        Ok(len)
    }

    fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        // Sometimes a part is in memory only, sometimes nothing.
        let len = {
            let mut state = self.fs.state();
            match state.random.below(4) {
                0 => return Ok(None),
                1 => state.random.below(buffer.len() as u64 + 1) as usize,
                _ => buffer.len(),
            }
        };
        self.read_at(&mut buffer[..len], position).map(Some)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.before(Io::Sync);
        let mut state = self.fs.state();
        state.operation()?;
        if state.faults.syncs_fail {
            let inode = &mut state.inodes[self.inode];
            inode.dirty_from = inode.written.len();
            return Err(io::Error::from_raw_os_error(EIO));
        }
        state.alive()?;
        state.syncs += 1;
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.operation()?;
        let time = state.time;
        let inode = &mut state.inodes[self.inode];
        inode.dirty_from = inode.dirty_from.min(len as usize).min(inode.written.len());
        inode.written.resize(len as usize, 0);
        inode.modified = time;
        state.done(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.fs.state();
        state.alive()?;
        Ok(state.inodes[self.inode].written.len() as u64)
    }

    fn preallocate(&self, _position: u64, _len: u64) -> io::Result<()> {
        self.fs.state().alive()
    }

    fn modified(&self) -> io::Result<Timestamp> {
        Ok(self.fs.state().inodes[self.inode].modified)
    }
}
