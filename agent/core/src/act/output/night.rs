//! Night, by a reading of brightness or by the clock. The position of the device is unknown, so
//! sunset is unknown, too.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::{Mono, Wall};

/// The age from which a reading of brightness is ignored: a sensor that fails at noon must not turn
/// the night into day.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

/// The specification of night: by the light if known, otherwise by the clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NightSpec {
    /// The thresholds of brightness, if night depends on a reading.
    pub light: Option<Light>,
    /// The time of day, if night depends on the clock.
    pub hours: Option<Hours>,
}

/// The thresholds of brightness: night begins at a reading less than `below`, and ends at a reading
/// of `above` or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// The brightness below which night begins.
    pub below: f64,
    /// The brightness at which day begins; not less than `below`, so a lamp in view of the sensor
    /// does not flicker.
    pub above: f64,
}

/// The hours of night, in minutes since midnight; the end may lie after midnight.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// The first minute of night.
    pub from: u16,
    /// The first minute of day.
    pub to: u16,
    /// The time zone of both.
    pub zone: TimeZone,
}

/// Tells night from day.
#[derive(Debug, Clone)]
pub struct NightJudge {
    spec: NightSpec,
    /// The last decision by brightness, while the brightness is known: `true` for night.
    dark: Option<bool>,
    last: Option<bool>,
}

impl NightJudge {
    /// Creates the state without any decision.
    #[must_use]
    pub fn new(spec: NightSpec) -> Self {
        Self { spec, dark: None, last: None }
    }

    /// Returns the last decision: `true` for night.
    #[must_use]
    pub fn was_night(&self) -> Option<bool> {
        self.last
    }

    /// Returns `true` for night, `false` for day, and `None` if neither the brightness nor the time
    /// of day is known. `light` is the newest brightness and the time of its arrival.
    pub fn decide_night(
        &mut self,
        light: Option<(f64, Mono)>,
        now: Mono,
        wall: Option<Wall>,
    ) -> Option<bool> {
        let fresh = light.filter(|(_, at)| now.since(*at) < STALE_AFTER);
        let light = self.spec.light.zip(fresh);
        self.dark = light.and_then(|(light, (value, _))| light.is_dark(value, self.dark));
        let hours = || self.spec.hours.as_ref()?.contains_time(wall?);
        self.last = self.dark.or_else(hours);
        self.last
    }
}

impl Light {
    /// Returns the decision for `value`; between the two thresholds, the previous decision `was`.
    fn is_dark(self, value: f64, was: Option<bool>) -> Option<bool> {
        if value < self.below {
            Some(true)
        } else if value >= self.above {
            Some(false)
        } else {
            was
        }
    }
}

impl Hours {
    fn contains_time(&self, wall: Wall) -> Option<bool> {
        let minute = minute_of_day(wall, &self.zone)?;
        Some(if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        })
    }
}

/// Returns the minute of the day in `zone`; `None` for a time outside the calendar.
fn minute_of_day(wall: Wall, zone: &TimeZone) -> Option<u16> {
    let time = Timestamp::from_millisecond(wall.0).ok()?.to_zoned(zone.clone());
    u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).ok()
}
