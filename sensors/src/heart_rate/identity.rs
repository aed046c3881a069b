//! The identity of a monitor: its Bluetooth address, or its advertised name.
//!
//! Either may identify the wearer, so `Debug` shows neither, and [`without_addresses`] removes
//! addresses from the error texts of BlueZ.

use std::fmt;
use std::str::FromStr;

/// The configured identity of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MonitorIdentity {
    /// The address, public or static random; constant for each unit.
    Address(Address),
    /// The advertised name, compared byte for byte.
    Name(Name),
}

impl MonitorIdentity {
    /// Identifies a monitor by its advertised name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::Name(Name(name.into()))
    }
}

/// An advertised name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Returns the name in plain text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(..)")
    }
}

/// A Bluetooth device address, most significant byte first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 6]);

/// A text that is not six bytes in hexadecimal with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Bluetooth address such as `A0:9E:1A:01:02:03`")]
pub struct NotAnAddress;

impl Address {
    /// Makes an address from its six bytes, most significant byte first.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Returns the six bytes, most significant byte first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(NotAnAddress)?;
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = digits
                .then(|| u8::from_str_radix(part, 16))
                .ok_or(NotAnAddress)?
                .map_err(|_| NotAnAddress)?;
        }
        if parts.next().is_some() { Err(NotAnAddress) } else { Ok(Self(bytes)) }
    }
}

/// The length of an address in text: six pairs of digits and five separators.
const ADDRESS_CHARS: usize = 17;

/// Returns `text` with every Bluetooth address, also within an object path, replaced by
/// `[address]`.
#[must_use]
pub fn without_addresses(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if starts_with_address(rest.as_bytes()) {
            clean.push_str("[address]");
            rest = &rest[ADDRESS_CHARS..];
        } else {
            clean.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    clean
}

fn starts_with_address(text: &[u8]) -> bool {
    text.len() >= ADDRESS_CHARS
        && text[..ADDRESS_CHARS].iter().enumerate().all(|(at, byte)| match at % 3 {
            2 => matches!(byte, b':' | b'_' | b'-'),
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_six_pairs_of_digits() {
        assert_eq!("a0:9E:1A:01:02:03".parse(), Ok(Address::new([0xa0, 0x9e, 0x1a, 1, 2, 3])));
        for wrong in [
            "",
            "a0:9e:1a:01:02",
            "a0:9e:1a:01:02:03:04",
            "a0:9e:1a:01:02:0",
            "a09e1a010203",
            "+1:9e:1a:01:02:03",
        ] {
            assert_eq!(wrong.parse::<Address>(), Err(NotAnAddress), "{wrong}");
        }
    }

    #[test]
    fn neither_an_address_nor_a_name_shows_in_debug() {
        let shown = format!(
            "{:?} {:?}",
            MonitorIdentity::Address(Address::new([0xa0; 6])),
            MonitorIdentity::from_name("Ann")
        );

        assert!(
            !shown.contains("160")
                && !shown.to_lowercase().contains("a0")
                && !shown.contains("Ann")
        );
    }

    #[test]
    fn addresses_are_blotted_out_of_object_paths_and_prose() {
        let said =
            "no object /org/bluez/hci0/dev_A0_9E_1A_01_02_03/service0010 for a0:9e:1a:01:02:03";

        assert_eq!(
            without_addresses(said),
            "no object /org/bluez/hci0/dev_[address]/service0010 for [address]"
        );
    }

    proptest! {
        #[test]
        fn no_text_lets_an_address_through(before in ".{0,20}", bytes: [u8; 6], after in ".{0,20}") {
            let address = bytes.map(|byte| format!("{byte:02X}")).join("_");

            let clean = without_addresses(&format!("{before}{address}{after}"));

            prop_assert!(!clean.contains(&address));
        }
    }
}
