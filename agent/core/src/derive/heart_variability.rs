//! Heart-rate variability: figures of the intervals between beats, over one and over five minutes.
//!
//! Time here is the sum of the intervals: a minute is over once its intervals add up to a minute.
//! The figures therefore depend on the beats alone, not on the arrival of packets. Beats other than
//! sinus beats, and lost beats, are excluded and counted ([`Beat`]); no difference is taken across
//! an excluded beat. The figures are readings of their own kinds ([`Derived`]), recorded,
//! published, used by rules and found by a replay like other readings.
//!
//! Definitions: Task Force of ESC and NASPE, Heart rate variability (1996). SDNN is the sample
//! standard deviation (n - 1); pNN50 is a share of the differences, not of the beats.

mod beat_filter;
#[cfg(test)]
mod tests;

use std::time::Duration;

use pulsegate_sensors::Contact;

use crate::record::reading::HeartDetail;
use crate::time::Mono;

pub use beat_filter::{Beat, BeatFilter};

/// The shorter span, in milliseconds.
const MINUTE_MS: f64 = 60_000.0;
/// The longer span, in minutes.
const LONG_MINUTES: u8 = 5;
/// The least share of a span covered by good intervals; below it, the span has no figures.
const MIN_SHARE: f64 = 0.5;
/// The least excess of the time between packets over the sum of the intervals at which beats were
/// lost: allows for a slow heart and a late packet.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// The least length of a hole in the packets after which the minute begins anew.
const ANEW_AFTER: Duration = Duration::from_secs(10);
/// The difference of intervals above which it counts for pNN50, in milliseconds.
const NN50_MS: f64 = 50.0;

/// The figures of a series of intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// The mean interval, in milliseconds.
    pub mean_rr_ms: f64,
    /// SDNN: the standard deviation of the intervals, in milliseconds.
    pub sdnn_ms: f64,
    /// RMSSD: the root mean square of successive differences, in milliseconds.
    pub rmssd_ms: f64,
    /// pNN50: the share of successive differences above 50 ms, in percent.
    pub pnn50_percent: f64,
}

impl Figures {
    /// Calculates the figures of an uninterrupted series of intervals in milliseconds; `None` for
    /// fewer than two.
    #[must_use]
    pub fn from_rr_ms(rr_ms: &[f64]) -> Option<Self> {
        let whole = rr_ms.iter().map(|rr_ms| Interval { rr_ms: *rr_ms, follows: true });
        Self::of_intervals(&whole.collect::<Vec<_>>())
    }

    fn of_intervals(intervals: &[Interval]) -> Option<Self> {
        let count = to_f64(intervals.len());
        let mean = intervals.iter().map(|interval| interval.rr_ms).sum::<f64>() / count;
        let squares = intervals.iter().map(|interval| (interval.rr_ms - mean).powi(2)).sum::<f64>();
        let pairs = intervals.iter().zip(intervals.iter().skip(1));
        let differences: Vec<f64> = pairs
            .filter(|(_, later)| later.follows)
            .map(|(earlier, later)| later.rr_ms - earlier.rr_ms)
            .collect();
        if differences.is_empty() {
            return None;
        }
        let pairs = self::to_f64(differences.len());
        let large = differences.iter().filter(|difference| difference.abs() > NN50_MS).count();
        Some(Self {
            mean_rr_ms: mean,
            sdnn_ms: (squares / (count - 1.0)).sqrt(),
            rmssd_ms: (differences.iter().map(|d| d * d).sum::<f64>() / pairs).sqrt(),
            pnn50_percent: 100.0 * self::to_f64(large) / pairs,
        })
    }
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A good interval; `follows` is `true` if the interval before was good too.
#[derive(Debug, Clone, Copy)]
struct Interval {
    rr_ms: f64,
    follows: bool,
}

/// The derived figures, each with its own kind of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Derived {
    /// Mean interval of a minute, in milliseconds.
    MeanRr,
    /// Mean rate of a minute, in beats per minute.
    MeanRate,
    /// SDNN of a minute, in milliseconds.
    Sdnn,
    /// RMSSD of a minute, in milliseconds.
    Rmssd,
    /// pNN50 of a minute, in percent.
    Pnn50,
    /// Beats of a minute set aside, other than sinus beats.
    Ectopic,
    /// Lost beats of a minute.
    Lost,
    /// Share of the packets of a minute with skin contact, in percent.
    Contact,
    /// Energy expended in a minute, in kilojoule.
    Energy,
    /// As [`Derived::MeanRr`], of five minutes.
    MeanRr5,
    /// As [`Derived::MeanRate`], of five minutes.
    MeanRate5,
    /// As [`Derived::Sdnn`], of five minutes.
    Sdnn5,
    /// As [`Derived::Rmssd`], of five minutes.
    Rmssd5,
    /// As [`Derived::Pnn50`], of five minutes.
    Pnn505,
}

impl Derived {
    /// All derived figures.
    pub const ALL: [Self; 14] = [
        Self::MeanRr,
        Self::MeanRate,
        Self::Sdnn,
        Self::Rmssd,
        Self::Pnn50,
        Self::Ectopic,
        Self::Lost,
        Self::Contact,
        Self::Energy,
        Self::MeanRr5,
        Self::MeanRate5,
        Self::Sdnn5,
        Self::Rmssd5,
        Self::Pnn505,
    ];

    /// Returns the kind of the readings.
    #[must_use]
    pub fn reading_kind(self) -> &'static str {
        match self {
            Self::MeanRr => "heart_rate.mean_rr",
            Self::MeanRate => "heart_rate.mean_rate",
            Self::Sdnn => "heart_rate.sdnn",
            Self::Rmssd => "heart_rate.rmssd",
            Self::Pnn50 => "heart_rate.pnn50",
            Self::Ectopic => "heart_rate.ectopic",
            Self::Lost => "heart_rate.lost",
            Self::Contact => "heart_rate.contact",
            Self::Energy => "heart_rate.energy",
            Self::MeanRr5 => "heart_rate.mean_rr_5m",
            Self::MeanRate5 => "heart_rate.mean_rate_5m",
            Self::Sdnn5 => "heart_rate.sdnn_5m",
            Self::Rmssd5 => "heart_rate.rmssd_5m",
            Self::Pnn505 => "heart_rate.pnn50_5m",
        }
    }
}

const SHORT: [Derived; 5] =
    [Derived::MeanRr, Derived::MeanRate, Derived::Sdnn, Derived::Rmssd, Derived::Pnn50];
const LONG: [Derived; 5] =
    [Derived::MeanRr5, Derived::MeanRate5, Derived::Sdnn5, Derived::Rmssd5, Derived::Pnn505];

/// The state of one heart-rate monitor.
#[derive(Debug, Clone, Default)]
pub struct HeartVariability {
    sieve: BeatFilter,
    /// The good intervals of the current five minutes.
    intervals: Vec<Interval>,
    /// The index in `intervals` at which the current minute begins.
    minute_at: usize,
    minute: Minute,
    minutes: u8,
    /// `true` if the last interval was good.
    follows: bool,
    heard: Option<Mono>,
    /// The last energy reported by the monitor since its reset, and since the last long hole.
    energy_kj: Option<u16>,
}

/// The sums of the current minute.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    elapsed_ms: f64,
    ectopic: u32,
    lost: u32,
    /// The packets with a contact status (`told`), and the packets with skin contact (`felt`).
    told: u32,
    felt: u32,
    energy_kj: Option<u32>,
}

impl HeartVariability {
    /// Takes one packet with arrival `now`, and appends the figures of a completed span to `out`.
    pub fn add_packet(&mut self, now: Mono, detail: &HeartDetail, out: &mut Vec<(Derived, f64)>) {
        if detail.contact != Contact::Lost && !detail.rr.is_empty() {
            self.detect_hole(now, &detail.rr);
        }
        self.add_energy(detail.energy_kj);
        match detail.contact {
            Contact::Unsupported => {}
            Contact::Detected => {
                self.minute.told += 1;
                self.minute.felt += 1;
            }
            Contact::Lost => {
                self.minute.told += 1;
                self.follows = false;
                return;
            }
        }
        for raw in &detail.rr {
            // Heart Rate Service 1.0, 3.1.1.5: the unit is 1/1024 s.
            self.add_interval(f64::from(*raw) * 1000.0 / 1024.0, out);
        }
    }

    fn add_interval(&mut self, rr_ms: f64, out: &mut Vec<(Derived, f64)>) {
        let beat = self.sieve.classify_interval(rr_ms);
        match beat {
            Beat::Good => self.intervals.push(Interval { rr_ms, follows: self.follows }),
            Beat::Ectopic => self.minute.ectopic += 1,
            Beat::Lost => self.minute.lost += 1,
        }
        self.follows = beat == Beat::Good;
        self.minute.elapsed_ms += rr_ms;
        if self.minute.elapsed_ms >= MINUTE_MS {
            self.end_minute(out);
        }
    }

    fn end_minute(&mut self, out: &mut Vec<(Derived, f64)>) {
        let minute = std::mem::take(&mut self.minute);
        append_figures(&self.intervals[self.minute_at..], 1, SHORT, out);
        out.push((Derived::Ectopic, f64::from(minute.ectopic)));
        out.push((Derived::Lost, f64::from(minute.lost)));
        if minute.told > 0 {
            let share = 100.0 * f64::from(minute.felt) / f64::from(minute.told);
            out.push((Derived::Contact, share));
        }
        out.extend(minute.energy_kj.map(|energy| (Derived::Energy, f64::from(energy))));
        self.minutes += 1;
        if self.minutes == LONG_MINUTES {
            append_figures(&self.intervals, LONG_MINUTES, LONG, out);
            self.minutes = 0;
            self.intervals.clear();
        }
        self.minute_at = self.intervals.len();
    }

    /// Compares the time since the last packet with the sum of the intervals in this packet, and
    /// counts lost beats, or begins anew after a long hole.
    fn detect_hole(&mut self, now: Mono, rr: &[u16]) {
        let Some(heard) = self.heard.replace(now) else { return };
        let told = rr.iter().map(|raw| u64::from(*raw) * 1000 / 1024).sum();
        let hole = now.since(heard).saturating_sub(Duration::from_millis(told));
        if hole < LOST_AFTER {
            return;
        }
        self.follows = false;
        if hole >= ANEW_AFTER {
            // The energy of the hole belongs to no minute either.
            *self = Self { heard: Some(now), ..Self::default() };
            return;
        }
        let usual_ms = self.sieve.running_median().unwrap_or(1000.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 10 s of beats of at least 300 ms"
        )]
        let lost = (hole.as_secs_f64() * 1000.0 / usual_ms).round() as u32;
        self.minute.lost += lost;
    }

    /// Adds the energy since the last packet. The energy of the monitor only rises, up to 65,535
    /// kJ; a lower value follows a reset.
    fn add_energy(&mut self, energy_kj: Option<u16>) {
        let Some(energy) = energy_kj else { return };
        let spent = match self.energy_kj.replace(energy) {
            Some(before) => energy.checked_sub(before).unwrap_or(energy),
            None => 0,
        };
        *self.minute.energy_kj.get_or_insert(0) += u32::from(spent);
    }
}

/// Appends the figures of a span, if enough of the span is covered by good intervals.
fn append_figures(
    intervals: &[Interval],
    minutes: u8,
    as_what: [Derived; 5],
    out: &mut Vec<(Derived, f64)>,
) {
    let covered: f64 = intervals.iter().map(|interval| interval.rr_ms).sum();
    if covered < MIN_SHARE * MINUTE_MS * f64::from(minutes) {
        return;
    }
    let Some(figures) = Figures::of_intervals(intervals) else { return };
    let Figures { mean_rr_ms, sdnn_ms, rmssd_ms, pnn50_percent } = figures;
    let values = [mean_rr_ms, MINUTE_MS / mean_rr_ms, sdnn_ms, rmssd_ms, pnn50_percent];
    out.extend(as_what.into_iter().zip(values));
}
