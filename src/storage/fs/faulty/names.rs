//! The names of files and directories, and how their changes come to the disk: each with its
//! directory's sync, or by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// The file's number.
    File(usize),
    Dir,
}

/// All names, each with its whole path. The root is always there, and isn't among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<PathBuf, Node>);

impl Names {
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }

    pub fn file(&self, path: &Path) -> Option<usize> {
        match self.0.get(path) {
            Some(Node::File(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn is_dir(&self, path: &Path) -> bool {
        path.parent().is_none_or(|p| p == path) || self.0.get(path) == Some(&Node::Dir)
    }

    /// The numbers of all files that have a name.
    pub fn files(&self) -> BTreeSet<usize> {
        let number = |node: &Node| match node {
            Node::File(number) => Some(*number),
            Node::Dir => None,
        };
        self.0.values().filter_map(number).collect()
    }

    /// All names below `dir`, at any depth, and its own.
    pub fn within(&self, dir: &Path) -> Vec<PathBuf> {
        let inside = |path: &&PathBuf| path.starts_with(dir);
        self.0.keys().filter(inside).cloned().collect()
    }

    /// Drops what lies in directories that aren't there.
    pub fn drop_orphans(&mut self) {
        // A directory comes before what is in it.
        for path in self.0.keys().cloned().collect::<Vec<_>>() {
            if !path.parent().is_some_and(|dir| self.is_dir(dir)) {
                self.0.remove(&path);
            }
        }
    }
}

/// A change of names that isn't on disk yet.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    /// Of two files of one directory.
    Exchange(PathBuf, PathBuf),
}

impl NameChange {
    pub fn parent(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => path.parent(),
            NameChange::Rename(_, to) | NameChange::Exchange(_, to) => to.parent(),
        }
    }

    pub fn apply(&self, Names(names): &mut Names) {
        match self {
            NameChange::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                let moved: Vec<_> = names
                    .range(from.clone()..)
                    .take_while(|(path, _)| path.starts_with(from))
                    .map(|(path, node)| (path.clone(), *node))
                    .collect();
                for (path, node) in moved {
                    names.remove(&path);
                    let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
                    let new = match rest.as_os_str().is_empty() {
                        true => to.clone(),
                        false => to.join(rest),
                    };
                    names.insert(new, node);
                }
            }
            // What came before and isn't on disk may be missing on either side.
            NameChange::Exchange(one, other) => {
                let (first, second) = (names.remove(one), names.remove(other));
                names.extend(first.map(|node| (other.clone(), node)));
                names.extend(second.map(|node| (one.clone(), node)));
            }
        }
    }
}
