//! The detail of a heart-rate reading as a few bytes: flags, energy, intervals.

use pulsegate_core::record::reading::HeartDetail;
use pulsegate_sensors::Contact;

const LOST: u8 = 1;
const DETECTED: u8 = 2;
const ENERGY: u8 = 4;

/// Packs a detail: a flag byte, the energy if known, then the intervals, all little-endian.
pub(crate) fn encode_detail(detail: &HeartDetail) -> Vec<u8> {
    let contact = match detail.contact {
        Contact::Unsupported => 0,
        Contact::Lost => LOST,
        Contact::Detected => DETECTED,
    };
    let mut bytes = Vec::with_capacity(3 + 2 * detail.rr.len());
    bytes.push(contact | if detail.energy_kj.is_some() { ENERGY } else { 0 });
    bytes.extend(detail.energy_kj.iter().chain(&detail.rr).flat_map(|word| word.to_le_bytes()));
    bytes
}

/// Unpacks bytes into `detail`. Bytes not made by [`encode_detail`] are read as far as possible.
pub(crate) fn decode_into(bytes: &[u8], detail: &mut HeartDetail) {
    let (flags, words) = bytes.split_first().map_or((0, &[][..]), |(flags, rest)| (*flags, rest));
    let mut words = words.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    detail.contact = match flags & (LOST | DETECTED) {
        LOST => Contact::Lost,
        DETECTED => Contact::Detected,
        _ => Contact::Unsupported,
    };
    detail.energy_kj = if flags & ENERGY == 0 { None } else { words.next() };
    detail.rr.clear();
    detail.rr.extend(words);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Details as versions wrote them, as hexadecimal digits, one a line, and bytes that went wrong once.
    const CORPUS: &str = include_str!("corpus/details.txt");

    fn decode(bytes: &[u8]) -> HeartDetail {
        let mut detail =
            HeartDetail { contact: Contact::Lost, energy_kj: Some(1), rr: vec![7, 8, 9] };
        decode_into(bytes, &mut detail);
        detail
    }

    fn kept() -> Vec<Vec<u8>> {
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        CORPUS.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
    }

    #[test]
    fn every_detail_of_the_corpus_is_written_as_it_was() {
        for bytes in kept() {
            assert_eq!(encode_detail(&decode(&bytes)), bytes, "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_far_as_they_go(
            bytes in prop_oneof![
                proptest::sample::select(kept()),
                proptest::collection::vec(any::<u8>(), 0..600),
            ],
            cut in any::<proptest::sample::Index>(),
        ) {
            let bytes = &bytes[..cut.index(bytes.len() + 1)];

            let detail = decode(bytes);

            prop_assert!(2 * detail.rr.len() <= bytes.len());
            prop_assert_eq!(decode(&encode_detail(&detail)), detail);
        }
    }

    #[test]
    fn everything_comes_back() {
        for contact in [Contact::Unsupported, Contact::Lost, Contact::Detected] {
            for energy_kj in [None, Some(0), Some(65_535)] {
                let detail = HeartDetail { contact, energy_kj, rr: vec![1, 1107, 65_535] };
                assert_eq!(decode(&encode_detail(&detail)), detail);
            }
        }
    }

    #[test]
    fn damaged_bytes_are_read_as_far_as_they_go() {
        for bytes in [&[][..], &[4], &[4, 1], &[0, 1, 2, 3]] {
            let _detail = decode(bytes);
        }
    }
}
