//! Checks the owner of each source, and limits the number of sources that an inbox may add to the
//! table.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Counters, SourceAdmission};
use crate::{MAX_CLIENT_SOURCES, MAX_SOURCES, SENSOR_SOURCES, Source, SourceId, Sources};

/// The configured owners of the sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// The ids of this device's own sensors. No inbox accepts readings for these sources.
    pub sensors: HashSet<Box<str>>,
    /// The ids that each inbox is limited to; `None` for an unlimited inbox.
    pub inboxes: Vec<Option<HashSet<Box<str>>>>,
}

impl Owners {
    /// Returns the number of sources that the inbox may have in the table. The part of the table
    /// for programs is divided evenly among inboxes. Inboxes without a list of ids have one common
    /// share, since the table does not record the inbox of a source.
    fn source_share(&self, admission: &SourceAdmission) -> usize {
        let each = MAX_CLIENT_SOURCES / self.inboxes.len().max(1);
        match admission {
            SourceAdmission::Only(_) => each,
            SourceAdmission::Any => {
                let open = self.inboxes.iter().filter(|only| only.is_none()).count();
                each * open.max(1)
            }
        }
    }

    fn counts_source(&self, admission: &SourceAdmission, source: &Source) -> bool {
        if self.sensors.contains(&source.name) {
            return false;
        }
        match admission {
            SourceAdmission::Only(ids) => ids.contains(&source.name),
            SourceAdmission::Any => {
                let mut limited = self.inboxes.iter().flatten();
                !limited.any(|ids| ids.contains(&source.name))
            }
        }
    }
}

/// The limits of one inbox. Sources are counted in the table of sources only, so sources of other
/// inboxes are included before a source is added.
#[derive(Debug)]
pub(super) struct Rights {
    owners: watch::Receiver<Arc<Owners>>,
    counters: Arc<Counters>,
    /// The owners used for the counts.
    followed: Arc<Owners>,
    /// The number of counted sources of the table.
    seen: usize,
    /// The number of counted sources within the share of this inbox.
    used: usize,
    /// The number of counted sources that belong to no sensor.
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

    /// Counts the sources added to the table since the last call, or all sources after a change of
    /// the configuration. Returns `true` after a change.
    pub(super) fn refresh_counts(
        &mut self,
        admission: &SourceAdmission,
        sources: &Sources,
    ) -> bool {
        let is_other =
            std::mem::take(&mut self.is_new) || self.owners.has_changed().unwrap_or(false);
        if is_other {
            self.followed = Arc::clone(&self.owners.borrow_and_update());
            self.share = self.followed.source_share(admission);
            (self.seen, self.used, self.foreign) = (0, 0, 0);
        }
        self.count_new(admission, sources);
        is_other
    }

    pub(super) fn is_of_sensor(&self, name: &str) -> bool {
        self.owners.borrow().sensors.contains(name)
    }

    /// Returns the number of a source. A new source gets a number only if the share of the inbox
    /// and the part of the table reserved for sensors leave room.
    pub(super) fn intern_source(
        &mut self,
        source: Source,
        admission: &SourceAdmission,
        sources: &Sources,
    ) -> Option<SourceId> {
        let id = sources.intern_if(source, self.seen, |added| {
            self.count_sources(admission, added);
            self.used < self.share && self.foreign < MAX_SOURCES - SENSOR_SOURCES
        });
        self.count_new(admission, sources);
        id.ok()
    }

    fn count_new(&mut self, admission: &SourceAdmission, sources: &Sources) {
        if sources.len() > self.seen {
            self.count_sources(admission, &sources.list_since(self.seen));
        }
        let tell = |number| u64::try_from(number).unwrap_or(u64::MAX);
        self.counters.sources.store(tell(self.used), Ordering::Relaxed);
        self.counters.max_sources.store(tell(self.share), Ordering::Relaxed);
    }

    fn count_sources(&mut self, admission: &SourceAdmission, added: &[Arc<Source>]) {
        let owners = &self.followed;
        self.used += added.iter().filter(|source| owners.counts_source(admission, source)).count();
        self.foreign += added.iter().filter(|one| !owners.sensors.contains(&one.name)).count();
        self.seen += added.len();
    }
}
