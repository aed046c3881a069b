//! Limit of the pictures of all cameras.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Size, size};

/// Limit of the pictures of all cameras together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pictures {
    /// Most bytes of all pictures, which are in `state_dir`; above it, the oldest picture is
    /// deleted. One eighth is reserved for pictures being taken: the largest picture may have that
    /// eighth, divided by the number of cameras. Independently of this limit, pictures leave 64 MiB
    /// of the disk to the records. Range: `1MiB` to `1024GiB`.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("x-range" = ["1MiB", "1024GiB"]))]
    pub max_bytes: u64,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { max_bytes: 500 << 20 }
    }
}
