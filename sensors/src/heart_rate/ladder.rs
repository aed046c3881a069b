//! The healing ladder: what to do about a monitor that fell silent, mildest cure first.
//!
//! Belts fall silent without a disconnect, and no layer below says so: only missing packets tell. Each
//! rung is tried once and given one silence to work; a packet leads back to the foot. The rungs that
//! disturb other monitors are climbed only while there is none to disturb ([`Reach`]).
//! Pure: points in time are durations since any fixed start.

use std::time::Duration;

/// How long a connected monitor may send nothing: belts notify about once a second, so ten packets are
/// missing, more than any radio in range loses in a row; those that do fall silent do so after 30 s.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(10);

/// A cure, from the mildest to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// End the notifications and ask for them again, on the same link.
    Subscribe,
    /// Drop the link and make it again.
    Reconnect,
    /// Make BlueZ forget the monitor with all it has cached of it, and scan for it.
    Forget,
    /// Switch the adapter off and on.
    PowerCycle,
    /// Give up: the caller begins anew with a new connection to the bus.
    Report,
}

/// What a cure may disturb, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This monitor only: others on its adapter are well.
    Monitor,
    /// Its adapter: no monitor there is well.
    Adapter,
    /// Everything: no monitor is well anywhere.
    Everything,
}

/// What happened to a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The link is up and notifications were asked for.
    Subscribed,
    /// A measurement came.
    Packet,
    /// Time passed.
    Tick,
    /// The link is gone, or a cure could not be carried out.
    Failed,
}

/// How often each rung was climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Climbs {
    /// Subscribed again.
    pub subscribe: u64,
    /// Reconnected.
    pub reconnect: u64,
    /// Forgotten and scanned for.
    pub forget: u64,
    /// Adapter switched off and on.
    pub power_cycle: u64,
    /// Reported to the caller.
    pub report: u64,
}

impl Climbs {
    /// Counts one climb.
    pub fn count(&mut self, rung: Rung) {
        *match rung {
            Rung::Subscribe => &mut self.subscribe,
            Rung::Reconnect => &mut self.reconnect,
            Rung::Forget => &mut self.forget,
            Rung::PowerCycle => &mut self.power_cycle,
            Rung::Report => &mut self.report,
        } += 1;
    }
}

/// Where one monitor stands on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    silence: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not subscribed: being sought, connected, or cured by the rung `tried`.
    Away { tried: Option<Rung> },
    /// Subscribed; silent if nothing comes before `until`.
    Listening { tried: Option<Rung>, until: Duration },
}

impl Ladder {
    /// The foot of a ladder for a monitor that is not connected yet.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        Self { silence, state: State::Away { tried: None } }
    }

    /// Takes in what happened; returns the rung to climb, if it is time for one.
    pub fn handle(&mut self, input: Input, now: Duration, reach: Reach) -> Option<Rung> {
        let until = now + self.silence;
        let (state, rung) = match (self.state, input) {
            (State::Listening { .. }, Input::Packet) => {
                (State::Listening { tried: None, until }, None)
            }
            (State::Away { tried } | State::Listening { tried, .. }, Input::Subscribed) => {
                (State::Listening { tried, until }, None)
            }
            (State::Listening { tried, until }, Input::Tick) if now >= until => {
                away(above(tried, reach))
            }
            (State::Away { tried } | State::Listening { tried, .. }, Input::Failed) => {
                away(above(tried, reach).max(Rung::Reconnect))
            }
            (state, Input::Packet | Input::Tick) => (state, None),
        };
        self.state = state;
        rung
    }
}

fn away(rung: Rung) -> (State, Option<Rung>) {
    (State::Away { tried: Some(rung) }, Some(rung))
}

/// The rung after `tried`; where that would disturb monitors that are well, the highest that does not.
fn above(tried: Option<Rung>, reach: Reach) -> Rung {
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
