//! One picture: a program that takes it, in a process group of its own, with a deadline.
//!
//! A program that hangs is killed with all that it started; so is one whose picture nobody waits
//! for any more, and what a program leaves running in its group when it ends. No picture, an empty one, or a program that fails is a reason, in words.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::folder::{self, Picture};
use crate::durable;

/// What the last words of a failed program may have, in the log of this device.
const LAST_WORDS_BYTES: usize = 400;

/// How a picture is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// The program and its arguments; `{path}` is where the picture goes.
    pub(crate) command: Vec<String>,
    pub(crate) deadline: Duration,
}

/// Takes one, and keeps it as `key`.
pub(super) async fn take(
    recipe: Recipe,
    hidden: PathBuf,
    key: String,
    largest: u64,
) -> Result<Picture, String> {
    let taken = run(&recipe, &hidden, largest).await;
    let kept = match taken.and_then(|()| is_picture(&hidden, largest)) {
        Ok(()) => {
            let hidden = hidden.clone();
            let keep = move || folder::keep(&hidden, &key);
            let kept = tokio::task::spawn_blocking(keep).await;
            kept.map_err(|_| "it was given up".to_owned())
                .and_then(|kept| kept.map_err(|error| format!("it cannot be kept: {error}")))
        }
        Err(reason) => Err(reason),
    };
    if kept.is_err()
        && let Err(error) = durable::remove(&hidden)
    {
        tracing::warn!(%error, "half a picture stays until the next start");
    }
    kept
}

async fn run(recipe: &Recipe, path: &Path, largest: u64) -> Result<(), String> {
    let path = path.to_string_lossy();
    let mut words = recipe.command.iter().map(|word| OsString::from(word.replace("{path}", &path)));
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = program.to_string_lossy();
    let child = command.spawn().map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let mut group = Group::of(child);
    group.limit(largest);
    match tokio::time::timeout(recipe.deadline, group.wait()).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, last_words))) => {
            // Whatever it says stays on this device.
            tracing::warn!(program = &*program, last_words, "a picture could not be taken");
            let is_too_large = fs::metadata(&*path).is_ok_and(|about| about.len() >= largest);
            Err(if is_too_large {
                too_large(largest)
            } else {
                format!("`{program}` {}", ended(status))
            })
        }
        Ok(Err(error)) => Err(format!("`{program}` cannot be waited for: {error}")),
        Err(_) => Err(format!("`{program}` took more than {} s", recipe.deadline.as_secs())),
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

fn is_picture(path: &Path, largest: u64) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(_) => Err("there is no picture".to_owned()),
        Ok(about) if !about.is_file() => Err("there is no picture but something else".to_owned()),
        Ok(about) if about.len() == 0 => Err("the picture is empty".to_owned()),
        Ok(about) if about.len() >= largest => Err(too_large(largest)),
        Ok(_) => Ok(()),
    }
}

fn too_large(largest: u64) -> String {
    format!("the picture is larger than {} KiB: raise `pictures.max_bytes`", largest >> 10)
}

/// A program and all that it starts; killed when dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, leader }
    }

    /// Bounds what it can write in one file. A program that is faster than this is caught after.
    fn limit(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        // Without a process it would be our own limit.
        if self.leader.is_some()
            && let Err(error) = prlimit(self.leader, Resource::Fsize, limit)
        {
            tracing::debug!(%error, "the size of a picture is not bounded while it is written");
        }
    }

    /// Waits for its end. Returns also its last words.
    async fn wait(&mut self) -> std::io::Result<(ExitStatus, String)> {
        let mut stderr = self.child.stderr.take();
        let (mut said, mut block) = (Vec::new(), [0; 1024]);
        let status = loop {
            let Some(pipe) = &mut stderr else { break self.child.wait().await? };
            tokio::select! {
                status = self.child.wait() => break status?,
                read = pipe.read(&mut block) => match read {
                    Ok(count @ 1..) => {
                        said.extend_from_slice(&block[..count]);
                        let surplus = said.len().saturating_sub(LAST_WORDS_BYTES);
                        said.drain(..surplus);
                    }
                    Ok(0) | Err(_) => stderr = None,
                },
            }
        };
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
            // Nothing is left of it.
            && error != Errno::SRCH
        {
            tracing::warn!(%error, "a program that takes pictures cannot be killed");
        }
    }
}

#[cfg(test)]
mod tests;
