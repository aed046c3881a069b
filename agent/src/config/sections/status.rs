//! The socket of the status.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The socket of the status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Status {
    /// Path of the Unix socket on which the running agent answers; `pulsegate status` reads the
    /// path from this file, too. A change takes effect at a restart.
    #[schemars(length(min = 1))]
    pub socket: PathBuf,
}

impl Default for Status {
    fn default() -> Self {
        Self { socket: "/run/pulsegate/status.sock".into() }
    }
}
