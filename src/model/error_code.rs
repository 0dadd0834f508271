//! Kafka's error codes: what a broker answers when it can't do what it was asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether the same request can succeed when it is simply sent again.
enum Retry {
    Helps,
    IsVain,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $kafka_name:literal, $retry:ident;)*) => {
        /// An error code of the Kafka protocol; both listeners speak the same ones.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "i16", into = "i16")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code that this build knows, in the order of their numbers.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// Its number on the wire.
            pub fn code(self) -> i16 {
                match self { $(ErrorCode::$name => $code,)* }
            }

            /// Its name in Kafka's documentation.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => $kafka_name,)* }
            }

            fn retry(self) -> Retry {
                match self { $(ErrorCode::$name => Retry::$retry,)* }
            }
        }

        impl From<i16> for ErrorCode {
            /// A number that this build doesn't know becomes `UnknownServerError`.
            fn from(code: i16) -> ErrorCode {
                match code { $($code => ErrorCode::$name,)* _ => ErrorCode::UnknownServerError }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", IsVain;
    #[default]
    None = 0, "NONE", IsVain;
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", IsVain;
    CorruptMessage = 2, "CORRUPT_MESSAGE", Helps;
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", Helps;
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", Helps;
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", Helps;
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", Helps;
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", IsVain;
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", IsVain;
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", IsVain;
    NetworkException = 13, "NETWORK_EXCEPTION", Helps;
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", Helps;
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", Helps;
    NotCoordinator = 16, "NOT_COORDINATOR", Helps;
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", IsVain;
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", Helps;
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Helps;
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", IsVain;
    IllegalGeneration = 22, "ILLEGAL_GENERATION", IsVain;
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", IsVain;
    InvalidGroupId = 24, "INVALID_GROUP_ID", IsVain;
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", IsVain;
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", IsVain;
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", IsVain;
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", IsVain;
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", IsVain;
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", IsVain;
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", IsVain;
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", IsVain;
    InvalidPartitions = 37, "INVALID_PARTITIONS", IsVain;
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", IsVain;
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", IsVain;
    InvalidConfig = 40, "INVALID_CONFIG", IsVain;
    NotController = 41, "NOT_CONTROLLER", Helps;
    InvalidRequest = 42, "INVALID_REQUEST", IsVain;
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", IsVain;
    PolicyViolation = 44, "POLICY_VIOLATION", IsVain;
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", IsVain;
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", IsVain;
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", IsVain;
    InvalidTxnState = 48, "INVALID_TXN_STATE", IsVain;
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", IsVain;
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", Helps;
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", IsVain;
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", IsVain;
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", IsVain;
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", Helps;
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", Helps;
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", Helps;
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", Helps;
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", IsVain;
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", IsVain;
    /// A follower hasn't that far yet.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", Helps;
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", IsVain;
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", Helps;
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", IsVain;
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", IsVain;
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", Helps;
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", Helps;
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", IsVain;
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", IsVain;
    InvalidRecord = 87, "INVALID_RECORD", IsVain;
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", Helps;
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", IsVain;
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", Helps;
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", IsVain;
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", IsVain;
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", Helps;
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", IsVain;
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", Helps;
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", IsVain;
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", IsVain;
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", IsVain;
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", IsVain;
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", IsVain;
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", IsVain;
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", IsVain;
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", IsVain;
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", IsVain;
}

impl ErrorCode {
    pub fn is_ok(self) -> bool {
        self == ErrorCode::None
    }

    /// Whether the same request can succeed when it is sent again later, as Kafka's
    /// `RetriableException` says it.
    pub fn is_retriable(self) -> bool {
        matches!(self.retry(), Retry::Helps)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.code()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from(code.code()), *code);
        }
        assert_eq!(ErrorCode::from(9999), ErrorCode::UnknownServerError);
    }
}
