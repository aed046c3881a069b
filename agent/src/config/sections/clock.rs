//! When wall time counts as right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When wall time counts as right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Clock {
    /// Whom to believe.
    pub trust: Trust,
}

/// Whom to believe about wall time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trust {
    /// A time server, once the kernel or systemd says that one has set the clock; or a real-time clock,
    /// if its time is neither before the build of this program nor before the last time that was trusted.
    #[default]
    Auto,
    /// The system clock, as it is.
    System,
}
