//! Hostile bytes for the MQTT decoder that the stand-in reads clients with, and the agent its broker.
//!
//! `corpus/packets.txt` keeps valid packets as hexadecimal digits, one a line, each after its name. Every run
//! reads them, edited copies of them, and random bytes, whole and in pieces.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::Packet;

const CORPUS: &str = include_str!("corpus/packets.txt");
/// As much as one packet may have.
const MOST_BYTES: usize = 64 * 1024;

fn packets() -> Vec<Vec<u8>> {
    let hex = CORPUS.lines().filter_map(|line| line.split_once(' ').map(|(_, hex)| hex));
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    hex.map(|hex| hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Reads packets until the bytes end or are none.
fn read_all(bytes: &mut BytesMut) -> (Vec<Packet>, Option<Error>) {
    let mut packets = Vec::new();
    loop {
        let before = bytes.len();
        match Packet::read(bytes, MOST_BYTES) {
            Ok(packet) => packets.push(packet),
            Err(Error::InsufficientBytes(_)) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
        assert!(bytes.len() < before, "a packet out of nothing");
    }
}

/// Some packets one after the other with some edits, or any bytes.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0..4_usize, vec(any::<u8>(), 0..4));
    let near = (vec(select(packets()), 1..4), vec(edit, 0..4)).prop_map(|(packets, edits)| {
        let mut bytes = packets.concat();
        for (place, length, with) in edits {
            let start = place.index(bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, with);
        }
        bytes
    });
    prop_oneof![4 => near, 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_in_pieces_are_the_packets_that_they_are_as_a_whole(
        bytes in hostile(),
        pieces in vec(any::<Index>(), 0..4),
    ) {
        let (expected, end) = read_all(&mut BytesMut::from(&bytes[..]));

        let mut cuts: Vec<usize> = pieces.iter().map(|place| place.index(bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut got, mut buffer, mut from, mut failed) = (Vec::new(), BytesMut::new(), 0, None);
        for cut in cuts {
            buffer.extend_from_slice(&bytes[from..cut]);
            from = cut;
            let (packets, error) = read_all(&mut buffer);
            got.extend(packets);
            failed = error;
            if failed.is_some() {
                break;
            }
        }

        prop_assert_eq!(got, expected);
        prop_assert_eq!(failed.is_some(), end.is_some());
    }

    #[test]
    fn a_packet_that_is_read_is_written_so(bytes in hostile()) {
        for packet in read_all(&mut BytesMut::from(&bytes[..])).0 {
            let mut written = BytesMut::new();
            if packet.write(&mut written, MOST_BYTES).is_ok() {
                prop_assert_eq!(Packet::read(&mut written, MOST_BYTES).ok(), Some(packet));
            }
        }
    }
}

#[test]
fn every_packet_of_the_corpus_is_read() {
    for packet in packets() {
        let (read, error) = read_all(&mut BytesMut::from(&packet[..]));

        assert!(read.len() == 1 && error.is_none(), "{packet:02x?}: {error:?}");
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
    let mut bytes = BytesMut::from(&Bytes::from_static(&[0x30, 0xff, 0xff, 0xff, 0x7f])[..]);

    assert!(matches!(
        Packet::read(&mut bytes, MOST_BYTES),
        Err(Error::PayloadSizeLimitExceeded(_))
    ));
}
