//! Sockets for readings of other programs.

use std::path::PathBuf;

use pulsegate_sensors::forbidden::Forbidden;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;

/// The longest path of a socket, in bytes: `sun_path` of `unix(7)`, without its final NUL.
const MAX_SOCKET_BYTES: usize = 107;

/// A Unix socket for readings of other programs: JSON lines, each answered with its record id once
/// stored on the disk, or with `"durable":false` beside the id while the reading is in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inbox {
    /// Path of the Unix stream socket, at most 107 bytes, such as `/run/pulsegate/inbox.sock`.
    /// Programs need write access, which members of the group `pulsegate-inbox` have.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// Ids for which programs may send readings, such as `["meter"]`; other ids are refused.
    /// Default: any id except those of sensors in this file, and rules may then name sources that
    /// this file does not list.
    pub sources: Option<Vec<String>>,
    /// Texts from `privacy.forbidden`, which no line may contain.
    #[serde(skip)]
    pub forbidden: Forbidden,
}

impl Inbox {
    /// Checks the length of the path of the table at `path`.
    pub(in crate::config) fn check(&self, path: &str) -> Option<Finding> {
        let message = format!("the path of a socket has at most {MAX_SOCKET_BYTES} bytes");
        let is_long = self.path.as_os_str().len() > MAX_SOCKET_BYTES;
        is_long.then(|| Finding::fault(format!("{path}.path"), message))
    }
}
