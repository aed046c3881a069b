//! A salvage beside the writer. On a thread of its own the salvage carries over the readable rows
//! of the damaged store, while the writer continues in memory. The writer takes up the complete new
//! store like a file that came back. A stopping agent does not wait for the salvage: the next start
//! continues it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

use anyhow::Context as _;
use pulsegate_core::record::reading::Seq;
use pulsegate_sensors::Sources;
use tokio::time::Instant;

use super::Writer;
use super::faults::REPLACE_PAUSE;
use super::memory::MemoryMode;
use crate::db::database::{Database, StoreLocation};
use crate::db::disk::DiskFault;
use crate::db::salvage::{self, Replaced};
use crate::platform::pulse::Pulse;
use crate::store::StoreOptions;

/// Pause between two looks at the progress of the new store.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause between two beats of the pulse while a start waits for a salvage.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A salvage under way.
#[derive(Debug)]
pub(super) struct Salvage {
    done: Receiver<anyhow::Result<Replaced>>,
    /// By lane: the records in the publisher's hands before the salvage.
    in_hand: [Seq; 3],
}

impl Salvage {
    /// Begins the salvage of a store without facts in memory.
    pub(super) fn of_unknown(options: &StoreOptions) -> anyhow::Result<Self> {
        let done = spawn_salvage(None, options.clone(), Sources::default())?;
        Ok(Self { done, in_hand: [Seq(0); 3] })
    }

    /// Waits for the end of the salvage, as long as the options allow.
    pub(super) fn wait_until_done(
        &self,
        options: &StoreOptions,
    ) -> Option<anyhow::Result<Replaced>> {
        let until = Instant::now() + options.salvage_patience;
        loop {
            options.pulse.beat();
            let rest = until.saturating_duration_since(Instant::now());
            match self.done.recv_timeout(rest.min(BEAT_EVERY)) {
                Ok(replaced) => return Some(replaced),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(panic_error())),
                Err(RecvTimeoutError::Timeout) if rest.is_zero() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Returns the outcome of the salvage if it has ended.
    fn poll_done(&self) -> Option<anyhow::Result<Replaced>> {
        match self.done.try_recv() {
            Ok(replaced) => Some(replaced),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(panic_error())),
        }
    }
}

fn panic_error() -> anyhow::Error {
    anyhow::anyhow!("the salvage of the store panicked")
}

impl Writer {
    /// Sets the damaged database aside and begins its replacement, and continues in memory
    /// meanwhile. If the disk is at fault, the database may be intact and is not replaced.
    pub(super) fn replace_damaged(&mut self) {
        if self.salvage.is_some() {
            return;
        }
        if self.memory.as_ref().is_some_and(|memory| memory.file.is_none()) {
            return self.reopen_file();
        }
        let path = self.options.path.clone();
        if let Some(fault) = DiskFault::probe_disk(&path) {
            return self.go_on_without_file(fault);
        }
        let in_hand = self.in_hand;
        let is_again = self.faults.replaced_at.is_some_and(|at| at.elapsed() < REPLACE_PAUSE);
        self.go_on_without_file(match is_again {
            true => DiskFault::DamagedAgain { path: path.clone() },
            false => DiskFault::Damaged { path: path.clone() },
        });
        let Some(MemoryMode { file: Some(file), .. }) = &mut self.memory else { return };
        let begun = match file.abandon_file() {
            Ok(()) if is_again => return,
            Ok(()) => begin_of_known(file, &self.options, &self.sources),
            Err(error) => Err(error.into()),
        };
        match begun {
            Ok(done) => self.salvage = Some(Salvage { done, in_hand }),
            Err(error) => self.go_on_without_file(DiskFault::find_fault(&path, &error)),
        }
    }

    /// Works like [`Writer::replace_damaged`], for a store that was not open.
    pub(super) fn replace_unknown(&mut self) {
        let path = self.options.path.clone();
        if self.faults.replaced_at.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
            return self.go_on_in_memory(DiskFault::DamagedAgain { path });
        }
        match Salvage::of_unknown(&self.options) {
            Ok(salvage) => {
                self.salvage = Some(salvage);
                self.go_on_in_memory(DiskFault::Damaged { path });
            }
            Err(error) => self.go_on_in_memory(DiskFault::find_fault(&path, &error)),
        }
    }

    /// Takes up the new store if complete.
    pub(super) fn finish_salvage(&mut self) {
        let Some(salvage) = &self.salvage else { return };
        let Some(replaced) = salvage.poll_done() else { return };
        let in_hand = salvage.in_hand;
        self.salvage = None;
        let Some(memory) = &self.memory else { return };
        let path = &self.options.path;
        let reopen = |known: &Database| Database::reopen_database(path, known);
        let opened = replaced
            .and_then(|replaced| Ok((memory.file.as_ref().map(reopen).transpose()?, replaced)));
        match opened {
            Ok((database, Replaced { set_aside, left_rows })) => {
                if let Some(mut database) = database {
                    database.doubtful = in_hand;
                    self.go_on_from(database);
                }
                self.faults.replaced_at = Some(Instant::now());
                self.progress.send_modify(|progress| {
                    (progress.set_aside, progress.left_rows) = (Some(set_aside), left_rows);
                });
                self.report_loss();
                self.retry_file();
            }
            Err(error) => {
                let fault = DiskFault::find_fault(path, &error);
                self.go_on_without_file(fault);
            }
        }
    }
}

/// Begins the salvage of `file`, whose facts are known in memory.
fn begin_of_known(
    file: &Database,
    options: &StoreOptions,
    sources: &Sources,
) -> anyhow::Result<Receiver<anyhow::Result<Replaced>>> {
    debug_assert_eq!(file.place, StoreLocation::Lost, "nobody writes to it meanwhile");
    let known = file.go_on_in_memory()?;
    // Sources registered meanwhile are written when the new store is taken up.
    let named = Sources::default();
    for source in sources.list_since(0) {
        named.intern_source((*source).clone())?;
    }
    spawn_salvage(Some(known), options.clone(), named)
}

fn spawn_salvage(
    known: Option<Database>,
    options: StoreOptions,
    named: Sources,
) -> anyhow::Result<Receiver<anyhow::Result<Replaced>>> {
    let (answer, done) = channel();
    let salvage = move || {
        // A watchdog would be wrong here: a thread hanging on a card delays nobody.
        let pulse = Pulse::default();
        let (path, known) = (&options.path, known.as_ref());
        let replaced = options
            .tell_salvage(|tell| salvage::replace_database(path, known, &named, &pulse, tell));
        // If the writer has stopped, the next start takes up the new store.
        answer.send(replaced).ok();
    };
    let thread = std::thread::Builder::new().name("salvage".into());
    thread.spawn(salvage).context("cannot start the thread that carries the store over")?;
    Ok(done)
}
