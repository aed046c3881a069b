//! The bytes of the Heart Rate Service, version 1.0, and what they mean.
//!
//! [`decode`] takes whatever a radio brought: it returns a value or says what is wrong, and never panics.
//! What a later version of the service may append is ignored, as the specification asks, and counted.
//! Nothing is judged here: a rate of 0 or 300 is a value, and whether to believe it is a rule's affair.

use crate::{Contact, HeartRate};

/// The longest attribute value there is: Core Specification 5.4, Vol 3, Part F, section 3.2.9.
pub const MAX_PACKET_BYTES: usize = 512;

/// Flags of a Heart Rate Measurement: Heart Rate Service 1.0, section 3.1.1.1.
mod flag {
    /// The rate takes two bytes.
    pub(super) const WIDE: u8 = 1 << 0;
    /// Skin contact is felt; says something only with `CONTACT_SUPPORTED`.
    pub(super) const CONTACT_DETECTED: u8 = 1 << 1;
    /// The monitor can feel skin.
    pub(super) const CONTACT_SUPPORTED: u8 = 1 << 2;
    /// Energy expended follows the rate.
    pub(super) const ENERGY: u8 = 1 << 3;
    /// RR intervals fill the rest.
    pub(super) const RR: u8 = 1 << 4;
}

/// What a packet held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The measurement.
    pub heart_rate: HeartRate,
    /// Bytes at the end that belong to no field: half an RR interval, or what no flag announced.
    pub dropped_bytes: usize,
}

/// Why bytes are no Heart Rate Measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There is not even a flags byte.
    #[error("an empty packet")]
    Empty,
    /// The packet ends within a field that its flags announce.
    #[error("cut off in the {0}")]
    Truncated(&'static str),
    /// No attribute can be this long.
    #[error("{0} bytes, more than {MAX_PACKET_BYTES}")]
    TooLong(usize),
}

/// Decodes a Heart Rate Measurement (0x2A37): Heart Rate Service 1.0, section 3.1.
///
/// # Errors
/// [`Malformed`] for bytes that no monitor that follows the specification sends.
pub fn decode(packet: &[u8]) -> Result<Decoded, Malformed> {
    if packet.len() > MAX_PACKET_BYTES {
        return Err(Malformed::TooLong(packet.len()));
    }
    let (&flags, mut rest) = packet.split_first().ok_or(Malformed::Empty)?;
    let has = |bit| flags & bit != 0;

    let bpm = if has(flag::WIDE) { take_u16(&mut rest) } else { take_u8(&mut rest) };
    let bpm = bpm.ok_or(Malformed::Truncated("heart rate"))?;
    let contact = match (has(flag::CONTACT_SUPPORTED), has(flag::CONTACT_DETECTED)) {
        (false, _) => Contact::Unsupported,
        (true, false) => Contact::Lost,
        (true, true) => Contact::Detected,
    };
    let energy_kj = if has(flag::ENERGY) {
        Some(take_u16(&mut rest).ok_or(Malformed::Truncated("energy expended"))?)
    } else {
        None
    };
    let mut rr = Vec::new();
    while let Some(interval) = has(flag::RR).then(|| take_u16(&mut rest)).flatten() {
        rr.push(interval);
    }
    let heart_rate = HeartRate { bpm, contact, energy_kj, rr };
    Ok(Decoded { heart_rate, dropped_bytes: rest.len() })
}

/// Encodes a Heart Rate Measurement as a monitor would send it: the rate in one byte if it fits, and as
/// many RR intervals, oldest first, as [`MAX_PACKET_BYTES`] has room for.
#[must_use]
pub fn encode(measured: &HeartRate) -> Vec<u8> {
    let narrow = u8::try_from(measured.bpm).ok();
    let contact = match measured.contact {
        Contact::Unsupported => 0,
        Contact::Lost => flag::CONTACT_SUPPORTED,
        Contact::Detected => flag::CONTACT_SUPPORTED | flag::CONTACT_DETECTED,
    };
    let set = |bit, is| if is { bit } else { 0 };
    let mut packet = vec![
        contact
            | set(flag::WIDE, narrow.is_none())
            | set(flag::ENERGY, measured.energy_kj.is_some())
            | set(flag::RR, !measured.rr.is_empty()),
    ];
    match narrow {
        Some(bpm) => packet.push(bpm),
        None => packet.extend(measured.bpm.to_le_bytes()),
    }
    packet.extend(measured.energy_kj.into_iter().flat_map(u16::to_le_bytes));
    let room = (MAX_PACKET_BYTES - packet.len()) / 2;
    packet.extend(measured.rr.iter().take(room).copied().flat_map(u16::to_le_bytes));
    packet
}

/// Where a monitor is worn (0x2A38): Heart Rate Service 1.0, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Elsewhere.
    Other,
    /// A belt.
    Chest,
    /// A watch.
    Wrist,
    /// A ring or clip.
    Finger,
    /// A glove.
    Hand,
    /// A clip or ear phone.
    EarLobe,
    /// A sock.
    Foot,
}

impl Location {
    /// Decodes a Body Sensor Location; `None` for an empty or a reserved value. Bytes after the first are
    /// a later version's.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        Some(match value.first()? {
            0 => Self::Other,
            1 => Self::Chest,
            2 => Self::Wrist,
            3 => Self::Finger,
            4 => Self::Hand,
            5 => Self::EarLobe,
            6 => Self::Foot,
            _ => return None,
        })
    }

    /// The word for it in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Chest => "chest",
            Self::Wrist => "wrist",
            Self::Finger => "finger",
            Self::Hand => "hand",
            Self::EarLobe => "ear_lobe",
            Self::Foot => "foot",
        }
    }
}

/// Decodes a Battery Level (0x2A19), in percent: Battery Service 1.1, section 3.1. Values above 100 are
/// reserved.
#[must_use]
pub fn decode_battery(value: &[u8]) -> Option<u8> {
    value.first().copied().filter(|percent| *percent <= 100)
}

fn take_u8(rest: &mut &[u8]) -> Option<u16> {
    let (&byte, after) = rest.split_first()?;
    *rest = after;
    Some(byte.into())
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (&bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;
