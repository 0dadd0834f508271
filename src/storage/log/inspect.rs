//! A look at a log's directory without opening the log: for `klamm log dump` and `verify`.
//!
//! Nothing is written, so it may be done beside a broker that runs; what it appends meanwhile may
//! look like a torn tail.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::scan::{Check, Step};
use super::segment::{base_of, segment_path, Start, LOG_SUFFIX};
use super::LogError;
use crate::model::Offset;
use crate::record::BatchHeader;
use crate::storage::fs::FileSystem;

/// One batch, with its place.
#[derive(Clone, Debug)]
pub struct InspectedBatch {
    pub file: PathBuf,
    pub position: u64,
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub bytes: Vec<u8>,
}

/// The first bytes that aren't what should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBytes {
    pub file: PathBuf,
    pub position: u64,
    /// The offset that should have been there.
    pub offset: Offset,
    pub reason: String,
}

/// Shows each batch of the log in `dir`, in the order of offsets, with checksum and place checked,
/// until `each` breaks; ends at the first bad byte, and says where that is.
pub fn inspect(
    fs: &dyn FileSystem,
    dir: &Path,
    mut each: impl FnMut(InspectedBatch) -> ControlFlow<()>,
) -> Result<Option<BadBytes>, LogError> {
    let names = fs.list(dir).map_err(LogError::storage("list", dir))?;
    let mut segments: Vec<Offset> = names
        .iter()
        .filter_map(|name| base_of(name, LOG_SUFFIX))
        .collect();
    segments.sort_unstable();
    let mut expected = segments.first().copied();
    for base in segments {
        let path = segment_path(dir, base, LOG_SUFFIX);
        let bad = |position, offset, reason| {
            Ok(Some(BadBytes {
                file: path.clone(),
                position,
                offset,
                reason,
            }))
        };
        // Compaction has made one segment of it and those before, and was cut off.
        if expected.is_some_and(|e| base < e) {
            continue;
        }
        if let Some(offset) = expected.filter(|e| *e != base) {
            return bad(0, offset, format!("the segment starts with offset {base}"));
        }
        let failed = |e| LogError::storage("read", &path)(e);
        let file = fs.open_read_only(&path).map_err(failed)?;
        let size = file.len().map_err(failed)?;
        let mut scanner = Start::of_segment(base).scanner(&*file, size, Check::Checksums);
        loop {
            match scanner.next().map_err(failed)? {
                Step::Batch { position, header } => {
                    let batch = InspectedBatch {
                        file: path.clone(),
                        position,
                        header,
                        bytes: scanner.batch(position, &header).map_err(failed)?,
                    };
                    if each(batch).is_break() {
                        return Ok(None);
                    }
                }
                Step::End | Step::Zeros => break,
                Step::Bad { position, reason } => return bad(position, scanner.expected(), reason),
            }
        }
        expected = Some(scanner.expected());
    }
    Ok(None)
}
