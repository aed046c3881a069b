//! Trust in the system clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trust in the system clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Clock {
    /// Evidence that makes the system clock trusted. A change takes effect at a restart.
    pub trust: Trust,
}

/// The evidence that makes the system clock trusted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trust {
    /// A report of the kernel or systemd that a time server has set the clock; or a real-time clock
    /// whose time is neither before the build of this program nor before the last trusted time.
    #[default]
    Auto,
    /// No evidence: the system clock is trusted from the start. For a device whose clock is right
    /// without a time server.
    System,
}
