//! How much metadata a cluster takes on.

/// What one request and the whole cluster may hold. A broker may set them lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataLimits {
    /// New partitions in one request, over all its topics; as in Kafka's controller.
    pub partitions_per_request_max: usize,
    /// Partitions of the whole cluster.
    pub partitions_per_cluster_max: usize,
    /// Topics of the whole cluster.
    pub topics_max: usize,
    /// Bytes of one config value; as in Kafka's controller.
    pub config_value_bytes_max: usize,
}

impl Default for MetadataLimits {
    fn default() -> Self {
        MetadataLimits {
            partitions_per_request_max: 10_000,
            partitions_per_cluster_max: 1_000_000,
            topics_max: 200_000,
            config_value_bytes_max: 32_767,
        }
    }
}
