//! How much is logged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is logged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// The least severity.
    pub level: LogLevel,
}

/// The least severity that is logged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Broken, someone must act.
    Error,
    /// Unusual, still working.
    Warn,
    /// What an operator cares about.
    #[default]
    Info,
    /// Each decision.
    Debug,
    /// Each packet.
    Trace,
}

impl LogLevel {
    /// The word for it, as `tracing` takes it.
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
