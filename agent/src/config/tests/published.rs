//! Fixed keys of records, and filters of readings.

use std::collections::BTreeSet;
use std::time::Duration;

use pulsegate_core::cloud::filter::{FilterSpec, FilterTest};
use pulsegate_core::cloud::record_text::Framing;
use serde_json::Value;

use super::{expect_fault, fix_of, with};

const AIR: &str = "number = [{ id = \"air\", kind = \"temperature\", file = \"f\" }]\n\
                   lid = [{ id = \"feeder\", pin = 1 }]\n";

#[track_caller]
fn expect(section: &str, message: &str, caret: &str) {
    expect_fault(&format!("{AIR}{section}"), message, caret);
}

#[test]
fn fixed_fields_are_strings_and_numbers_of_every_record() {
    let (config, warnings) = with(&format!(
        "{AIR}[publish.readings]\nadd = {{ site = \"a \\\"b\\\"\", floor = 3, height = 1.5 }}\n\
         [publish.lid]\nadd = {{ site = \"c\" }}\n[publish.temperature]\nformat = \"lines\"\n\
         [publish.events]\nadd = {{ firmware = \"1.2\" }}"
    ));

    assert_eq!(warnings, []);
    let publish = &config.publish;
    let mut members: Vec<&str> = publish.readings.format.add.split(',').collect();
    members.sort_unstable();
    assert_eq!(members, ["\"floor\":3", "\"height\":1.5", "\"site\":\"a \\\"b\\\"\""]);
    assert_eq!(&*publish.kinds["lid"].format.add, "\"site\":\"c\"");
    assert_eq!(publish.kinds["temperature"].format.add, publish.readings.format.add);
    assert_eq!(&*publish.events.format.add, "\"firmware\":\"1.2\"");
    assert_eq!(&*publish.alerts.format.add, "");
}

#[test]
fn a_record_keeps_its_own_keys_and_stays_flat() {
    expect("publish.readings.add = { time = 1 }", "a record has its own `time`", "time");
    expect("publish.alerts.add = { rule = 1 }", "a record has its own `rule`", "rule");
    expect("publish.alerts.add = { score = 1 }", "a record has its own `score`", "score");
    expect("publish.events.add = { openings = 1 }", "a record has its own `openings`", "openings");
    expect("publish.readings.add = { Site = 1 }", "`Site` cannot be a key of a record", "Site");
    expect(
        "publish.readings.add = { a = [1] }",
        "`a` must be a string or a number, not an array",
        "[1]",
    );
    expect(
        "publish.readings.add = { a = true }",
        "`a` must be a string or a number, not a boolean",
        "true",
    );
    expect("publish.readings.add = { a = inf }", "`a` must be a finite number", "inf");
    let long = format!("publish.readings.add = {{ a = \"{}\" }}", "ab".repeat(300));
    expect(&long, "this is too much for every record", "{");
    let named =
        "[publish.readings]\nfields = { seq = \"seq\", site = \"source\" }\nadd = { site = 1 }";
    expect(named, "a record has its own `site`", "site = 1");
}

#[test]
fn readings_in_columns_have_the_fields_of_the_standard_record() {
    let (config, warnings) = with(&format!(
        "{AIR}[publish.readings]\nformat = \"columns\"\nadd = {{ site = \"a\" }}\n\
         [publish.lid]\nformat = \"lines\"\nfields = {{ s = \"seq\" }}\n[publish.temperature]\n\
         batch = {{ bytes = \"5KiB\" }}"
    ));
    assert_eq!(warnings, []);
    let publish = &config.publish;
    assert_eq!(publish.readings.format.framing, Framing::Columns);
    assert_eq!(publish.kinds["temperature"].format.framing, Framing::Columns);
    assert_eq!(publish.kinds["lid"].format.framing, Framing::Lines);
    assert_eq!(publish.alerts.format.framing, Framing::Array);

    let message = "readings in columns have the fields of the standard record";
    let fields = "fields = { s = \"seq\" }";
    let own = format!("[publish.readings]\nformat = \"columns\"\n{fields}");
    expect(&own, message, "{ s");
    let fix = fix_of(&format!("{AIR}{own}"));
    assert_eq!(fix, "leave out `fields`, or set `format = \"array\"`");
    let of_all = format!("publish.readings.format = \"columns\"\npublish.lid.{fields}");
    expect(&of_all, message, "{ s");
    let of_kind = format!("publish.readings.{fields}\npublish.lid.format = \"columns\"");
    expect(&of_kind, message, "\"columns\"");

    let message = "only readings can be in columns";
    expect("publish.alerts.format = \"columns\"", message, "\"columns\"");
    expect("publish.events.format = \"columns\"", message, "\"columns\"");
    let events = fix_of(&format!("{AIR}publish.events.format = \"columns\""));
    assert_eq!(events, "`array` or `lines`");
}

#[test]
fn no_fixed_field_has_the_key_of_any_event() {
    let published = include_str!("../../store/tests/published_events.txt");
    let records = published.lines().map(|line| serde_json::from_str(line).expect("a record"));
    let members = records.flat_map(|record: serde_json::Map<String, _>| record);
    let keys: BTreeSet<String> = members.map(|(key, _): (String, Value)| key).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys.iter().map(String::as_str).chain(["clock"]) {
        let section = format!("publish.events.add = {{ {key} = 1 }}");
        expect(&section, &format!("a record has its own `{key}`"), key);
    }
}

#[test]
fn tests_periods_and_changes_are_read_and_inherited() {
    let (config, _) = with(&format!(
        "{AIR}[publish.readings]\nmin_change = 0.5\ndrop = [{{ source = \"feeder\", is = \"closed\" }}]\n\
         [publish.temperature]\nkeep = [{{ outside = [10, 20] }}, {{ source = \"air\", above = 0 }}]\n\
         mean_every = \"1m\""
    ));

    let closed = FilterTest {
        source: Some("feeder".into()),
        is: Some("closed".into()),
        ..FilterTest::default()
    };
    let outside = FilterTest { above: Some(20.0), below: Some(10.0), ..FilterTest::default() };
    let above =
        FilterTest { source: Some("air".into()), above: Some(0.0), ..FilterTest::default() };
    let readings =
        FilterSpec { drop: vec![closed], min_change: Some(0.5), ..FilterSpec::default() };
    assert_eq!(config.publish.readings.filter, readings);
    assert_eq!(
        config.publish.kinds["temperature"].filter,
        FilterSpec {
            keep: vec![outside, above],
            mean_every: Some(Duration::from_secs(60)),
            ..readings
        }
    );
}

#[test]
fn filters_that_make_no_sense_say_why() {
    expect("publish.readings.keep = [{ source = \"aire\" }]", "unknown source `aire`", "\"aire\"");
    assert_eq!(
        fix_of(&format!("{AIR}publish.readings.keep = [{{ source = \"aire\" }}]")),
        "did you mean `air`?"
    );
    expect("publish.readings.drop = [{}]", "this test says nothing", "{}");
    expect(
        "publish.readings.drop = [{ above = 1, is = \"open\" }]",
        "`is` compares a state, and no state is above or below a number",
        "\"open\"",
    );
    expect("publish.readings.drop = [{ outside = [1] }]", "`outside` takes two numbers", "[1]");
    expect("publish.readings.drop = [{ outside = [2, 1] }]", "the lower limit comes first", "2");
    expect(
        "publish.readings.drop = [{ above = 5, outside = [1, 2] }]",
        "`outside` says what is above and below",
        "[1, 2]",
    );
    expect(
        "publish.lid.mean_every = \"1m\"",
        "readings of kind `lid` are states: no means",
        "\"1m\"",
    );
    expect("publish.alerts.min_change = 1", "only readings can be filtered", "1");
    expect("publish.events.keep = [{ above = 1 }]", "only readings can be filtered", "[");
}

#[test]
fn more_readings_than_can_be_delivered_are_a_warning() {
    let numbers = |count: u32, every: &str| -> String {
        let number = |n: u32| {
            format!(
                "[[number]]\nid = \"n{n}\"\nkind = \"temperature\"\nfile = \"f\"\n\
                 every = \"{every}\"\n"
            )
        };
        (0..count).map(number).collect()
    };
    let topic = |topic: &str| format!("publish.readings.topic = \"{topic}\"\n");
    let warned = |head: &str, tail: &str| {
        let of_rate = |text: &String| text.contains("readings a second");
        let warnings = with(&format!("{head}{tail}")).1.into_iter().map(|one| one.message);
        warnings.filter(of_rate).collect::<Vec<_>>()
    };
    let by_source = topic("a/{source}");
    let (second, fast) = (numbers(60, "1s"), numbers(60, "50ms"));

    assert_eq!(warned(&by_source, &second), Vec::<String>::new());
    assert_eq!(warned(&topic("a/{kind}"), &fast), Vec::<String>::new());
    assert_eq!(
        warned(&by_source, &fast),
        ["1200 readings a second are more than the 714 that are delivered"]
    );
    let more = format!("{by_source}link.repeat = 10000\n");
    assert_eq!(warned(&more, &fast), Vec::<String>::new());
    let fewer = "link.repeat = 10\n";
    assert_eq!(
        warned(fewer, &second),
        ["60 readings a second are more than the 22 that are delivered"]
    );
    let limited = "link.records_per_second = 50\n";
    assert_eq!(
        warned(limited, &second),
        ["60 readings a second are more than 50: the queue grows"]
    );
    let narrow = "link.bytes_per_second = \"5KiB\"\n";
    assert_eq!(warned(narrow, &second).len(), 1);
    let mean = "publish.readings.mean_every = \"1m\"\n";
    assert_eq!(warned(&format!("{narrow}{mean}"), &second), Vec::<String>::new());
}
