//! What the store keeps, and for how long.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Period, Size, duration, size};

/// What the store keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Buffer {
    /// What a power cut may cost.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["10ms", "60s"]))]
    pub commit_interval: Duration,
    /// Size of the store; above it the oldest goes first.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("x-range" = ["16MiB", "1024GiB"]))]
    pub max_bytes: u64,
    /// How long a delivered reading stays.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "3650d"]))]
    pub history: Duration,
    /// Pending readings older than that are dropped and counted; none are if absent.
    #[serde(with = "duration")]
    #[schemars(with = "Option<Period>", extend("x-range" = ["1m", "3650d"]))]
    pub ttl: Option<Duration>,
    /// The fate of pending records of another `thing` that are found in the store: a card was cloned, or the
    /// thing renamed.
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

/// The fate of records that were not delivered under the name of the thing that recorded them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backlog {
    /// They are kept aside, and delivered when the agent starts under that name again.
    #[default]
    Keep,
    /// They are published as this thing's: for a device that was renamed.
    Publish,
    /// They are given up, counted and told as a gap: for a card that was cloned.
    Drop,
}

impl Backlog {
    /// The word for it in events: what was done.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "kept",
            Self::Publish => "published",
            Self::Drop => "dropped",
        }
    }
}
