//! A recording of beat-to-beat intervals, cut into the packets of a belt.

use crate::{Contact, HeartRate};

/// The plausible beat-to-beat intervals in milliseconds, artefacts included. The lower end bounds
/// the beats of a packet, the upper end the packets between two beats.
const PLAUSIBLE_MS: std::ops::RangeInclusive<u16> = 100..=60_000;
/// The number of beats in the average of a rate, as in belts.
const AVERAGED_BEATS: usize = 5;

/// Beats, and one packet for each second with the beats of that second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    intervals_ms: Vec<u16>,
    /// The number of beats that had ended by each second.
    ended: Vec<usize>,
}

/// The reason a file is not a recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecording {
    /// The first line is not `rr_ms`.
    #[error("the first line is not `rr_ms`")]
    NoHeader,
    /// A line is not an interval.
    #[error("line {line}: `{text}` is not an interval of 100 to 60000 ms")]
    NotAnInterval {
        /// The line number, from 1.
        line: usize,
        /// The text of the line.
        text: String,
    },
    /// The recording has no beats.
    #[error("less than a second of beats")]
    Empty,
}

impl Recording {
    /// Reads a CSV of one column, `rr_ms`: whole milliseconds, one beat a line.
    ///
    /// # Errors
    /// [`NotARecording`], with the line.
    pub fn parse_csv(text: &str) -> Result<Self, NotARecording> {
        let mut lines = text.lines().map(str::trim).zip(1..);
        if lines.next().is_none_or(|(header, _)| header != "rr_ms") {
            return Err(NotARecording::NoHeader);
        }
        let intervals_ms: Vec<_> = lines
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, line)| parse_interval(text, line))
            .collect::<Result<_, _>>()?;
        let ended = ended_by_second(&intervals_ms);
        if ended.is_empty() {
            return Err(NotARecording::Empty);
        }
        Ok(Self { intervals_ms, ended })
    }

    /// Returns the number of packets: the length in seconds.
    #[must_use]
    pub fn packet_count(&self) -> usize {
        self.ended.len()
    }

    /// Returns the packet of second `index`; starts over at the end of the recording.
    #[must_use]
    pub fn packet_at(&self, index: u64) -> HeartRate {
        let packets = u64::try_from(self.packet_count()).unwrap_or(u64::MAX);
        let second = usize::try_from(index % packets).unwrap_or(0);
        let from = second.checked_sub(1).map_or(0, |before| self.ended[before]);
        let to = self.ended[second];
        let rr = self.intervals_ms[from..to].iter().copied().map(to_ticks).collect();
        let recent = &self.intervals_ms[to.saturating_sub(AVERAGED_BEATS)..to];
        HeartRate { bpm: mean_rate(recent), contact: Contact::Detected, energy_kj: None, rr }
    }
}

fn parse_interval(text: &str, line: usize) -> Result<u16, NotARecording> {
    text.parse()
        .ok()
        .filter(|ms| PLAUSIBLE_MS.contains(ms))
        .ok_or_else(|| NotARecording::NotAnInterval { line, text: text.to_owned() })
}

/// Returns the number of beats ended by each second. An incomplete last second counts as a second,
/// so no beat is left out.
fn ended_by_second(intervals_ms: &[u16]) -> Vec<usize> {
    let mut ended = Vec::new();
    let mut at_ms = 0_u64;
    for (beat, interval_ms) in intervals_ms.iter().enumerate() {
        at_ms += u64::from(*interval_ms);
        let second = usize::try_from(at_ms.div_ceil(1000)).unwrap_or(usize::MAX);
        ended.resize(second, beat);
        ended[second - 1] = beat + 1;
    }
    ended
}

/// Converts milliseconds to the unit of 0x2A37: 1/1024 s.
fn to_ticks(interval_ms: u16) -> u16 {
    let ticks = (u32::from(interval_ms) * 1024 + 500) / 1000;
    u16::try_from(ticks).unwrap_or(u16::MAX)
}

/// Returns the mean rate of the intervals in beats per minute; 0 without intervals, as from a belt
/// before its first beat.
fn mean_rate(intervals_ms: &[u16]) -> u16 {
    let beats = u32::try_from(intervals_ms.len()).unwrap_or(u32::MAX);
    let ms: u32 = intervals_ms.iter().copied().map(u32::from).sum();
    let bpm = (beats * 60_000 + ms / 2).checked_div(ms).unwrap_or(0);
    u16::try_from(bpm).unwrap_or(u16::MAX)
}
