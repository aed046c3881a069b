//! The healing ladder: the cures for a silent monitor, the mildest first.
//!
//! Belts fall silent without a disconnect, and no lower layer reports the silence: only missing
//! packets show it. Each rung is tried once and has one silence to work; a packet resets the
//! ladder. A rung that disturbs other monitors is used only while none of them is healthy
//! ([`Reach`]).
//! Pure: points in time are durations since any fixed start.

use std::time::Duration;

/// The default time of silence before a connected monitor is healed. Belts notify about once a
/// second, and no radio in range loses ten packets in a row; some belts fall silent 30 s after the
/// connect.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(10);

/// A cure, from the mildest to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// End the notifications and ask for them again, on the same link.
    Subscribe,
    /// Drop the link and connect again.
    Reconnect,
    /// Remove the monitor with all cached data from BlueZ, and scan for the monitor.
    Forget,
    /// Switch the adapter off and on.
    PowerCycle,
    /// Give up: the caller starts again with a new connection to the bus.
    Report,
}

/// The largest part of the system that a cure may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This monitor only: other monitors on its adapter are healthy.
    Monitor,
    /// Its adapter: no monitor on the adapter is healthy.
    Adapter,
    /// Everything: no monitor is healthy anywhere.
    Everything,
}

/// An event of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LadderInput {
    /// The link is up and notifications are requested.
    Subscribed,
    /// A measurement arrived.
    Packet,
    /// Time passed.
    Tick,
    /// The link was lost, or a cure failed.
    Failed,
}

/// The number of uses of each rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Climbs {
    /// Subscribed again.
    pub subscribe: u64,
    /// Reconnected.
    pub reconnect: u64,
    /// Removed from BlueZ and scanned for.
    pub forget: u64,
    /// Adapter switched off and on.
    pub power_cycle: u64,
    /// Reported to the caller.
    pub report: u64,
}

impl Climbs {
    /// Counts one climb.
    pub fn count_climb(&mut self, rung: Rung) {
        *match rung {
            Rung::Subscribe => &mut self.subscribe,
            Rung::Reconnect => &mut self.reconnect,
            Rung::Forget => &mut self.forget,
            Rung::PowerCycle => &mut self.power_cycle,
            Rung::Report => &mut self.report,
        } += 1;
    }
}

/// The position of one monitor on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    silence: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not subscribed: searching, connecting, or after the cure `tried`.
    Away { tried: Option<Rung> },
    /// Subscribed; counts as silent if no packet arrives before `until`.
    Listening { tried: Option<Rung>, until: Duration },
}

impl Ladder {
    /// Creates a ladder for a monitor without a connection.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        Self { silence, state: State::Away { tried: None } }
    }

    /// Handles an event at the time `now`. Returns the rung to climb, if a cure is due.
    pub fn handle_input(
        &mut self,
        input: LadderInput,
        now: Duration,
        reach: Reach,
    ) -> Option<Rung> {
        let until = now + self.silence;
        let (state, rung) = match (self.state, input) {
            (State::Listening { .. }, LadderInput::Packet) => {
                (State::Listening { tried: None, until }, None)
            }
            (State::Away { tried } | State::Listening { tried, .. }, LadderInput::Subscribed) => {
                (State::Listening { tried, until }, None)
            }
            (State::Listening { tried, until }, LadderInput::Tick) if now >= until => {
                move_away(next_rung(tried, reach))
            }
            (State::Away { tried } | State::Listening { tried, .. }, LadderInput::Failed) => {
                move_away(next_rung(tried, reach).max(Rung::Reconnect))
            }
            (state, LadderInput::Packet | LadderInput::Tick) => (state, None),
        };
        self.state = state;
        rung
    }
}

fn move_away(rung: Rung) -> (State, Option<Rung>) {
    (State::Away { tried: Some(rung) }, Some(rung))
}

/// Returns the rung after `tried`. If that rung would disturb a healthy monitor, returns
/// [`Rung::Forget`], the highest rung that disturbs no other monitor.
fn next_rung(tried: Option<Rung>, reach: Reach) -> Rung {
    match tried {
        None => Rung::Subscribe,
        Some(Rung::Subscribe) => Rung::Reconnect,
        Some(Rung::Reconnect) => Rung::Forget,
        Some(Rung::Forget) if reach >= Reach::Adapter => Rung::PowerCycle,
        Some(Rung::PowerCycle | Rung::Report) if reach >= Reach::Everything => Rung::Report,
        Some(Rung::Forget | Rung::PowerCycle | Rung::Report) => Rung::Forget,
    }
}

#[cfg(test)]
mod tests;
