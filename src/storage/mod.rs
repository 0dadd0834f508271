//! What a broker keeps on disk, and how it survives what disks and power do.
//!
//! - [`fs`]: the file system behind a trait, with a faulty twin that loses power and fails on
//!   purpose, so that every promise below is tested against it;
//! - [`log`]: the partitions' logs: append, read, recovery, retention, group commit;
//! - [`checkpoint`]: the small file beside each log that says where its recovery starts;
//! - [`lease`]: what keeps a log's directory its own until its last job has ended;
//! - [`data_dir`]: the directory that holds everything, its lock, identity and clean mark;
//! - [`meta`]: the store of the metadata quorum, over sled;
//! - [`witness`]: what says that a log was made, should its directory vanish;
//! - [`syncer`]: how many logs are put on disk side by side;
//! - [`cleaner`]: how many logs are compacted.

pub mod checkpoint;
pub mod cleaner;
pub mod data_dir;
pub mod fs;
pub mod lease;
pub mod log;
pub mod meta;
pub mod syncer;
pub mod witness;
