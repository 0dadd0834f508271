//! The names of files, and how their changes come to the disk: each with its directory's sync, or
//! by chance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A change of names that isn't on disk yet.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    pub fn parent(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => path.parent(),
            NameChange::Rename(_, to) => to.parent(),
        }
    }

    pub fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                let moved: Vec<_> = names
                    .range(from.clone()..)
                    .take_while(|(path, _)| path.starts_with(from))
                    .map(|(path, inode)| (path.clone(), *inode))
                    .collect();
                for (path, inode) in moved {
                    names.remove(&path);
                    let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
                    let new = match rest.as_os_str().is_empty() {
                        true => to.clone(),
                        false => to.join(rest),
                    };
                    names.insert(new, inode);
                }
            }
        }
    }
}
