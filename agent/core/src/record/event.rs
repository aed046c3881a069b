//! Events of the device and its parts, beside readings and alerts.
//!
//! An event is stored and published as a word and its members; only a visit is published with
//! corrected times in place of the stored times. [`Event`] is the only writer and the only reader
//! of these words and members, and `event/events.txt` lists all of them. Receivers, and stores of
//! other versions, depend on the words and members: members may be added, but never renamed or
//! removed. A new member is one new field in this file; fields are written in the order of their
//! declaration.
//!
//! A store may contain events of another version. Reading an unknown event gives `None`, and the
//! stored text is published unchanged.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::record::id::RecordId;

/// An event, with its members as fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Records were dropped.
    Gap(GapMembers),
    /// An inbox refused or disconnected clients.
    InboxCrowded(InboxCrowdedMembers),
    /// The clients of an inbox have named most of the allowed number of sources.
    InboxSourcesFilling {
        /// Number of the inbox in the order of the configuration, from 1.
        inbox: u32,
        /// Number of sources named by the clients.
        sources: u64,
        /// Greatest number of sources for the clients of this inbox.
        max_sources: u64,
    },
    /// A visit began or ended at a source with live reports.
    Live(VisitMembers),
    /// An output cannot be switched.
    OutputLost {
        /// Id of the output.
        output: String,
        /// Reason in words.
        reason: String,
    },
    /// An output can be switched again.
    OutputReturned {
        /// Id of the output.
        output: String,
        /// Duration of the outage, in seconds.
        #[serde(serialize_with = "write_shortest")]
        seconds: f64,
    },
    /// A picture was taken.
    Picture(PictureMembers),
    /// Pictures could not be taken.
    PictureFailed {
        /// Id of the camera.
        camera: String,
        /// Failures since the last event of this camera.
        failures: u32,
        /// Reason of the last failure in words.
        reason: String,
    },
    /// A rule changes too often for one source: the alerts are held back.
    RuleFlapping {
        /// Name of the rule.
        rule: String,
        /// Id of the source.
        source: String,
    },
    /// A rule no longer changes too often for one source.
    RuleSettled {
        /// Name of the rule.
        rule: String,
        /// Id of the source.
        source: String,
        /// Number of alerts held back.
        suppressed: u64,
    },
    /// A source has no readings.
    SourceLost {
        /// Id of the source.
        source: String,
        /// Reason in words.
        reason: String,
    },
    /// A source has readings again.
    SourceReturned {
        /// Id of the source.
        source: String,
        /// Duration of the outage, in seconds.
        #[serde(serialize_with = "write_shortest")]
        seconds: f64,
    },
    /// The store was damaged, and replaced by a new store with the readable records.
    StoreDamaged {
        /// File name under which the damaged store was kept.
        set_aside: String,
        /// Number of invalid rows left behind, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        left_rows: Option<u64>,
    },
    /// The disk refuses writes: records are kept in memory.
    StoreInMemory {
        /// Kind of fault in one word, as in `disk.fault` of the status.
        reason: String,
    },
    /// The store of this state directory is missing.
    StoreLost,
    /// The disk takes writes again, and the records in memory are stored.
    StoreOnDisk {
        /// Time in memory, in whole seconds.
        seconds: u64,
    },
    /// The store belonged to another thing until now.
    ThingChanged(ThingChangedMembers),
    /// A visit ended.
    Visit(VisitMembers),
}

/// All keys in the records of events. The configuration must not add a fixed field with any of
/// these keys: the record would have the key twice.
pub const EVENT_KEYS: &[&str] = &[
    "alerts",
    "backlog",
    "bytes",
    "camera",
    "clock",
    "count",
    "cut",
    "displaced",
    "end",
    "event",
    "events",
    "evicted",
    "failures",
    "first",
    "from",
    "inbox",
    "key",
    "lane",
    "last",
    "left_rows",
    "max_sources",
    "openings",
    "output",
    "readings",
    "reason",
    "rule",
    "seconds",
    "seq",
    "set_aside",
    "sha256",
    "source",
    "sources",
    "start",
    "state",
    "suppressed",
    "text",
    "time",
    "topic",
    "turned_away",
    "unfinished",
    "unit",
    "units",
    "visit",
];

/// The members of [`Event::InboxCrowded`]: counters since the start of the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxCrowdedMembers {
    /// Number of the inbox in the order of the configuration, from 1.
    pub inbox: u32,
    /// Clients refused because all places were taken.
    pub turned_away: u64,
    /// Idle clients closed in favour of new clients.
    pub displaced: u64,
    /// Clients closed because a line was not ended in time.
    pub unfinished: u64,
    /// Clients closed because the answers were not read.
    pub cut: u64,
}

/// The members of [`Event::ThingChanged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThingChangedMembers {
    /// Name of the other thing.
    pub from: String,
    /// Treatment of the records of the other thing: the word of the configuration.
    pub backlog: String,
    /// Number of pending alerts.
    pub alerts: u64,
    /// Number of pending events.
    pub events: u64,
    /// Number of pending readings.
    pub readings: u64,
}

/// The members of [`Event::Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureMembers {
    /// Size of the picture in bytes.
    pub bytes: u64,
    /// Id of the camera.
    pub camera: String,
    /// Number of pictures deleted to make room, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<usize>,
    /// Path of the picture in its folder.
    pub key: String,
    /// Occasion of the picture.
    pub reason: PictureReason,
    /// Name of the rule, if an alert requested the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// SHA-256 of the picture in lower-case hexadecimal.
    pub sha256: String,
    /// Id of the source of the alert or the visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Id of the visit, if a visit requested the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visit: Option<String>,
}

/// The occasion of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureReason {
    /// A rule raised an alert.
    Alert,
    /// A visit began.
    Begin,
    /// A lid was opened during a visit.
    Opening,
    /// A visit ended.
    End,
}

/// The stored members of [`Event::Visit`] and [`Event::Live`]. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisitMembers {
    /// Id of the source.
    pub source: String,
    /// Time of the first opening.
    pub start_ms: i64,
    /// Time of the last opening.
    pub end_ms: i64,
    /// Number of openings.
    pub openings: u32,
    /// Units taken.
    pub units: f64,
    /// Word for the units, if the configuration has a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Kernel start of the time axis; `None` if the readings have times of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// `true` at the beginning of the visit, `false` at the end; `None` in [`Event::Visit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// The members of [`Event::Gap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapMembers {
    /// Word of the lane.
    pub lane: String,
    /// Id of the first missing record.
    pub first: String,
    /// Id of the last missing record.
    pub last: String,
    /// Number of missing records from the first to the last.
    pub count: u64,
    /// Reason in one word.
    pub reason: String,
    /// Topic that made the broker hang up, if the reason is a quarantine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Start of the gap, in RFC 3339 in UTC with milliseconds: all texts have the same length, so
    /// text order is time order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<String>,
    /// End of the gap, in the same format.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
}

/// An event in the form of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventText {
    /// The word for the kind of the event, such as `gap` or `source_lost`.
    pub word: String,
    /// The members, as a JSON object without its braces; empty if the event has no members.
    pub members: String,
}

/// The JSON text before the word of an event: `serde` writes the tag first.
const BEFORE_WORD: &str = r#"{"event":""#;

impl Event {
    /// Returns the event in the form of the store.
    ///
    /// # Panics
    /// Never: the members are texts, numbers and truth values.
    #[must_use]
    pub fn to_text(&self) -> EventText {
        let object = serde_json::to_string(self).expect("texts and numbers are JSON");
        let inner = object.strip_prefix(BEFORE_WORD).and_then(|rest| rest.strip_suffix('}'));
        // A word consists of lower-case letters and underscores, so the first quote ends the word.
        let (word, members) = inner
            .and_then(|inner| inner.split_once('"'))
            .expect("an object that begins with its tag");
        let members = members.strip_prefix(',').unwrap_or(members);
        EventText { word: word.to_owned(), members: members.to_owned() }
    }

    /// Reads a stored event. Returns `None` for an unknown word, or if the members do not fit the
    /// word; ignores unknown members. The agent itself reads only gaps and visits, by their members
    /// alone, which leaves the reader of all other events out of the program.
    #[must_use]
    pub fn from_text(word: &str, members: &str) -> Option<Self> {
        let word = serde_json::to_string(word).ok()?;
        let comma = if members.is_empty() { "" } else { "," };
        serde_json::from_str(&format!(r#"{{"event":{word}{comma}{members}}}"#)).ok()
    }
}

/// Reads the members of an event whose word is known. Ignores unknown members.
fn read_members<T: DeserializeOwned>(members: &str) -> Option<T> {
    serde_json::from_str(&format!("{{{members}}}")).ok()
}

impl VisitMembers {
    /// Reads the members of [`Event::Visit`] or [`Event::Live`]. Returns `None` for any other
    /// event.
    #[must_use]
    pub fn from_text(word: &str, members: &str) -> Option<Self> {
        // Most events are no visits, and the word alone tells.
        if word != VISIT && word != LIVE {
            return None;
        }
        read_members(members)
    }
}

/// The word of [`Event::Visit`].
pub const VISIT: &str = "visit";
/// The word of [`Event::Live`].
const LIVE: &str = "live";
/// The word of [`Event::Gap`].
pub const GAP: &str = "gap";

impl GapMembers {
    /// Reads the members of a gap.
    #[must_use]
    pub fn from_members(members: &str) -> Option<Self> {
        read_members(members)
    }

    /// Returns the members in the form of the store.
    #[must_use]
    pub fn to_text(&self) -> String {
        Event::Gap(self.clone()).to_text().members
    }

    /// Extends this gap over `other`, a gap of the same lane and reason. The count is the sum of
    /// both; the topic is dropped if the topics differ.
    pub fn widen_over(&mut self, other: &Self) {
        let place = |id: &str| id.parse::<RecordId>().ok().map(|id| id.seq);
        if place(&other.first) < place(&self.first) {
            self.first.clone_from(&other.first);
        }
        if place(&other.last) > place(&self.last) {
            self.last.clone_from(&other.last);
        }
        self.count = self.count.saturating_add(other.count);
        if self.topic != other.topic {
            self.topic = None;
        }
        let starts = self.start.iter().chain(&other.start).min().cloned();
        let ends = self.end.iter().chain(&other.end).max().cloned();
        (self.start, self.end) = (starts, ends);
    }
}

/// 2^53: an `f64` holds every smaller whole number exactly.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Writes a whole number without a decimal point.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn write_shortest<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < MAX_WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53: exact")]
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

#[cfg(test)]
mod tests;
