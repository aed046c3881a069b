use proptest::prelude::*;

use super::*;
use Contact::{Detected, Lost, Unsupported};

/// Bytes with their rate, contact, energy and intervals.
type Vector = (&'static [u8], u16, Contact, Option<u16>, &'static [u16]);

#[test]
fn decodes_what_real_monitors_send() {
    let vectors: [Vector; 15] = [
        (&[0x00, 0x48], 72, Unsupported, None, &[]),
        (&[0x06, 0x4b], 75, Detected, None, &[]),
        (&[0x04, 0x00], 0, Lost, None, &[]),
        (&[0x10, 0x3b, 0x53, 0x04], 59, Unsupported, None, &[1107]),
        (&[0x10, 0x48, 0x2c, 0x03], 72, Unsupported, None, &[812]),
        (&[0x10, 0x49, 0x5e, 0x03, 0x96, 0x03], 73, Unsupported, None, &[862, 918]),
        (&[0x16, 0x4d, 0x16, 0x03], 77, Detected, None, &[790]),
        (&[0x0e, 0x8b, 0x2c, 0x01], 139, Detected, Some(300), &[]),
        (&[0x1e, 0x8b, 0x2c, 0x01, 0xb0, 0x01, 0xb4, 0x01], 139, Detected, Some(300), &[432, 436]),
        (&[0x01, 0x3c, 0x01], 316, Unsupported, None, &[]),
        (&[0x19, 0x50, 0x01, 0x10, 0x27, 0x55, 0x03], 336, Unsupported, Some(10_000), &[853]),
        (&[0x10, 0xc3, 0x3c, 1, 0x3c, 1, 0x3c, 1], 195, Unsupported, None, &[316, 316, 316]),
        (&[0x10, 0x28, 0xdc, 0x05], 40, Unsupported, None, &[1500]),
        (&[0x10, 0x40], 64, Unsupported, None, &[]),
        (&[0x02, 0x48], 72, Unsupported, None, &[]),
    ];
    for (packet, bpm, contact, energy_kj, rr) in vectors {
        let heart_rate = HeartRate { bpm, contact, energy_kj, rr: rr.to_vec() };

        assert_eq!(
            decode_measurement(packet),
            Ok(Decoded { heart_rate, dropped_bytes: 0 }),
            "{packet:02x?}"
        );
    }
}

#[test]
fn drops_half_an_interval_and_says_so() {
    let decoded = decode_measurement(&[0x10, 0x3e, 0xb1, 0x03, 0xde]).unwrap();

    assert_eq!((decoded.heart_rate.bpm, decoded.heart_rate.rr), (62, vec![945]));
    assert_eq!(decoded.dropped_bytes, 1);
}

#[test]
fn drops_bytes_that_no_flag_announces_and_says_so() {
    assert_eq!(decode_measurement(&[0x00, 0x48, 1, 2, 3]).unwrap().dropped_bytes, 3);
}

#[test]
fn ignores_reserved_flags() {
    assert_eq!(decode_measurement(&[0xe0, 0x48]), decode_measurement(&[0x00, 0x48]));
}

#[test]
fn rejects_what_ends_within_a_field() {
    assert_eq!(decode_measurement(&[]), Err(Malformed::Empty));
    assert_eq!(decode_measurement(&[0x00]), Err(Malformed::Truncated("heart rate")));
    assert_eq!(decode_measurement(&[0x01, 0x48]), Err(Malformed::Truncated("heart rate")));
    assert_eq!(
        decode_measurement(&[0x08, 0x48, 0x2c]),
        Err(Malformed::Truncated("energy expended"))
    );
}

#[test]
fn rejects_what_is_longer_than_any_attribute() {
    let mut packet = vec![0x10; MAX_PACKET_BYTES];
    assert!(decode_measurement(&packet).is_ok());

    packet.push(0);

    assert_eq!(decode_measurement(&packet), Err(Malformed::TooLong(513)));
}

#[test]
fn an_encoded_packet_never_outgrows_an_attribute() {
    let long = HeartRate { bpm: 300, contact: Detected, energy_kj: Some(1), rr: vec![800; 1000] };

    let packet = encode_measurement(&long);

    assert!(packet.len() <= MAX_PACKET_BYTES);
    assert_eq!(decode_measurement(&packet).unwrap().heart_rate.rr.len(), 253);
}

#[test]
fn knows_the_seven_places_and_no_other() {
    let places: Vec<_> = (0..=255).filter_map(|code| Location::from_bytes(&[code])).collect();

    assert_eq!(places.len(), 7);
    assert_eq!(places[1], Location::Chest);
    assert_eq!(Location::from_bytes(&[]), None);
}

#[test]
fn a_battery_holds_at_most_a_hundred_percent() {
    assert_eq!(decode_battery(&[100]), Some(100));
    assert_eq!(decode_battery(&[101]), None);
    assert_eq!(decode_battery(&[]), None);
}

fn any_heart_rate() -> impl Strategy<Value = HeartRate> {
    let contact = prop_oneof![Just(Unsupported), Just(Lost), Just(Detected)];
    let rr = prop::collection::vec(any::<u16>(), 0..=253);
    (any::<u16>(), contact, any::<Option<u16>>(), rr)
        .prop_map(|(bpm, contact, energy_kj, rr)| HeartRate { bpm, contact, energy_kj, rr })
}

/// Valid packets, as hexadecimal digits, one a line, and packets on which the decoder once failed.
const CORPUS: &str = include_str!("corpus/packets.txt");

fn kept() -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    CORPUS.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

#[test]
fn every_packet_of_the_corpus_is_a_measurement() {
    kept().iter().for_each(|packet| assert!(decode_measurement(packet).is_ok(), "{packet:02x?}"));
}

proptest! {
    /// Valid packets with some bytes changed, inserted or removed come nearer to the fields than random bytes.
    #[test]
    fn packets_with_edits_are_a_value_or_an_error(
        packet in prop::sample::select(kept()),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..3_usize, prop::collection::vec(any::<u8>(), 0..3)),
            1..4,
        ),
    ) {
        let mut packet = packet;
        for (place, length, with) in edits {
            let start = place.index(packet.len() + 1);
            let end = (start + length).min(packet.len());
            packet.splice(start..end, with);
        }
        if let Ok(decoded) = decode_measurement(&packet) {
            let used = packet.len() - decoded.dropped_bytes;
            let whole = decode_measurement(&packet[..used]).unwrap();
            prop_assert_eq!(whole.heart_rate, decoded.heart_rate, "what is dropped says nothing");
        }
    }

    #[test]
    fn decoding_undoes_encoding(heart_rate in any_heart_rate()) {
        let decoded = decode_measurement(&encode_measurement(&heart_rate));

        prop_assert_eq!(decoded, Ok(Decoded { heart_rate, dropped_bytes: 0 }));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(packet in prop::collection::vec(any::<u8>(), 0..=512)) {
        if let Ok(decoded) = decode_measurement(&packet) {
            let again = decode_measurement(&encode_measurement(&decoded.heart_rate)).unwrap();

            prop_assert_eq!(again.heart_rate, decoded.heart_rate);
            prop_assert!(decoded.dropped_bytes < packet.len());
        }
    }
}
