//! Which sources belong to whom, and how many of the table of sources an inbox may fill.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Admission, Counters};
use crate::{MAX_CLIENT_SOURCES, Source, SourceId, Sources};

/// Whose the sources are, by the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// The ids of this device's own sensors. No inbox speaks for them.
    pub sensors: HashSet<Box<str>>,
    /// For each inbox, the ids that it is limited to, if it is.
    pub inboxes: Vec<Option<HashSet<Box<str>>>>,
}

impl Owners {
    /// How many sources the inbox may have in the table, and how many of them others may share: the
    /// part of the table that programs may fill is divided evenly among inboxes, and those that are
    /// not limited to certain ids have one account together, since the table does not tell who named
    /// a source.
    fn share(&self, admission: &Admission) -> usize {
        let each = MAX_CLIENT_SOURCES / self.inboxes.len().max(1);
        match admission {
            Admission::Only(_) => each,
            Admission::Any => {
                let open = self.inboxes.iter().filter(|only| only.is_none()).count();
                each * open.max(1)
            }
        }
    }

    fn counts(&self, admission: &Admission, source: &Source) -> bool {
        if self.sensors.contains(&source.name) {
            return false;
        }
        match admission {
            Admission::Only(ids) => ids.contains(&source.name),
            Admission::Any => {
                let mut limited = self.inboxes.iter().flatten();
                !limited.any(|ids| ids.contains(&source.name))
            }
        }
    }
}

/// What one inbox may name.
#[derive(Debug)]
pub(super) struct Rights {
    owners: watch::Receiver<Arc<Owners>>,
    counters: Arc<Counters>,
    used: usize,
    share: usize,
    is_new: bool,
}

impl Rights {
    pub(super) fn new(owners: watch::Receiver<Arc<Owners>>, counters: Arc<Counters>) -> Self {
        Self { owners, counters, used: 0, share: 0, is_new: true }
    }

    /// Counts anew after another configuration. Returns whether there is one.
    pub(super) fn follow(&mut self, admission: &Admission, sources: &Sources) -> bool {
        if !std::mem::take(&mut self.is_new) && !self.owners.has_changed().unwrap_or(false) {
            return false;
        }
        let owners = Arc::clone(&self.owners.borrow_and_update());
        let all = sources.since(0);
        self.used = all.iter().filter(|source| owners.counts(admission, source)).count();
        self.share = owners.share(admission);
        self.tell();
        true
    }

    pub(super) fn is_of_sensor(&self, name: &str) -> bool {
        self.owners.borrow().sensors.contains(name)
    }

    /// The number of a source, which is given one if there is room in the share.
    pub(super) fn intern(&mut self, source: Source, sources: &Sources) -> Option<SourceId> {
        if let Some(id) = sources.find(&source) {
            return Some(id);
        }
        if self.used >= self.share {
            return None;
        }
        let id = sources.intern(source).ok()?;
        self.used += 1;
        self.tell();
        Some(id)
    }

    fn tell(&self) {
        let tell = |number| u64::try_from(number).unwrap_or(u64::MAX);
        self.counters.sources.store(tell(self.used), Ordering::Relaxed);
        self.counters.max_sources.store(tell(self.share), Ordering::Relaxed);
    }
}
