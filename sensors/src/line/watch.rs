//! The thread of a line: opens the line, follows its edges, and reopens the line after a loss.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use super::state::{LineChange, LineCounters, LineMachine};
use super::{Backend, Line, port};
use crate::{Measurement, NoReading, Outlet};

/// The first pause before a lost line is reopened: the cause may pass in a moment.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest pause: a chip that is plugged in again works within half a minute. After a line has
/// worked for this time, the pause starts at [`FIRST_RETRY`] again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A line that is being watched. Dropping the value ends the thread, which closes the line soon
/// after.
#[derive(Debug)]
pub struct LineWatch {
    /// The stop signal: closed, never written to.
    stop: UnixStream,
    /// The counters; the sender is dropped if the thread ends for any reason.
    counters: watch::Receiver<LineCounters>,
}

impl LineWatch {
    /// Returns the counters of the line's edges.
    #[must_use]
    pub fn counters(&self) -> LineCounters {
        *self.counters.borrow()
    }

    /// Waits for the end of the thread: the outlet was closed, or there is a bug.
    pub async fn wait_until_ended(&mut self) {
        self.counters.wait_for(|_| false).await.ok();
    }

    /// Ends the thread, and returns as soon as the line can be opened again.
    ///
    /// The outlet must be drained or closed meanwhile, since the thread may be waiting for the
    /// outlet.
    pub async fn stop_thread(mut self) {
        drop(self.stop);
        self.counters.wait_for(|_| false).await.ok();
    }
}

/// Watches `line` on a separate thread named after the pin. `monotonic` returns the time on
/// `CLOCK_MONOTONIC`.
///
/// A line that cannot be opened is not an error: the reason is sent to the outlet, and the thread
/// tries again.
///
/// # Errors
/// The system has no thread or file descriptor left.
pub fn spawn_line(
    line: Line,
    backend: Backend,
    outlet: Outlet,
    monotonic: impl Fn() -> Duration + Send + 'static,
) -> io::Result<LineWatch> {
    let name = format!("line-{}", line.pin);
    let machine = LineMachine::new(line.role, line.debounce);
    start_thread(name, machine, move || port::open_line(&line, backend), outlet, monotonic)
}

fn start_thread(
    name: String,
    machine: LineMachine,
    open: impl FnMut() -> Result<port::OpenedLine, NoReading> + Send + 'static,
    outlet: Outlet,
    monotonic: impl Fn() -> Duration + Send + 'static,
) -> io::Result<LineWatch> {
    let (stop, stopped) = UnixStream::pair()?;
    let (counting, counters) = watch::channel(machine.counters());
    let watcher = LineWatcher { open, monotonic, outlet, machine, counting, stopped, told: false };
    thread::Builder::new().name(name).spawn(move || watcher.run())?;
    Ok(LineWatch { stop, counters })
}

struct LineWatcher<O, M> {
    open: O,
    monotonic: M,
    outlet: Outlet,
    machine: LineMachine,
    counting: watch::Sender<LineCounters>,
    stopped: UnixStream,
    /// `true` after the loss of the line was reported.
    told: bool,
}

impl<O, M> LineWatcher<O, M>
where
    O: FnMut() -> Result<port::OpenedLine, NoReading>,
    M: Fn() -> Duration,
{
    fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let began = (self.monotonic)();
            let Err(reason) = self.follow_line() else { return };
            if (self.monotonic)().saturating_sub(began) >= LONGEST_RETRY {
                retry = FIRST_RETRY;
            }
            self.machine.handle_close();
            self.publish_counters();
            if !self.told && !self.outlet.send_blocking(None, Err(reason)) {
                return;
            }
            self.told = true;
            if matches!(wait_for_edge(&self.stopped, None, retry), Ok(Woken::Stopped))
                || self.outlet.is_closed()
            {
                return;
            }
            retry = LONGEST_RETRY.min(retry * 2);
        }
    }

    /// Opens and follows the line until the thread must end. Fails if the line is lost.
    fn follow_line(&mut self) -> Result<(), NoReading> {
        let port::OpenedLine { mut port, kernel_debounces } = (self.open)()?;
        let level = port.read_level()?;
        let mut change =
            Some(self.machine.handle_open((self.monotonic)(), level, kernel_debounces));
        self.told = false;
        while self.send_change(change) {
            let patience = self.machine.due_at().saturating_sub((self.monotonic)());
            change = match wait_for_edge(&self.stopped, Some(port.fd()), patience)? {
                Woken::Stopped => return Ok(()),
                Woken::Edge => self.machine.handle_edge(port.read_edge()?),
                Woken::Quiet => self.machine.handle_quiet((self.monotonic)(), port.read_level()?),
            };
        }
        Ok(())
    }

    /// Sends `change`, if any; returns `false` if the receiver is gone.
    fn send_change(&self, change: Option<LineChange>) -> bool {
        self.publish_counters();
        let Some(LineChange { state, captured }) = change else { return !self.outlet.is_closed() };
        self.outlet.send_blocking(captured, Ok(Measurement::Line(state)))
    }

    fn publish_counters(&self) {
        let counters = self.machine.counters();
        self.counting.send_if_modified(|shown| {
            let changed = *shown != counters;
            *shown = counters;
            changed
        });
    }
}

enum Woken {
    Stopped,
    /// An edge is waiting, or the line is dead.
    Edge,
    Quiet,
}

fn wait_for_edge(
    stopped: &UnixStream,
    port: Option<BorrowedFd<'_>>,
    patience: Duration,
) -> Result<Woken, NoReading> {
    let timeout = Timespec::try_from(patience).ok();
    let mut fds = vec![PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN)];
    fds.extend(port.map(|port| PollFd::from_borrowed_fd(port, PollFlags::IN)));
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) if !fds[0].revents().is_empty() => Ok(Woken::Stopped),
        Ok(ready) if ready > 0 => Ok(Woken::Edge),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Woken::Quiet),
        Err(error) => Err(NoReading::Failed(format!("waiting for edges: {error}"))),
    }
}

#[cfg(test)]
mod tests;
