//! The messages and records that a crash sends again: sent, and not yet settled by a durable mark.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::record::lane::Lane;

/// A number of messages and the number of their records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Risk {
    pub(super) messages: usize,
    pub(super) records: u64,
}

impl Risk {
    /// Moves `part` from this number to another.
    pub(super) fn move_to(&mut self, other: &mut Self, part: Self) {
        self.remove(part);
        *other += part;
    }

    pub(super) fn remove(&mut self, part: Self) {
        self.messages -= part.messages;
        self.records -= part.records;
    }
}

impl AddAssign for Risk {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.records += other.records;
    }
}

impl Add for Risk {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Risk {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// The risks of alerts, and of readings and events together: alerts have limits of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LaneRisks {
    pub(super) alerts: Risk,
    pub(super) others: Risk,
}

impl LaneRisks {
    pub(super) fn of_lane(&mut self, lane: Lane) -> &mut Risk {
        match lane {
            Lane::Alerts => &mut self.alerts,
            Lane::Events | Lane::Readings => &mut self.others,
        }
    }
}
