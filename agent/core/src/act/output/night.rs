//! Night: when it is dark by a reading, or by the clock. No position is known, so no sunset either.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::{Mono, Wall};

/// A reading of brightness that is older tells nothing of now: a sensor that died at noon would
/// else make the night a day.
pub const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

/// When it is night: by the light while that is known, else by the clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NightSpec {
    /// By a number.
    pub light: Option<Light>,
    /// By the time of day.
    pub hours: Option<Hours>,
}

/// Night by a number: less than `below`, until it is `above` or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// It becomes night below.
    pub below: f64,
    /// It becomes day from here on; not less than `below`, so that a lamp that the source sees does
    /// not make it flicker.
    pub above: f64,
}

/// Night by the time of day, in minutes since midnight; it may go past midnight.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// Its first minute.
    pub from: u16,
    /// The minute after its last.
    pub to: u16,
    /// Where.
    pub zone: TimeZone,
}

/// Tells night from day.
#[derive(Debug, Clone)]
pub struct Night {
    spec: NightSpec,
    /// What the light said last, while it is known.
    dark: Option<bool>,
    last: Option<bool>,
}

impl Night {
    /// Begins without knowing.
    #[must_use]
    pub fn new(spec: NightSpec) -> Self {
        Self { spec, dark: None, last: None }
    }

    /// What it said last.
    #[must_use]
    pub fn last(&self) -> Option<bool> {
        self.last
    }

    /// Whether it is night; `None` if nobody can tell.
    pub fn ask(
        &mut self,
        light: Option<(f64, Mono)>,
        now: Mono,
        wall: Option<Wall>,
    ) -> Option<bool> {
        let fresh = light.filter(|(_, at)| now.since(*at) < STALE_AFTER);
        let light = self.spec.light.zip(fresh);
        self.dark = light.and_then(|(light, (value, _))| light.is_dark(value, self.dark));
        let hours = || self.spec.hours.as_ref()?.contain(wall?);
        self.last = self.dark.or_else(hours);
        self.last
    }
}

impl Light {
    /// Between the two, it stays as it was.
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
    fn contain(&self, wall: Wall) -> Option<bool> {
        let minute = minute(wall, &self.zone)?;
        Some(if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        })
    }
}

/// The minute of the day.
fn minute(wall: Wall, zone: &TimeZone) -> Option<u16> {
    let time = Timestamp::from_millisecond(wall.0).ok()?.to_zoned(zone.clone());
    u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).ok()
}
