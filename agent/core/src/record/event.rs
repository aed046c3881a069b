//! Events: what happens to the device and its parts, beside readings and alerts.
//!
//! An event is stored as a word and its members, and published with both; only a visit is published with corrected
//! times in the place of its stored ones. [`Event`] is the one writer of these words and members and their one
//! reader, and `event/events.txt` lists them all. Receivers and stores of other versions read them, so a member is
//! added, and never renamed or removed. A new member is one field here, in the order in which it is written.
//!
//! A store may hold events of another version: [`Event::read`] returns `None` for these, and their text is published
//! as it is.

use serde::{Deserialize, Serialize, Serializer};

use crate::record::id::RecordId;

/// An event, with its members as fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Records were dropped.
    Gap(GapMembers),
    /// An inbox turned clients away, or cut them off.
    InboxCrowded(InboxCrowdedMembers),
    /// The clients of an inbox named most of the sources that they may name.
    InboxSourcesFilling {
        /// Number of the inbox in the order of the configuration, from 1.
        inbox: u32,
        /// Sources that its clients named.
        sources: u64,
        /// Sources that they may name.
        max_sources: u64,
    },
    /// A visit began or ended at a source that is reported live.
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
        /// Reason of the last one in words.
        reason: String,
    },
    /// A rule changes too often for one source: its alerts are held back.
    RuleFlapping {
        /// Name of the rule.
        rule: String,
        /// Id of the source.
        source: String,
    },
    /// A rule does not change too often any more.
    RuleSettled {
        /// Name of the rule.
        rule: String,
        /// Id of the source.
        source: String,
        /// Alerts that were held back.
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
    /// The store was damaged, and replaced by what could be read of it.
    StoreDamaged {
        /// File name under which the damaged store was kept.
        set_aside: String,
        /// Rows that made no sense and were left behind, if there are any.
        #[serde(skip_serializing_if = "Option::is_none")]
        left_rows: Option<u64>,
    },
    /// The disk takes no writes: records are kept in memory.
    StoreInMemory {
        /// Kind of fault in one word, as in `disk.fault` of the status.
        reason: String,
    },
    /// A store was expected and is not there.
    StoreLost,
    /// The disk takes writes again, and what was in memory is stored.
    StoreOnDisk {
        /// Time in memory, in whole seconds.
        seconds: u64,
    },
    /// The store was another thing's until now.
    ThingChanged(ThingChangedMembers),
    /// A visit ended.
    Visit(VisitMembers),
}

/// Every key that the record of some event has. A fixed field of the configuration with such a key would be a
/// second one in the same record.
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
    /// Clients that were one too many.
    pub turned_away: u64,
    /// Idle clients that made room for another one.
    pub displaced: u64,
    /// Lines that were not ended in time, so that their clients were closed.
    pub unfinished: u64,
    /// Clients that were closed because they did not read their answers.
    pub cut: u64,
}

/// The members of [`Event::ThingChanged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThingChangedMembers {
    /// Name of the other thing.
    pub from: String,
    /// Fate of the records that it left: the word of the configuration.
    pub backlog: String,
    /// Alerts that were pending.
    pub alerts: u64,
    /// Events that were pending.
    pub events: u64,
    /// Readings that were pending.
    pub readings: u64,
}

/// The members of [`Event::Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureMembers {
    /// Size of the picture in bytes.
    pub bytes: u64,
    /// Id of the camera.
    pub camera: String,
    /// Pictures that were deleted for this one, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted: Option<usize>,
    /// Path of the picture in its folder.
    pub key: String,
    /// Occasion on which the picture was taken.
    pub reason: PictureReason,
    /// Name of the rule whose alert asked for the picture, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// SHA-256 of the picture in lower-case hexadecimal.
    pub sha256: String,
    /// Id of the source of the alert or the visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Id of the visit that asked for the picture, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visit: Option<String>,
}

/// The occasion on which a picture is taken.
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
    /// Openings.
    pub openings: u32,
    /// Units that were taken.
    pub units: f64,
    /// Word for these units, if the configuration has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Kernel start on whose axis the times lie; `None` if the readings brought their own times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Whether a visit is under way from now on; `None` in [`Event::Visit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// The members of [`Event::Gap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapMembers {
    /// Word of the lane.
    pub lane: String,
    /// Id of the first record that is missing.
    pub first: String,
    /// Id of the last record that is missing.
    pub last: String,
    /// Records that are missing between the two.
    pub count: u64,
    /// Reason in one word.
    pub reason: String,
    /// Topic on which the broker hung up, if that is the reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Time at which the gap begins, in RFC 3339 in UTC with milliseconds: of one length, so that earlier is less.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<String>,
    /// Time at which the gap ends, in the same format.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventText {
    /// The word that tells events apart: `gap`, `source_lost`.
    pub word: String,
    /// The members, as a JSON object without its braces; empty if there are none.
    pub members: String,
}

/// The text of an event up to its word: `serde` writes the tag first.
const BEFORE_WORD: &str = r#"{"event":""#;

impl Event {
    /// Returns the event as it is stored.
    ///
    /// # Panics
    /// Never: the members are texts, numbers and truth values.
    #[must_use]
    pub fn to_text(&self) -> EventText {
        let object = serde_json::to_string(self).expect("texts and numbers are JSON");
        let inner = object.strip_prefix(BEFORE_WORD).and_then(|rest| rest.strip_suffix('}'));
        // A word is lower-case letters and underscores: its first quote is its end.
        let (word, members) = inner
            .and_then(|inner| inner.split_once('"'))
            .expect("an object that begins with its tag");
        let members = members.strip_prefix(',').unwrap_or(members);
        EventText { word: word.to_owned(), members: members.to_owned() }
    }

    /// Reads a stored event. Returns `None` for a word that this version does not know, and for members that
    /// are not those of the word; members that are unknown are passed over.
    #[must_use]
    pub fn read(word: &str, members: &str) -> Option<Self> {
        let word = serde_json::to_string(word).ok()?;
        let comma = if members.is_empty() { "" } else { "," };
        serde_json::from_str(&format!(r#"{{"event":{word}{comma}{members}}}"#)).ok()
    }
}

impl VisitMembers {
    /// Reads the members of a visit, or of a change of a live source. Returns `None` for any other event.
    #[must_use]
    pub fn read(word: &str, members: &str) -> Option<Self> {
        // Most events are no visits, and need not be read to see that.
        if word != VISIT && word != LIVE {
            return None;
        }
        let read = Event::read(word, members);
        let Some(Event::Visit(visit) | Event::Live(visit)) = read else { return None };
        Some(visit)
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
    pub fn read(members: &str) -> Option<Self> {
        let Some(Event::Gap(gap)) = Event::read(GAP, members) else { return None };
        Some(gap)
    }

    /// Returns the members as they are stored.
    #[must_use]
    pub fn to_text(&self) -> String {
        Event::Gap(self.clone()).to_text().members
    }

    /// Widens this gap over another one of the same lane and reason.
    pub fn widen(&mut self, other: &Self) {
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

/// 2^53: below it every whole number is the integer that it looks like.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Writes a number without a point when it is whole.
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
