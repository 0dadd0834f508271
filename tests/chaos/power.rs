//! A power loss, played on the files of a node that was killed.
//!
//! Each file of a log says how far it was synced (`storage::fs::synced_mark`). Of what lies behind that, a
//! power loss leaves any part: the batches end somewhere between there and their end, and the last bytes that
//! stay may be zeros, as of a page that never reached the disk. The file may end there too, or keep its size:
//! where zeros were written ahead, the size was synced and the batches weren't.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::seed::Seed;

const ATTRIBUTE: &str = "user.klamm.synced";
/// What of a file's unsynced end may be torn.
const TORN_BYTES_MAX: u64 = 4096;

/// Takes away what was never synced of the logs in a data directory.
pub fn lose(data: &Path, seed: &mut Seed) {
    let mut marked = 0;
    for dir in entries(&data.join("logs")) {
        for file in entries(&dir) {
            let is_segment = file.extension().is_some_and(|extension| extension == "log");
            if is_segment {
                marked += usize::from(lose_of(&file, seed));
            }
        }
    }
    assert!(marked > 0, "no file says how far it was synced");
}

/// In the order of their names, so that a seed repeats.
fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir() || path.is_file());
    paths.sort();
    paths
}

/// Says whether the file has a mark. One without was never synced.
fn lose_of(path: &Path, seed: &mut Seed) -> bool {
    let mark = synced(path);
    let synced = mark.unwrap_or(0);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let len = file.metadata().unwrap().len();
    let end = synced.max(end_of_batches(&mut file));
    if end > synced {
        let kept = synced + seed.below(end - synced + 1);
        file.set_len(kept).unwrap();
        let torn = seed.below((kept - synced).min(TORN_BYTES_MAX) + 1);
        file.seek(SeekFrom::Start(kept - torn)).unwrap();
        file.write_all(&vec![0; torn as usize]).unwrap();
    }
    if seed.below(2) == 0 {
        file.set_len(len).unwrap();
    }
    mark.is_some()
}

/// Behind it there are zeros only.
fn end_of_batches(file: &mut File) -> u64 {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last as u64 + 1)
}

fn synced(path: &Path) -> Option<u64> {
    let mut value = [0; 20];
    let len = rustix::fs::getxattr(path, ATTRIBUTE, &mut value).ok()?;
    let digits = std::str::from_utf8(&value[..len]).unwrap();
    Some(digits.parse().unwrap())
}
