//! The table of sources: gives each pair of id and kind a number, so a stored reading carries four
//! bytes in place of two strings.
//!
//! Numbers are assigned once and never change: the store keeps the table beside the readings.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The maximum number of sources; bounds the memory and the rows of the table.
pub const MAX_SOURCES: usize = 12_000;
/// The maximum number of sources named by other programs, which bounds the cost of a program that
/// invents names. The rest of the table is reserved for the sources of the configuration, also in a
/// table filled by a version that let programs name 10,000.
pub const MAX_CLIENT_SOURCES: usize = 8_000;
/// The number of entries reserved for the device's own sensors, even in a table filled by an older
/// version or under other limits of the inboxes. Far more sensors than a device has.
pub const SENSOR_SOURCES: usize = 1_000;
const _: () = assert!(MAX_CLIENT_SOURCES + SENSOR_SOURCES < MAX_SOURCES);
/// The maximum length of a name: long enough for a UUID with a prefix, and repeated in every
/// record.
pub const MAX_NAME_BYTES: usize = 64;

/// The number of a source in this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A source: its configured, opaque id and the kind of its readings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The id, `[A-Za-z0-9._:-]{1,64}`; opaque: the id identifies no person.
    pub name: Box<str>,
    /// `heart_rate`, `lid`, `number`, or another program's word, `[a-z][a-z0-9_]{0,63}`.
    pub kind: Box<str>,
}

/// An invalid id or kind of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid name")]
pub struct InvalidName(pub String);

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_SOURCES} sources")]
pub struct TooManySources;

impl Source {
    /// Creates a source from a valid id and kind.
    ///
    /// # Errors
    /// The invalid name.
    pub fn new(name: &str, kind: &str) -> Result<Self, InvalidName> {
        if !is_source_name(name) {
            return Err(InvalidName(name.to_owned()));
        }
        if !is_kind(kind) {
            return Err(InvalidName(kind.to_owned()));
        }
        Ok(Self { name: name.into(), kind: kind.into() })
    }

    /// Returns `true` if the readings of the source are derived from those of another kind, as in
    /// `heart_rate.rmssd`. Only the agent itself creates derived sources; [`Source::new`] refuses
    /// their kinds.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        self.kind.contains('.')
    }
}

/// Returns `true` if `name` is a valid source id.
#[must_use]
pub fn is_source_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Returns `true` if `kind` is a valid kind of reading.
#[must_use]
pub fn is_kind(kind: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&kind.len())
        && kind.as_bytes()[0].is_ascii_lowercase()
        && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Every source so far, shared between the drivers and the store.
#[derive(Debug, Default)]
pub struct Sources {
    table: RwLock<SourceTable>,
}

#[derive(Debug, Default)]
struct SourceTable {
    by_id: Vec<Arc<Source>>,
    by_source: HashMap<Arc<Source>, SourceId>,
}

impl Sources {
    /// Returns the number of `source`, and assigns a number to a new source.
    ///
    /// # Errors
    /// [`TooManySources`] if a new source would exceed [`MAX_SOURCES`].
    pub fn intern_source(&self, source: Source) -> Result<SourceId, TooManySources> {
        self.intern_if(source, MAX_SOURCES, |_| true)
    }

    /// Returns the number of `source`. A new source is added only if `may_add` returns `true`.
    /// `may_add` receives the sources from number `from` on; no other source is added during the
    /// call.
    ///
    /// # Errors
    /// [`TooManySources`], also if `may_add` returns `false`.
    pub(crate) fn intern_if(
        &self,
        source: Source,
        from: usize,
        may_add: impl FnOnce(&[Arc<Source>]) -> bool,
    ) -> Result<SourceId, TooManySources> {
        if let Some(id) = self.find_id(&source) {
            return Ok(id);
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = table.by_source.get(&source) {
            return Ok(*id);
        }
        let added = table.by_id.get(from..).unwrap_or_default();
        if table.by_id.len() >= MAX_SOURCES || !may_add(added) {
            return Err(TooManySources);
        }
        let id = SourceId(u32::try_from(table.by_id.len()).expect("bounded by MAX_SOURCES"));
        let source = Arc::new(source);
        table.by_id.push(Arc::clone(&source));
        table.by_source.insert(source, id);
        Ok(id)
    }

    /// Returns the number of `source`; `None` if the source is not in the table.
    #[must_use]
    pub fn find_id(&self, source: &Source) -> Option<SourceId> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).by_source.get(source).copied()
    }

    /// Returns the source with the number `id`.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<Arc<Source>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_id.get(usize::try_from(id.0).ok()?).cloned()
    }

    /// Returns the sources from number `from` on, in order.
    #[must_use]
    pub fn list_since(&self, from: usize) -> Vec<Arc<Source>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_id.get(from..).unwrap_or_default().to_vec()
    }

    /// Returns the number of sources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// Returns `true` if the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
