//! A world of its own: a network with nothing but loopback, and a process tree that ends with it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for who is inside: where the image is, since nothing can be fetched from there.
const INSIDE: &str = "PULSEGATE_RIG_INSIDE";

/// The directory of the image, if we are inside.
#[must_use]
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// Starts this program again, inside; returns only if that is impossible.
///
/// Who is not root becomes it inside, over nothing but what is theirs.
#[must_use]
pub fn enter(image: &Path) -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(program).args(std::env::args_os().skip(1)).env(INSIDE, image).exec()
}
