//! Where a running agent answers questions.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a running agent answers questions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Status {
    /// A Unix socket.
    #[schemars(length(min = 1))]
    pub socket: PathBuf,
}

impl Default for Status {
    fn default() -> Self {
        Self { socket: "/run/pulsegate/status.sock".into() }
    }
}
