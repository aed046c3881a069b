//! Which sources belong to whom, and how many of the table of sources an inbox may fill.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Admission, Counters};
use crate::{MAX_CLIENT_SOURCES, MAX_SOURCES, SENSOR_SOURCES, Source, SourceId, Sources};

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

/// What one inbox may name. The table of sources is the only count: what other inboxes add to it is
/// counted before anything is added.
#[derive(Debug)]
pub(super) struct Rights {
    owners: watch::Receiver<Arc<Owners>>,
    counters: Arc<Counters>,
    /// The owners by which sources were counted.
    followed: Arc<Owners>,
    /// How many sources of the table were counted.
    seen: usize,
    /// Those of them that count towards the share of this inbox.
    used: usize,
    /// Those of them that are of no sensor.
    foreign: usize,
    share: usize,
    is_new: bool,
}

impl Rights {
    pub(super) fn new(owners: watch::Receiver<Arc<Owners>>, counters: Arc<Counters>) -> Self {
        let followed = Arc::default();
        let (seen, used, foreign, share) = (0, 0, 0, 0);
        Self { owners, counters, followed, seen, used, foreign, share, is_new: true }
    }

    /// Counts what was added to the table, and all of it after another configuration. Returns whether
    /// there is one.
    pub(super) fn follow(&mut self, admission: &Admission, sources: &Sources) -> bool {
        let is_other =
            std::mem::take(&mut self.is_new) || self.owners.has_changed().unwrap_or(false);
        if is_other {
            self.followed = Arc::clone(&self.owners.borrow_and_update());
            self.share = self.followed.share(admission);
            (self.seen, self.used, self.foreign) = (0, 0, 0);
        }
        self.count_new(admission, sources);
        is_other
    }

    pub(super) fn is_of_sensor(&self, name: &str) -> bool {
        self.owners.borrow().sensors.contains(name)
    }

    /// The number of a source, which is given one if there is room in the share, and beside the places of
    /// the sensors.
    pub(super) fn intern(
        &mut self,
        source: Source,
        admission: &Admission,
        sources: &Sources,
    ) -> Option<SourceId> {
        let id = sources.intern_if(source, self.seen, |added| {
            self.count(admission, added);
            self.used < self.share && self.foreign < MAX_SOURCES - SENSOR_SOURCES
        });
        self.count_new(admission, sources);
        id.ok()
    }

    fn count_new(&mut self, admission: &Admission, sources: &Sources) {
        if sources.len() > self.seen {
            self.count(admission, &sources.since(self.seen));
        }
        let tell = |number| u64::try_from(number).unwrap_or(u64::MAX);
        self.counters.sources.store(tell(self.used), Ordering::Relaxed);
        self.counters.max_sources.store(tell(self.share), Ordering::Relaxed);
    }

    fn count(&mut self, admission: &Admission, added: &[Arc<Source>]) {
        let owners = &self.followed;
        self.used += added.iter().filter(|source| owners.counts(admission, source)).count();
        self.foreign += added.iter().filter(|one| !owners.sensors.contains(&one.name)).count();
        self.seen += added.len();
    }
}
