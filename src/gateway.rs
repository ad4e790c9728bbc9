//! Stands in for the gateway until it is merged.

use bytesize::ByteSize;
use serde::Deserialize;

/// `[limits]`: what a gateway takes on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Answers that are generated at once.
    pub running_streams: usize,
    /// Bytes of one answer's log.
    pub stream_bytes: ByteSize,
    /// Records of one answer's log.
    pub stream_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running_streams: 4096, stream_bytes: ByteSize::mib(16), stream_records: 262_144 }
    }
}
