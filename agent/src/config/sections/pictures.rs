//! The pictures of all cameras.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Size, size};

/// The pictures of all cameras.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pictures {
    /// What they may have on this device; above it the oldest goes first. An eighth is kept free for
    /// what is being taken, which is also the most that the pictures of one moment can have.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("x-range" = ["1MiB", "1024GiB"]))]
    pub max_bytes: u64,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { max_bytes: 500 << 20 }
    }
}
