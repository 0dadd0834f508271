//! The rules, each of which can be broken on purpose.

/// A rule that isn't kept. The number is that of the rule in the table of `main.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// 1: a follower of a new leader cuts its log at its high watermark.
    TruncateByHighWatermark,
    /// 2: what a follower answers to the first look-up is taken for the common point.
    OneLookUp,
    /// 3: a follower takes pushes of leaders that were deposed.
    StalePushTaken,
    /// 3: a follower doesn't look whether a push continues its log.
    AnyPushFits,
    /// 3: what lies below the start of the leader's log is taken to agree.
    StartFitsAnything,
    /// 4: a leader counts what was acknowledged in any epoch.
    StaleAckTaken,
    /// 4: a leader goes by itself alone.
    AloneInSync,
    /// 4: a follower takes the leader's high watermark for its own.
    HighWatermarkAboveEnd,
    /// 5: whoever is there joins the ISR.
    JoinsBehind,
    /// 5: a member that shall leave the ISR doesn't count any more before it has.
    LeavesBeforeCommitted,
    /// 6: the high watermark goes on with too few in sync.
    BelowMinimum,
    /// 7: whoever is there is elected.
    UncleanElection,
    /// 8: a broker that was killed says that it has kept everything, though it doesn't sync.
    UncleanCountsAsClean,
    /// 8: the mark of a clean shutdown isn't removed at the start.
    CleanMarkStays,
    /// 9: the controller doesn't look in which life a member was found in sync.
    ProposalOfAnyLife,
    /// 9: a proposal that is made again names the lives of then.
    RetryInAnotherLife,
    /// 10: a follower says that it is on disk when it is written.
    AckBeforeSync,
    /// 14: a broker that has lost its log doesn't say so, and begins an empty one.
    LostLogBeginsEmpty,
}

impl Broken {
    pub const ALL: [Broken; 18] = [
        Broken::TruncateByHighWatermark,
        Broken::OneLookUp,
        Broken::StalePushTaken,
        Broken::AnyPushFits,
        Broken::StartFitsAnything,
        Broken::StaleAckTaken,
        Broken::AloneInSync,
        Broken::HighWatermarkAboveEnd,
        Broken::JoinsBehind,
        Broken::LeavesBeforeCommitted,
        Broken::BelowMinimum,
        Broken::UncleanElection,
        Broken::UncleanCountsAsClean,
        Broken::CleanMarkStays,
        Broken::ProposalOfAnyLife,
        Broken::RetryInAnotherLife,
        Broken::AckBeforeSync,
        Broken::LostLogBeginsEmpty,
    ];
}
