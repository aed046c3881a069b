//! Detail of the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Detail of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Least severity of logged messages. A change takes effect at a restart.
    pub level: LogLevel,
}

/// The least severity of logged messages. Each level includes the levels before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Faults that somebody must act on.
    Error,
    /// Also conditions that are unusual while the agent still works.
    Warn,
    /// Also changes of state that an operator cares about.
    #[default]
    Info,
    /// Also single decisions.
    Debug,
    /// Also single packets.
    Trace,
}

impl LogLevel {
    /// Returns the name of the level, as `tracing` takes it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
