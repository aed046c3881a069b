//! Sockets for readings from other programs.

use std::path::PathBuf;

use pulsegate_sensors::forbidden::Forbidden;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;

/// `sun_path` of `unix(7)`, without its final NUL.
const MAX_SOCKET_BYTES: usize = 107;

/// A socket for readings from other programs: JSON lines, each answered with its record id once it is durable,
/// or with `"durable": false` beside the id while it is in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inbox {
    /// The Unix socket.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// The only ids that may speak; any may if absent, and rules may then name any source.
    pub sources: Option<Vec<String>>,
    /// What none of its lines may contain: `privacy.forbidden`.
    #[serde(skip)]
    pub forbidden: Forbidden,
}

impl Inbox {
    /// Checks the table at `path`.
    pub(in crate::config) fn check(&self, path: &str) -> Option<Finding> {
        let message = format!("the path of a socket has at most {MAX_SOCKET_BYTES} bytes");
        let is_long = self.path.as_os_str().len() > MAX_SOCKET_BYTES;
        is_long.then(|| Finding::fault(format!("{path}.path"), message))
    }
}
