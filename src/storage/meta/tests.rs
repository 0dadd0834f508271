//! The metadata store on a real disk, and what damage does to it.

use std::fs;

use tempfile::TempDir;

use super::*;

fn put(tree: &MetaTree, key: &[u8], value: &[u8]) {
    let mut batch = MetaBatch::default();
    batch.put(key, value.to_vec());
    tree.apply(batch).unwrap();
}

/// A store with a hundred keys, each flushed by itself, and closed again.
fn filled() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("t").unwrap();
    for key in 0..100u8 {
        put(&tree, &[key], &[key; 100]);
        tree.flush().unwrap();
    }
    dir
}

fn open_damaged(dir: &TempDir) -> String {
    match MetaStore::open(dir.path()) {
        Err(error @ MetaError::Corrupt { .. }) => error.to_string(),
        other => panic!("it should be corrupt: {other:?}"),
    }
}

#[test]
fn a_batch_and_its_order_survive_a_reopening() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("t").unwrap();
    put(&tree, b"a3", b"gone");
    let mut batch = MetaBatch::default();
    batch.remove(b"a3");
    batch.put(b"a2", b"two".to_vec());
    batch.put(b"a1", b"one".to_vec());
    batch.put(b"b", b"other".to_vec());
    tree.apply(batch).unwrap();
    tree.flush().unwrap();
    drop((tree, store));

    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("t").unwrap();
    let found: Vec<_> = tree.scan_prefix(b"a").map(Result::unwrap).collect();
    let pair = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(found, [pair(b"a1", b"one"), pair(b"a2", b"two")]);
    assert_eq!(tree.get(b"b").unwrap(), Some(b"other".to_vec()));
    assert_eq!(tree.get(b"a3").unwrap(), None);
}

#[test]
fn a_value_that_sled_would_put_into_a_file_of_its_own_is_refused() {
    let dir = TempDir::new().unwrap();
    let tree = MetaStore::open(dir.path()).unwrap().tree("t").unwrap();
    put(&tree, b"k", &vec![1; VALUE_BYTES_MAX]);
    let mut batch = MetaBatch::default();
    batch.put(b"k", vec![1; VALUE_BYTES_MAX + 1]);
    let refused = tree.apply(batch);
    assert!(matches!(refused, Err(MetaError::ValueTooLarge { .. })));
    let blobs = fs::read_dir(dir.path().join("blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0);
}

#[test]
fn a_flipped_bit_anywhere_in_the_log_is_noticed_or_harmless() {
    let dir = filled();
    let db = dir.path().join("db");
    let whole = fs::read(&db).unwrap();
    let mark = fs::read(dir.path().join(mark::FILE_NAME)).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut noticed = 0;
    for at in (0..used).step_by(used / 60) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(&db, damaged).unwrap();
        fs::write(dir.path().join(mark::FILE_NAME), &mark).unwrap();
        match MetaStore::open(dir.path()) {
            Err(MetaError::Corrupt { .. }) => noticed += 1,
            Err(other) => panic!("{other}"),
            Ok(store) => {
                let tree = store.tree("t").unwrap();
                for key in 0..100u8 {
                    assert_eq!(tree.get(&[key]).unwrap(), Some(vec![key; 100]), "at {at}");
                }
            }
        }
    }
    assert!(noticed > 30, "only {noticed} were noticed");
}

#[test]
fn the_error_says_what_is_lost_and_what_is_not() {
    let dir = filled();
    let db = dir.path().join("db");
    let file = File::options().write(true).open(&db).unwrap();
    file.set_len(fs::metadata(&db).unwrap().len() / 100)
        .unwrap();
    let error = open_damaged(&dir);
    for words in [
        "metadata is lost",
        "records are untouched",
        "flushes were acknowledged",
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert!(error.contains(&*dir.path().to_string_lossy()), "{error}");
}

#[test]
fn a_store_whose_log_is_gone_is_not_taken_for_a_new_one() {
    let dir = filled();
    fs::remove_file(dir.path().join("db")).unwrap();
    assert!(open_damaged(&dir).contains("it holds 0"));
}

#[test]
fn a_mark_that_is_gone_or_unreadable_is_noticed_and_a_torn_one_is_not_held_against_it() {
    let dir = filled();
    let path = dir.path().join(mark::FILE_NAME);
    let whole = fs::read(&path).unwrap();

    // The slot that was written last, torn: the store is ahead of the mark then.
    let mut torn = whole.clone();
    torn[10] ^= 1;
    fs::write(&path, torn).unwrap();
    assert!(MetaStore::open(dir.path()).is_ok());

    fs::write(&path, b"nonsense").unwrap();
    assert!(open_damaged(&dir).contains("can't be read"));
    fs::remove_file(&path).unwrap();
    assert!(open_damaged(&dir).contains("is gone"));
    fs::write(&path, whole).unwrap();
    assert!(MetaStore::open(dir.path()).is_ok());
}

#[test]
fn after_a_fault_nothing_is_taken_any_more() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("t").unwrap();
    put(&tree, b"k", b"v");
    store.break_for_test();
    let failed = |result: Result<(), MetaError>| matches!(result, Err(MetaError::Failed));
    assert!(failed(store.flush()));
    assert!(failed(tree.apply(MetaBatch::default())));
    assert!(failed(tree.get(b"k").map(|_| ())));
    assert!(failed(
        tree.scan_prefix(b"").try_for_each(|e| e.map(|_| ()))
    ));
    assert!(failed(store.tree("u").map(|_| ())));
}

#[test]
fn many_threads_flush_at_once_and_the_mark_stays_behind_the_store() {
    let dir = TempDir::new().unwrap();
    let store = MetaStore::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let tree = store.tree("t").unwrap();
            scope.spawn(move || {
                for key in 0..25u8 {
                    put(&tree, &[thread, key], &[key]);
                    tree.flush().unwrap();
                }
            });
        }
    });
    drop(store);
    let store = MetaStore::open(dir.path()).unwrap();
    let tree = store.tree("t").unwrap();
    assert_eq!(tree.scan_prefix(b"").count(), 100);
}
