//! Wanted misbehaviour: what a hostile, broken or far-away broker may do to a client.
//!
//! Faults compose, can be changed while the broker runs, and are drawn from a seed, one generator a
//! connection. Each one that strikes is kept in a log that prints with its seed, for a test to show
//! when it fails. Everything stays within MQTT 3.1.1, except code 7, which AWS is said to send.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::Publish;

use crate::policy::glob;

/// A set of faults; the default has none.
#[derive(Debug, Clone)]
pub struct Faults {
    /// How long a PUBACK is kept back, drawn for each: equal ends delay all alike, a range shuffles
    /// them.
    pub ack_delay: RangeInclusive<Duration>,
    /// The chance, 0 to 1, that a PUBACK is never sent.
    pub ack_withheld: f64,
    /// What CONNACK says about the session of a client that asked for one.
    pub session_present: SessionPresent,
    /// What becomes of a CONNECT.
    pub on_connect: OnConnect,
    /// How long CONNACK is kept back.
    pub connack_delay: Duration,
    /// When connections are cut.
    pub cuts: Vec<Cut>,
    /// After this many publishes a connection is left open but neither read nor written again.
    pub silent_after: Option<u64>,
    /// The chance, 0 to 1, that a QoS 1 message is sent to a client once more, under a new packet id.
    pub redelivered: f64,
    /// Publishes that cost a client its connection, whenever it sends them.
    pub poison: Vec<Poison>,
}

/// What CONNACK says about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionPresent {
    /// The truth.
    Honest,
    /// That there is one.
    Always,
    /// That there is none.
    Never,
    /// Either, by chance.
    Random,
}

/// What becomes of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConnect {
    /// It is judged by the rules.
    Judge,
    /// It is answered with this code: 5 is not authorised, 7 what AWS is said to send for it.
    Refuse(u8),
    /// The connection is closed without an answer.
    Close,
    /// It is never answered: the connection lasts until the client gives up.
    Ignore,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// When it has published this many messages, before the last one is acknowledged.
    AfterPublishes(u64),
    /// When this many bytes were read from it, even amid a packet.
    AfterBytes(u64),
    /// With this chance, 0 to 1, at each publish: half of them lost, half taken but not acknowledged.
    AtRandom(f64),
    /// Amid the PUBACK that follows this many whole ones.
    InsideAck(u64),
}

/// A publish that kills its connection.
#[derive(Debug, Clone)]
pub enum Poison {
    /// By its topic, a pattern of `*` and `?`.
    Topic(String),
    /// By bytes that its payload contains.
    Payload(Bytes),
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            ack_delay: Duration::ZERO..=Duration::ZERO,
            ack_withheld: 0.0,
            session_present: SessionPresent::Honest,
            on_connect: OnConnect::Judge,
            connack_delay: Duration::ZERO,
            cuts: Vec::new(),
            silent_after: None,
            redelivered: 0.0,
            poison: Vec::new(),
        }
    }
}

impl Poison {
    fn takes(&self, publish: &Publish) -> bool {
        match self {
            Self::Topic(pattern) => {
                std::str::from_utf8(&publish.topic).is_ok_and(|topic| glob(pattern, topic))
            }
            Self::Payload(bytes) => {
                !bytes.is_empty()
                    && publish.payload.windows(bytes.len()).any(|window| window == bytes)
            }
        }
    }
}

/// What a fault does to a connection at a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Cut before the publish counts as arrived.
    CutBefore(&'static str),
    /// Cut when it has arrived, before its PUBACK.
    CutAfter(&'static str),
    /// Leave the connection open and dead, the publish taken.
    Silence,
}

/// One connection's dice and counts. Reading and writing each have their own.
#[derive(Debug)]
pub(crate) struct Dice {
    random: fastrand::Rng,
    publishes: u64,
    bytes: u64,
    acks: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64, connection: u64, role: u64) -> Self {
        let mixed = fastrand::Rng::with_seed(seed ^ (connection << 1 | role)).u64(..);
        Self { random: fastrand::Rng::with_seed(mixed), publishes: 0, bytes: 0, acks: 0 }
    }

    /// Says how many of the bytes just read still count before the connection is cut, if it is.
    pub(crate) fn on_read(&mut self, faults: &Faults, read: usize) -> Option<usize> {
        let before = self.bytes;
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        faults.cuts.iter().find_map(|cut| match *cut {
            Cut::AfterBytes(limit) if self.bytes >= limit => {
                usize::try_from(limit.saturating_sub(before)).ok()
            }
            Cut::AfterBytes(_) | Cut::AfterPublishes(_) | Cut::AtRandom(_) | Cut::InsideAck(_) => {
                None
            }
        })
    }

    pub(crate) fn on_publish(&mut self, faults: &Faults, publish: &Publish) -> Option<Strike> {
        self.publishes += 1;
        if faults.poison.iter().any(|poison| poison.takes(publish)) {
            return Some(Strike::CutBefore("poison"));
        }
        if faults.silent_after.is_some_and(|after| self.publishes >= after) {
            return Some(Strike::Silence);
        }
        faults.cuts.iter().find_map(|cut| match *cut {
            Cut::AfterPublishes(limit) if self.publishes >= limit => {
                Some(Strike::CutAfter("cut after publishes"))
            }
            Cut::AtRandom(chance) if self.strikes(chance) => Some(if self.random.bool() {
                Strike::CutBefore("cut at random, message lost")
            } else {
                Strike::CutAfter("cut at random, message taken")
            }),
            Cut::AfterPublishes(_) | Cut::AtRandom(_) | Cut::AfterBytes(_) | Cut::InsideAck(_) => {
                None
            }
        })
    }

    pub(crate) fn withholds_ack(&mut self, faults: &Faults) -> bool {
        self.strikes(faults.ack_withheld)
    }

    pub(crate) fn ack_delay(&mut self, faults: &Faults) -> Duration {
        let (least, most) = (*faults.ack_delay.start(), *faults.ack_delay.end());
        least + most.saturating_sub(least).mul_f64(self.random.f64())
    }

    /// Counts a PUBACK about to be written, and says whether only half of it is to be.
    pub(crate) fn halves_ack(&mut self, faults: &Faults) -> bool {
        let whole = self.acks;
        self.acks += 1;
        faults.cuts.iter().any(|cut| matches!(*cut, Cut::InsideAck(after) if whole >= after))
    }

    pub(crate) fn redelivers(&mut self, faults: &Faults) -> bool {
        self.strikes(faults.redelivered)
    }

    pub(crate) fn claims_session(&mut self, faults: &Faults, truth: bool) -> bool {
        match faults.session_present {
            SessionPresent::Honest => truth,
            SessionPresent::Always => true,
            SessionPresent::Never => false,
            SessionPresent::Random => self.random.bool(),
        }
    }

    fn strikes(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.f64() < chance
    }
}

/// A fault that struck, or a rule that a client broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultEvent {
    /// When, since the broker's start.
    pub at: Duration,
    /// On which connection.
    pub connection: u64,
    /// What.
    pub what: String,
}

/// The faults that struck, oldest first. Prints with the seed that repeats them.
#[derive(Debug, Clone)]
pub struct FaultLog {
    /// The seed of all dice.
    pub seed: u64,
    /// What struck; the first [`FaultLog::KEPT`] of them.
    pub events: Vec<FaultEvent>,
    /// How many more there were.
    pub more: u64,
}

impl FaultLog {
    /// Bounds what a long run keeps in memory.
    pub const KEPT: usize = 10_000;

    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, events: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, event: FaultEvent) {
        if self.events.len() < Self::KEPT {
            self.events.push(event);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for FaultLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults with seed {}:", self.seed)?;
        for FaultEvent { at, connection, what } in &self.events {
            writeln!(f, "{:>10.3}s  connection {connection}: {what}", at.as_secs_f64())?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        Ok(())
    }
}
