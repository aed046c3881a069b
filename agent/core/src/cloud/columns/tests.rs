use super::*;
use pulsegate_sensors::{Contact, Source};

use crate::cloud::record_text::{Framing, ReadingFormat};
use crate::cloud::topic::{Open, Template};
use crate::record::reading::{HeartDetail, Seq};
use crate::time::{Mono, Wall};

const TEN: i64 = 1_795_168_800_123;

fn layout(name: &str, kind: &str) -> ReadingLayout {
    layout_with_unit(name, kind, None)
}

fn layout_with_unit(name: &str, kind: &str, unit: Option<&str>) -> ReadingLayout {
    let topic = Template::for_thing("t", "pi", Open { source: true, kind: true }).unwrap();
    let format = ReadingFormat { topic, fields: None, framing: Framing::Columns, add: "".into() };
    ReadingLayout::new(&format, &Source::new(name, kind).unwrap(), unit, true)
}

fn reading(source: u32, value: Value) -> Reading {
    Reading { source: SourceId(source), mono: Mono(0), time: None, value, detail: None }
}

fn stamp(seq: u64, ms: i64) -> RecordStamp {
    let id = RecordId { boot: Boot::without_suffix(12), seq: Seq(seq) };
    RecordStamp { id, time: Wall(TEN + ms), trust: ClockTrust::Trusted }
}

fn text(batch: &ColumnBatch) -> String {
    String::from_utf8(batch.to_payload()).unwrap()
}

/// The values of one source, as they are written.
fn values(values: &[f64]) -> String {
    let (mut batch, layout) = (ColumnBatch::new(), layout("air", "number"));
    for (seq, value) in (1..).zip(values) {
        let reading = reading(0, Value::Number(*value));
        assert!(batch.push_reading(&layout, &reading, &stamp(seq, 0), usize::MAX));
    }
    let text = text(&batch);
    text.split_once("\"value\":[").unwrap().1.strip_suffix("]}").unwrap().to_owned()
}

#[test]
fn readings_of_several_sources_are_one_object() {
    let (belt, lid) = (layout("7", "heart_rate"), layout("feeder", "lid"));
    let mut batch = ColumnBatch::new();
    let detail = |energy_kj| {
        Some(Box::new(HeartDetail { contact: Contact::Detected, energy_kj, rr: vec![854, 860] }))
    };
    let beats =
        |value, energy| Reading { detail: detail(energy), ..reading(0, Value::Number(value)) };
    let open = reading(1, Value::State("open".into()));
    for (layout, reading, stamp) in [
        (&belt, beats(72.0, None), stamp(345, 0)),
        (&belt, beats(71.0, None), stamp(346, 1_000)),
        (&lid, open, stamp(347, 1_500)),
        (
            &belt,
            beats(73.0, Some(300)),
            RecordStamp { trust: ClockTrust::Unset, ..stamp(350, 2_010) },
        ),
        (&belt, beats(74.0, None), stamp(351, 3_000)),
    ] {
        assert!(batch.push_reading(layout, &reading, &stamp, usize::MAX));
    }

    assert_eq!(
        text(&batch),
        concat!(
            r#"{"columns":1,"time":1795168800123,"series":["#,
            r#"{"source":"7","kind":"heart_rate","contact":"detected","rr_ms":null},"#,
            r#"{"source":"feeder","kind":"lid"},"#,
            r#"{"source":"7","kind":"heart_rate","contact":"detected","energy_kj":null,"rr_ms":null,"clock":"unset"}],"#,
            r#""seq":[["12",345,-2,3,1]],"index":[0,0,1,2,0],"ms":[0,1000,1500,2010,1000],"#,
            r#""value":[72,-1,"open",73,3],"energy_kj":[300],"rr":[[854,860],[854,860],[854,860],[854,860]]}"#
        )
    );
}

#[test]
fn the_example_of_the_readme_is_what_is_published() {
    let layouts =
        [layout("7", "heart_rate"), layout_with_unit("air", "temperature", Some("celsius"))];
    let mut batch = ColumnBatch::new();
    let numbers = [(0, 72.0, 0), (1, 21.5, 27), (0, 71.0, 1_000), (1, 21.6, 1_027)];
    for (seq, (source, value, ms)) in (345..).zip(numbers) {
        let reading = reading(source, Value::Number(value));
        let id = RecordId { boot: "12k3f9x2ab".parse().unwrap(), seq: Seq(seq) };
        let stamp = RecordStamp { id, ..stamp(seq, ms) };
        assert!(batch.push_reading(&layouts[source as usize], &reading, &stamp, usize::MAX));
    }

    let text = text(&batch);
    let readme = include_str!("../../../../../README.md");
    assert!(readme.contains(&format!("\n{text}\n")), "README.md lacks {text}");
}

#[test]
fn numbers_are_differences_of_as_many_decimals_as_they_need() {
    assert_eq!(values(&[72.0, 72.0, 71.0, 200.0]), "72,0,-1,129");
    assert_eq!(values(&[21.5, 21.6, 21.0, 21.25, 21.5]), "[215,1],1,-6,[2125,2],25");
    assert_eq!(values(&[-0.0, 0.1 + 0.2, 0.3]), "0,[0.30000000000000004,0],[3,1]");
    assert_eq!(values(&[1e300, 1.0, f64::INFINITY, 2.0]), "[1e+300,0],[1,0],null,1");
    let precise = "[123456789012,9],[215,1]";
    assert_eq!(values(&[123.456_789_012, 21.5]), precise, "the shorter of two forms");
}

#[test]
fn a_new_start_has_its_own_sequence_numbers() {
    let (mut batch, layout) = (ColumnBatch::new(), layout("air", "number"));
    for (start, seq) in [(12, 1), (12, 2), (12, 3), (13, 4), (13, 9), (12, 10)] {
        let id = RecordId { boot: Boot::without_suffix(start), seq: Seq(seq) };
        let stamp = RecordStamp { id, ..stamp(0, 0) };
        let reading = reading(0, Value::Number(0.0));
        assert!(batch.push_reading(&layout, &reading, &stamp, usize::MAX));
    }

    assert!(text(&batch).contains(r#""seq":[["12",1,-2],["13",4,5],["12",10]],"ms""#));
}

#[test]
fn a_reading_without_room_leaves_the_message_as_it_was() {
    let layouts = [layout("7", "heart_rate"), layout("8", "heart_rate")];
    for room in 0..400 {
        let (mut batch, mut seq, mut before) = (ColumnBatch::new(), 1_u32, String::new());
        let mut push = |batch: &mut ColumnBatch, room| {
            let source = u32::from(seq > 3);
            let detail = HeartDetail { contact: Contact::Lost, energy_kj: Some(9), rr: vec![1] };
            let value = Value::Number(f64::from(seq) / 7.0);
            let reading = Reading { detail: Some(Box::new(detail)), ..reading(source, value) };
            let stamp = stamp(u64::from(seq + seq / 5), seq.into());
            seq += 1;
            batch.push_reading(&layouts[source as usize], &reading, &stamp, room)
        };
        while push(&mut batch, room) {
            before = text(&batch);
            assert_eq!(before.len(), batch.encoded_len());
            assert!(before.len() <= room);
        }

        if !before.is_empty() {
            assert_eq!(text(&batch), before, "room for {room} bytes");
        }
    }
}

#[test]
fn a_reading_of_ten_belts_takes_at_most_twelve_bytes() {
    const READINGS: u32 = 2_000;
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let layouts: Vec<_> = (0..10).map(|n| layout(&format!("belt-{n:02}"), "heart_rate")).collect();
    let (mut batch, mut rates) = (ColumnBatch::new(), [72_i32; 10]);
    for n in 0..READINGS {
        let (belt, second) = ((n % 10) as usize, i64::from(n / 10));
        rates[belt] += random.i32(-2..=2);
        let reading = reading(n % 10, Value::Number(rates[belt].into()));
        let late = random.i64(0..40);
        let at = stamp(u64::from(n) + 1, second * 1_000 + i64::from(n % 10) * 100 + late);
        assert!(batch.push_reading(&layouts[belt], &reading, &at, usize::MAX));
    }

    let bytes = batch.encoded_len() as u64;
    assert!(bytes <= u64::from(READINGS) * 12, "{bytes} bytes for {READINGS} readings");
    println!("{bytes} bytes for {READINGS} readings");
}
