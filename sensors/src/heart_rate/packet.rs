//! Encodes and decodes the packets of the Heart Rate Service, version 1.0.
//!
//! Decoding any bytes returns a value or an error and never panics. Bytes appended by a later
//! version of the service are ignored, as the specification asks, and counted. Rates are not judged
//! here: 0 or 300 is a value, and a rule decides whether to believe the value.

use crate::{Contact, HeartRate};

/// The largest attribute value: Core Specification 5.4, Vol 3, Part F, section 3.2.9.
pub const MAX_PACKET_BYTES: usize = 512;

/// Flags of a Heart Rate Measurement: Heart Rate Service 1.0, section 3.1.1.1.
mod flag {
    /// The rate has two bytes.
    pub(super) const WIDE: u8 = 1 << 0;
    /// Skin contact is detected; valid only with `CONTACT_SUPPORTED`.
    pub(super) const CONTACT_DETECTED: u8 = 1 << 1;
    /// The monitor can detect skin contact.
    pub(super) const CONTACT_SUPPORTED: u8 = 1 << 2;
    /// Energy expended follows the rate.
    pub(super) const ENERGY: u8 = 1 << 3;
    /// RR intervals fill the rest of the packet.
    pub(super) const RR: u8 = 1 << 4;
}

/// The content of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The measurement.
    pub heart_rate: HeartRate,
    /// The number of bytes at the end that belong to no field: half an RR interval, or bytes
    /// without a flag.
    pub dropped_bytes: usize,
}

/// The reason bytes are not a Heart Rate Measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The packet has no flags byte.
    #[error("an empty packet")]
    Empty,
    /// The packet ends within a field announced by its flags.
    #[error("cut off in the {0}")]
    Truncated(&'static str),
    /// The packet is longer than any attribute.
    #[error("{0} bytes, more than {MAX_PACKET_BYTES}")]
    TooLong(usize),
}

/// Decodes a Heart Rate Measurement (0x2A37): Heart Rate Service 1.0, section 3.1.
///
/// # Errors
/// [`Malformed`] for bytes that no conforming monitor sends.
pub fn decode_measurement(packet: &[u8]) -> Result<Decoded, Malformed> {
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

/// Encodes a Heart Rate Measurement like a monitor: with the rate in one byte if possible, and with
/// as many RR intervals, oldest first, as fit into [`MAX_PACKET_BYTES`].
#[must_use]
pub fn encode_measurement(measured: &HeartRate) -> Vec<u8> {
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

/// The place of a monitor on the body (0x2A38): Heart Rate Service 1.0, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Another place.
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
    /// Decodes a Body Sensor Location; `None` for an empty or a reserved value. Further bytes, of a
    /// later version, are ignored.
    #[must_use]
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
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

    /// Returns the word for this place in `status`.
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

/// Decodes a Battery Level (0x2A19) in percent: Battery Service 1.1, section 3.1. Returns `None`
/// for the reserved values above 100.
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
