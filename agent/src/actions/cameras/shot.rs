//! Takes one picture with an external program, in a separate process group and with a deadline.
//!
//! The whole process group is killed if the program hangs, if the caller stops waiting, and after
//! the program ends. A missing or empty picture and a failing program are reported as a text.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pulsegate_core::act::capture::Quota;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::album::PictureStore;
use super::folder::{self, Picture, PictureFolder};
use crate::platform::aside::BlockingWorker;
use crate::platform::durable;

/// Largest part of a failed program's standard error that is logged on this device, in bytes.
const LAST_WORDS_BYTES: usize = 400;

/// Command and deadline for taking a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Program and its arguments; `{path}` stands for the path of the picture.
    pub(crate) command: Vec<String>,
    pub(crate) deadline: Duration,
}

/// Takes a picture and stores it as `key`. Returns the picture and the number of older pictures
/// deleted for it.
pub(super) async fn take_picture(
    recipe: Recipe,
    album: PictureStore,
    key: String,
    quota: Quota,
) -> Result<(Picture, usize), String> {
    let name = key.clone();
    let hidden = album.run_with_folder(move |folder| match folder.refusal_reason(quota) {
        Some(reason) => Err(reason),
        None => Ok(folder.hidden_path(&name)),
    });
    let hidden = hidden.await?;
    let taken = run_program(recipe, &hidden, quota.largest).await;
    album.run_with_folder(move |folder| store_or_discard(folder, &hidden, &key, quota, taken)).await
}

/// Stores the file that a program has written, or removes the file on failure.
fn store_or_discard(
    folder: &mut PictureFolder,
    hidden: &Path,
    key: &str,
    quota: Quota,
    taken: Result<(), Failure>,
) -> Result<(Picture, usize), String> {
    let kept = match taken {
        Ok(()) => is_picture(hidden, quota.largest).and_then(|()| {
            folder::store_picture(hidden, key)
                .map_err(|error| format!("it cannot be kept: {error}"))
        }),
        Err(Failure::Ended(reason)) => {
            let is_too_large =
                fs::symlink_metadata(hidden).is_ok_and(|about| about.len() >= quota.largest);
            Err(if is_too_large { too_large(quota.largest) } else { reason })
        }
        Err(Failure::Otherwise(reason)) => Err(reason),
    };
    match kept {
        Ok(picture) => {
            let evicted = folder.make_room(quota, picture.bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "an old picture cannot be removed");
                0
            });
            folder.add_picture(&picture);
            Ok((picture, evicted))
        }
        Err(reason) => {
            if let Err(error) = durable::remove_file(hidden) {
                tracing::warn!(%error, "half a picture stays until the next start");
            }
            Err(reason)
        }
    }
}

/// Reason a program took no picture.
enum Failure {
    /// The program ended by itself, perhaps because of the file size limit.
    Ended(String),
    Otherwise(String),
}

async fn run_program(recipe: Recipe, path: &Path, largest: u64) -> Result<(), Failure> {
    let deadline = recipe.deadline;
    let program = recipe.command.first().cloned().unwrap_or_default();
    let fault = |text: &str| Failure::Otherwise(format!("`{program}` {text}"));
    // Starting a program from a disk that does not answer may hang, too.
    let (runtime, path) = (Handle::current(), path.to_owned());
    let start = move || {
        let _inside = runtime.enter();
        start_program(&recipe, &path, largest)
    };
    let started = BlockingWorker::new("shot").run(deadline, start).await;
    let mut group = started
        .map_err(|not_done| fault(&format!("cannot be run: {not_done}")))?
        .map_err(|error| fault(&format!("cannot be run: {error}")))?;
    match tokio::time::timeout(deadline, group.wait_for_exit()).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, last_words))) => {
            // Output of the program stays on this device.
            tracing::warn!(program, last_words, "a picture could not be taken");
            Err(Failure::Ended(format!("`{program}` {}", describe_status(status))))
        }
        Ok(Err(error)) => Err(fault(&format!("cannot be waited for: {error}"))),
        Err(_) => Err(fault(&format!("took more than {} s", deadline.as_secs()))),
    }
}

fn start_program(recipe: &Recipe, path: &Path, largest: u64) -> std::io::Result<Group> {
    let path = path.to_string_lossy();
    let mut words = recipe.command.iter().map(|word| OsString::from(word.replace("{path}", &path)));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let group = Group::from_child(command.spawn()?);
    group.limit_file_size(largest);
    Ok(group)
}

fn describe_status(status: ExitStatus) -> String {
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

/// Process group of a program, killed when dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn from_child(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, leader }
    }

    /// Limits the size of each file written by the program. The size of a file written before the
    /// limit takes effect is checked afterwards.
    fn limit_file_size(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        // Without a pid, prlimit(2) would set the agent's own limit.
        if self.leader.is_some()
            && let Err(error) = prlimit(self.leader, Resource::Fsize, limit)
        {
            tracing::debug!(%error, "the size of a picture is not bounded while it is written");
        }
    }

    /// Waits for the end of the program. Returns the exit status and the end of the standard error.
    async fn wait_for_exit(&mut self) -> std::io::Result<(ExitStatus, String)> {
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
            // `SRCH`: no process of the group is left.
            && error != Errno::SRCH
        {
            tracing::warn!(%error, "a program that takes pictures cannot be killed");
        }
    }
}

#[cfg(test)]
mod tests;
