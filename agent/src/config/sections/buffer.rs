//! Size, age and durability of the records in the store.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Period, Size, duration, size};

/// Size, age and durability of the records in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Buffer {
    /// Longest time from the arrival of a reading to its commit to the disk: a power cut loses at
    /// most the readings of this span. A longer interval wears a memory card less. Alerts and
    /// visits are committed at once. Range: `10ms` to `60s`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["10ms", "60s"]))]
    pub commit_interval: Duration,
    /// Most bytes of records in the store; less if the partition of `state_dir` is smaller. Above
    /// the limit, the oldest records are deleted: delivered ones first, then pending ones
    /// (readings, then events, then alerts), which are reported as a gap. Range: `16MiB` to
    /// `1024GiB`.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("x-range" = ["16MiB", "1024GiB"]))]
    pub max_bytes: u64,
    /// Age, since their arrival, at which delivered records are deleted; `0s` deletes them at once.
    /// `pulsegate replay`, `export` and the lists show only records that are still in the store.
    /// Range: `0s` to `3650d`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "3650d"]))]
    pub history: Duration,
    /// Age, since their arrival, at which readings that were not delivered are dropped, counted and
    /// reported as a gap, such as `30d`. Default: never. Range: `1m` to `3650d`.
    #[serde(with = "duration")]
    #[schemars(with = "Option<Period>", extend("x-range" = ["1m", "3650d"]))]
    pub ttl: Option<Duration>,
    /// Treatment of undelivered records that the store holds of another `thing`, because a card was
    /// cloned or the thing was renamed.
    pub backlog_of_another_thing: Backlog,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            max_bytes: 2 << 30,
            history: Duration::from_secs(7 * 86_400),
            ttl: None,
            backlog_of_another_thing: Backlog::default(),
        }
    }
}

/// Treatment of undelivered records of another `thing`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backlog {
    /// Kept in a file beside the store, and delivered when the agent starts with the old name of
    /// the thing again.
    #[default]
    Keep,
    /// Published under the new name of the thing: for a device that was renamed.
    Publish,
    /// Deleted, counted and reported as a gap: for a card that was cloned.
    Drop,
}

impl Backlog {
    /// Returns the word of the treatment in events, as a participle.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "kept",
            Self::Publish => "published",
            Self::Drop => "dropped",
        }
    }
}
