use super::*;
use pulsegate_sensors::SourceId;

use crate::cloud::topic::Open;
use crate::time::Mono;

const TEN: Wall = Wall(1_795_168_800_123);

fn source(kind: &str) -> Source {
    Source::new("7", kind).unwrap()
}

fn format(fields: Option<Vec<(Box<str>, Field)>>) -> ReadingFormat {
    let topic = Template::for_thing("t/{source}", "pi", Open { source: true, kind: true }).unwrap();
    ReadingFormat { topic, fields, framing: Framing::Array, add: "".into() }
}

fn reading(value: Value, detail: Option<&HeartDetail>) -> Reading {
    let detail = detail.cloned().map(Box::new);
    Reading { source: SourceId(0), mono: Mono(0), time: None, value, detail }
}

fn written(layout: &ReadingLayout, value: Value, detail: Option<&HeartDetail>) -> String {
    let id = RecordId { boot: Boot::without_suffix(12), seq: Seq(345) };
    let stamp = RecordStamp { id, time: TEN, trust: ClockTrust::Trusted };
    let mut out = Vec::new();
    layout.write_record(&reading(value, detail), &stamp, &mut ClockText::default(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_heart_rate_reads_as_the_design_says() {
    let layout = ReadingLayout::new(&format(None), &source("heart_rate"), None, false);

    assert_eq!(
        written(&layout, Value::Number(72.0), None),
        r#"{"seq":"12-345","source":"7","kind":"heart_rate","time":"2026-11-20T10:00:00.123Z","bpm":72}"#
    );
    assert_eq!(&*layout.topic, "t/7");
}

#[test]
fn a_fleet_that_wants_other_names_gets_them() {
    let fields = vec![
        ("value_time".into(), Field::Time),
        ("id".into(), Field::Source),
        ("colvalue".into(), Field::Value),
    ];
    let layout = ReadingLayout::new(&format(Some(fields)), &source("heart_rate"), None, false);

    assert_eq!(
        written(&layout, Value::Number(72.0), None),
        r#"{"value_time":"2026-11-20T10:00:00.123Z","id":"7","colvalue":72}"#
    );
}

#[test]
fn the_value_may_come_first() {
    let fields = vec![("v".into(), Field::Value), ("t".into(), Field::TimeMs)];
    let layout = ReadingLayout::new(&format(Some(fields)), &source("air"), None, false);

    assert_eq!(written(&layout, Value::Number(21.5), None), r#"{"v":21.5,"t":1795168800123}"#);
}

#[test]
fn states_and_units_have_their_own_keys() {
    let lid = ReadingLayout::new(&format(None), &source("lid"), None, false);
    let air = ReadingLayout::new(&format(None), &source("number"), Some("celsius"), false);

    assert!(written(&lid, Value::State("open".into()), None).ends_with(r#""state":"open"}"#));
    assert!(
        written(&air, Value::Number(-0.5), None).ends_with(r#""value":-0.5,"unit":"celsius"}"#)
    );
}

#[test]
fn what_a_monitor_tells_besides_is_added_and_intervals_only_when_asked_for() {
    let detail =
        HeartDetail { contact: Contact::Detected, energy_kj: Some(300), rr: vec![432, 436] };
    let plain = ReadingLayout::new(&format(None), &source("heart_rate"), None, false);
    let with_rr = ReadingLayout::new(&format(None), &source("heart_rate"), None, true);

    assert!(
        written(&plain, Value::Number(139.0), Some(&detail))
            .ends_with(r#""bpm":139,"contact":"detected","energy_kj":300}"#)
    );
    assert!(
        written(&with_rr, Value::Number(139.0), Some(&detail))
            .ends_with(r#""energy_kj":300,"rr_ms":"421.88 425.78"}"#)
    );
}

#[test]
fn a_time_that_is_not_trusted_is_flagged() {
    let layout = ReadingLayout::new(&format(None), &source("number"), None, false);
    let id = RecordId { boot: Boot::without_suffix(1), seq: Seq(1) };
    let stamp = RecordStamp { id, time: Wall(0), trust: ClockTrust::Unset };
    let mut out = Vec::new();

    let reading = reading(Value::Number(1.0), None);
    layout.write_record(&reading, &stamp, &mut ClockText::default(), &mut out);

    assert!(out.ends_with(br#""value":1,"clock":"unset"}"#));
}

#[test]
fn every_record_is_json_whatever_the_state_holds() {
    let layout = ReadingLayout::new(&format(None), &source("door"), None, false);

    let text = written(&layout, Value::State("a\"b\\\u{1}ü".into()), None);

    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["state"], "a\"b\\\u{1}ü");
}

#[test]
fn numbers_are_written_as_short_as_they_are() {
    for (value, text) in [(0.0, "0"), (-3.0, "-3"), (1e300, "1e300"), (0.1, "0.1")] {
        let mut out = Vec::new();
        write_number(value, &mut out);
        let parsed: f64 = std::str::from_utf8(&out).unwrap().parse().unwrap();
        assert!((parsed - value).abs() < f64::EPSILON, "{text}");
    }
    let mut out = Vec::new();
    write_number(72.0, &mut out);
    assert_eq!(out, b"72");
}
