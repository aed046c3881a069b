//! Simulated sensors: belts, numbers and lids, for demonstrations and tests.
//!
//! The output of a sensor at a step depends only on its settings, its seed and the number of the
//! step: the same seed gives the same output. Heart rates pass through the bytes of a real packet.
//! The configured [`Faults`] are those of real sensors.

mod recording;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{self, Instant};

use crate::heart_rate::packet;
use crate::{Contact, HeartRate, LineState, Measurement, NoReading, Outlet};
pub use recording::{NotARecording, Recording};

/// The assumed interval between steps of a sensor without a pace: a belt's rhythm.
const NOMINAL_PERIOD: Duration = Duration::from_secs(1);
/// The time between two edges of a bouncing contact.
const BOUNCE: Duration = Duration::from_millis(1);
/// The maximum number of RR intervals in a packet: more do not fit beside the rate into the 20
/// bytes of a small notification.
const MAX_RR: usize = 9;
/// The range of a simulated heart rate, in beats per minute; spikes exceed the range.
const BPM: (f64, f64) = (20.0, 240.0);

/// A simulated sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// The measured quantity.
    pub kind: SimulatedKind,
    /// The time between two steps, or between two visits to a lid; `None`: without a pause.
    pub every: Option<Duration>,
    /// The seed of the random numbers.
    pub seed: u64,
    /// Changes of the mean: the offset from the start and the new mean, in order. For heart rates
    /// and numbers.
    pub steps: Vec<(Duration, f64)>,
    /// The faults to simulate.
    pub faults: Faults,
}

/// The quantity that a simulated sensor measures.
#[derive(Debug, Clone, PartialEq)]
pub enum SimulatedKind {
    /// A belt.
    HeartRate {
        /// Its mean, in beats per minute.
        mean_bpm: f64,
        /// The maximum distance from the mean.
        spread: f64,
        /// `true` if the belt sends beat-to-beat intervals.
        rr: bool,
    },
    /// A number.
    Number {
        /// Its mean.
        mean: f64,
        /// The maximum distance from the mean.
        spread: f64,
    },
    /// A lid, closed at first, then open at the end of each period.
    Line {
        /// The time for which the lid is open; at most the period.
        open: Duration,
    },
    /// A belt that replays a recording, one packet a step, from the start again after the end.
    Replay(Arc<Recording>),
}

/// The faults of a simulated sensor. Chances are per step, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// The chance of lost skin contact, for belts.
    pub contact_lost: f64,
    /// The chance of a value far from the mean, for belts and numbers.
    pub spikes: f64,
    /// The chance of data without a measurement, for belts and numbers.
    pub garbage: f64,
    /// Periods of silence, as offsets from the start.
    pub silences: Vec<Range<Duration>>,
    /// The maximum number of bounces of a lid's contact per move.
    pub bounces: u8,
}

/// Sends the measurements of the sensor, each step at its time, until the receiver is gone.
pub async fn run_simulation(simulated: Simulated, outlet: Outlet) {
    let start = Instant::now();
    let is_paced = simulated.pace().is_some();
    for step in 0.. {
        if is_paced {
            time::sleep_until(start + simulated.step_offset(step)).await;
        }
        let outcomes = simulated.simulate_step(step);
        if outcomes.is_empty() {
            // Without a pace and silent: the loop would otherwise keep the thread.
            tokio::task::yield_now().await;
        }
        for (edge, outcome) in outcomes.into_iter().enumerate() {
            if is_paced && edge > 0 {
                time::sleep(BOUNCE).await;
            }
            let heard = match outcome {
                Ok(measurement) => outlet.send_measurement(measurement).await,
                Err(reason) => outlet.send_no_reading(reason).await,
            };
            if !heard {
                return;
            }
        }
    }
}

impl Simulated {
    /// Returns the offset of a step from the start. Without a pace, steps count as one second
    /// apart.
    #[must_use]
    pub fn step_offset(&self, step: u64) -> Duration {
        let period = self.pace().unwrap_or(NOMINAL_PERIOD);
        match &self.kind {
            // A lid is closed at 0, then opens and closes again in each period.
            SimulatedKind::Line { open } => {
                let end = multiply_duration(period, step.div_ceil(2));
                if step % 2 == 1 { end.saturating_sub(*open.min(&period)) } else { end }
            }
            SimulatedKind::HeartRate { .. }
            | SimulatedKind::Number { .. }
            | SimulatedKind::Replay(_) => multiply_duration(period, step),
        }
    }

    /// Returns the sensor's output at a step: usually one measurement; nothing during a silence,
    /// apart from one [`NoReading::Silent`] at its beginning; several edges if a contact bounces.
    #[must_use]
    pub fn simulate_step(&self, step: u64) -> Vec<Result<Measurement, NoReading>> {
        if self.is_silent(step) {
            let begins = step == 0 || !self.is_silent(step - 1);
            let seconds = self.pace().unwrap_or(NOMINAL_PERIOD).as_secs().max(1);
            return begins.then_some(Err(NoReading::Silent { seconds })).into_iter().collect();
        }
        // An odd factor, so that neighbouring steps do not begin alike: 2^64 / golden ratio.
        let mut rng = Rng::with_seed(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match &self.kind {
            SimulatedKind::HeartRate { mean_bpm, spread, rr } => {
                let bpm = self.mean_at(*mean_bpm, step) + spread * random_noise(&mut rng);
                vec![self.send_through_packet(self.heart_rate(bpm, *rr, step), &mut rng)]
            }
            SimulatedKind::Replay(recording) => {
                vec![self.send_through_packet(recording.packet_at(step), &mut rng)]
            }
            SimulatedKind::Number { mean, spread } => {
                vec![self.measure_number(self.mean_at(*mean, step), *spread, &mut rng)]
            }
            SimulatedKind::Line { .. } => self.move_lid(step, &mut rng),
        }
    }

    fn pace(&self) -> Option<Duration> {
        self.every.filter(|every| !every.is_zero())
    }

    fn is_silent(&self, step: u64) -> bool {
        let at = self.step_offset(step);
        self.faults.silences.iter().any(|silence| silence.contains(&at))
    }

    fn mean_at(&self, first: f64, step: u64) -> f64 {
        let at = self.step_offset(step);
        self.steps
            .iter()
            .take_while(|(from, _)| *from <= at)
            .last()
            .map_or(first, |(_, mean)| *mean)
    }

    /// Returns a heart rate with as many RR intervals as beats end before the next step, at an even
    /// rate.
    fn heart_rate(&self, bpm: f64, with_rr: bool, step: u64) -> HeartRate {
        let bpm = round_to_u16(bpm.clamp(BPM.0, BPM.1));
        let beats_by = |step| self.step_offset(step).as_millis() * u128::from(bpm) / 60_000;
        let beats = match with_rr {
            true => beats_by(step.saturating_add(1)).saturating_sub(beats_by(step)),
            false => 0,
        };
        let interval = round_to_u16(61_440.0 / f64::from(bpm));
        let rr = vec![interval; usize::try_from(beats).map_or(MAX_RR, |beats| beats.min(MAX_RR))];
        HeartRate { bpm, contact: Contact::Detected, energy_kj: None, rr }
    }

    /// Passes a measurement through the bytes of a packet, with the configured faults.
    fn send_through_packet(
        &self,
        mut heart: HeartRate,
        rng: &mut Rng,
    ) -> Result<Measurement, NoReading> {
        if rng.f64() < self.faults.contact_lost {
            heart.contact = Contact::Lost;
            heart.rr.clear();
        }
        if rng.f64() < self.faults.spikes {
            heart.bpm = if rng.bool() { 0 } else { 300 };
        }
        let mut bytes = packet::encode_measurement(&heart);
        if rng.f64() < self.faults.garbage {
            bytes.truncate(rng.usize(..2));
        }
        match packet::decode_measurement(&bytes) {
            Ok(decoded) => Ok(Measurement::HeartRate(decoded.heart_rate)),
            Err(malformed) => Err(NoReading::Garbage(malformed.to_string())),
        }
    }

    fn measure_number(
        &self,
        mean: f64,
        spread: f64,
        rng: &mut Rng,
    ) -> Result<Measurement, NoReading> {
        let value = mean + spread * random_noise(rng);
        if rng.f64() < self.faults.garbage {
            return Err(NoReading::Garbage("`nan`".to_owned()));
        }
        let spike = if rng.f64() < self.faults.spikes { 10.0 * spread.max(1.0) } else { 0.0 };
        Ok(Measurement::Number(if rng.bool() { value + spike } else { value - spike }))
    }

    /// Returns the edges of a lid's move, including the bounces of its contact.
    fn move_lid(&self, step: u64, rng: &mut Rng) -> Vec<Result<Measurement, NoReading>> {
        let (from, to) = if step % 2 == 1 {
            (LineState::Closed, LineState::Open)
        } else {
            (LineState::Open, LineState::Closed)
        };
        let bounces = if step == 0 { 0 } else { rng.u8(..=self.faults.bounces) };
        let again = (0..bounces).flat_map(|_| [from, to]);
        std::iter::once(to).chain(again).map(|state| Ok(Measurement::Line(state))).collect()
    }
}

/// Returns a random number between -1 and 1, most often near 0.
fn random_noise(rng: &mut Rng) -> f64 {
    (rng.f64() + rng.f64() + rng.f64()) / 1.5 - 1.0
}

fn multiply_duration(period: Duration, count: u64) -> Duration {
    let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos.saturating_mul(count))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and rounds nothing after `round`"
)]
fn round_to_u16(number: f64) -> u16 {
    number.round() as u16
}
