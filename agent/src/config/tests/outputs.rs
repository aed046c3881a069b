//! Outputs, night, and actions of rules and visits: accepted forms, and one test for each class of
//! fault.

use std::time::Duration;

use pulsegate_core::act::output::{Hours, Light, NightSpec, Only};
use pulsegate_core::rules::{Action, Drive};
use pulsegate_core::visits::{Moment, VisitAction};
use pulsegate_sensors::line::{Backend, Level};
use pulsegate_sensors::output::Wiring;

use super::{expect_fault, fix_of, with};
use crate::config::Night;

const SOURCES: &str = r#"
lid = [{ id = "feeder", pin = 1 }]
number = [{ id = "light", file = "f" }]
camera = [{ id = "nest", capture = { command = ["true", "{path}"] } }]
[[output]]
id = "lamp"
pin = 17
[[output]]
id = "digits"
pins = [5, 6, 13, 19, 12, 16, 20, 21]
[[output]]
id = "led"
file = "/run/led"
"#;

fn rule(then: &str) -> String {
    format!(
        "{SOURCES}\n[[rule]]\nname = \"r\"\nsource = \"feeder\"\nis = \"open\"\nthen = [{then}]"
    )
}

fn visit(then: &str) -> String {
    format!("{SOURCES}\n[[visit]]\nsource = \"feeder\"\ngap = \"90s\"\nthen = [{then}]")
}

fn output(lines: &str) -> String {
    format!("{SOURCES}\n[[output]]\nid = \"o\"\n{lines}")
}

#[test]
fn a_rule_switches_outputs_takes_pictures_and_records() {
    let then = r#""alert", "output:lamp", "output:led:pulse", "output:digits:count", "record:30s""#;

    let (config, _) = with(&rule(then));

    let output = |id: &str, drive| Action::Output(id.into(), drive);
    let actions = [
        Action::Alert,
        output("lamp", Drive::On),
        output("led", Drive::Pulse),
        output("digits", Drive::Count),
        Action::Record(Duration::from_secs(30)),
    ];
    assert_eq!(config.rules[0].then, actions);
}

#[test]
fn a_visit_switches_outputs_and_takes_pictures_at_its_moments() {
    let then =
        r#""output:digits:count", "capture:nest", "capture:nest:opening", "capture:nest:end""#;

    let (config, _) = with(&visit(then));

    let capture = |moment| VisitAction::Capture("nest".into(), moment);
    let actions = [
        VisitAction::Output("digits".into(), Drive::Count),
        capture(Moment::Begin),
        capture(Moment::Opening),
        capture(Moment::End),
    ];
    assert_eq!(config.visits[0].spec.then, actions);
}

#[test]
fn a_display_shows_as_many_nines_as_it_has_digits() {
    let (config, _) = with(SOURCES);

    let most: Vec<u32> = config.outputs.iter().map(|output| output.spec.most).collect();
    assert_eq!(most, [1, 99, u32::MAX]);
    let (active, backend) = (Level::High, Backend::Auto);
    let lamp = Wiring::Lines { pins: vec![17], chip: None, active, backend };
    assert_eq!(config.outputs[0].wiring, lamp);
}

/// KA-1 for outputs.
#[test]
fn an_unknown_output_is_named_with_the_nearest() {
    for text in [rule(r#""output:lmap""#), visit(r#""output:lmap""#)] {
        expect_fault(&text, "unknown output `lmap`", "\"output:lmap\"");
        assert_eq!(fix_of(&text), "did you mean `lamp`?");
    }
    let camera = visit(r#""capture:nets""#);
    expect_fault(&camera, "unknown camera `nets`", "\"capture:nets\"");
    assert_eq!(fix_of(&camera), "did you mean `nest`?");
}

#[test]
fn an_output_cannot_do_what_it_is_not_made_for() {
    let count = rule(r#""output:lamp:count""#);
    expect_fault(&count, "output `lamp` is one line: on or off", "\"output:lamp:count\"");
    let on = rule(r#""output:digits""#);
    expect_fault(&on, "output `digits` is a display: a count", "\"output:digits\"");
    let slip = rule(r#""output:lamp:puls""#);
    expect_fault(&slip, "an output cannot be driven `puls`", "\"output:lamp:puls\"");
    assert_eq!(fix_of(&slip), "did you mean `pulse`?");
}

#[test]
fn what_a_visit_cannot_do_is_said() {
    expect_fault(&visit(r#""alert""#), "a visit cannot `alert`", "\"alert\"");
    expect_fault(&visit(r#""record:30s""#), "a visit cannot `record`", "\"record:30s\"");
    expect_fault(&visit(r#""captur:nest""#), "unknown action `captur:nest`", "\"captur:nest\"");
    let moment = visit(r#""capture:nest:ende""#);
    expect_fault(&moment, "a visit has no moment `ende`", "\"capture:nest:ende\"");
    assert_eq!(fix_of(&moment), "did you mean `end`?");
}

#[test]
fn a_recording_has_a_length_and_belongs_to_an_alert() {
    let record = |length| rule(&format!("\"alert\", \"record:{length}\""));

    expect_fault(&record("30"), "`30` is no time to record", "\"record:30\"");
    expect_fault(&record("1h"), "`1h` is no time to record", "\"record:1h\"");
    let (_, warnings) = with(&record("30s"));
    let message = "a recording makes no difference: every reading is published";
    assert!(warnings.iter().any(|warning| warning.message == message), "{warnings:?}");
    let (_, warnings) =
        with(&format!("{}\n[publish.readings]\nmean_every = \"1m\"", record("30s")));
    assert!(warnings.iter().all(|warning| warning.message != message), "{warnings:?}");
    let alone = rule(r#""record:30s""#);
    expect_fault(&alone, "a recording belongs to an alert", "\"record:30s\"");
}

#[test]
fn an_output_is_connected_to_one_thing_that_nothing_else_has() {
    let none = output("");
    expect_fault(&none, "output `o` has neither `pin` nor `pins` nor `file`", "[[output]]");
    let two = output("pin = 2\nfile = \"x\"");
    expect_fault(&two, "output `o` is connected to two things", "\"x\"");
    expect_fault(&output("pin = 17"), "pin 17 has two uses", "17");
    expect_fault(&output("pins = [2, 3, 4, 13]"), "pin 13 has two uses", "13]");
    expect_fault(&output("pins = [2, 3, 4]"), "3 lines are no decimal digits", "[2, 3, 4]");
    let active = output("file = \"x\"\nactive = \"low\"");
    expect_fault(&active, "a file has no level: it takes 0 for off", "\"low\"");
    let twice = "output = [{ id = \"a\", pin = 2 }, { id = \"a\", pin = 3 }]";
    expect_fault(twice, "id `a` is given twice", "\"a\", pin = 3");
}

#[test]
fn night_is_told_by_a_source_or_by_the_clock() {
    let only = |lines: &str| output(&format!("pin = 2\nonly = \"day\"\n[night]\n{lines}"));

    let (config, _) = with(&only("source = \"light\"\nbelow = 10"));
    let light = Light { below: 10.0, above: 10.0 };
    assert_eq!(
        config.night,
        Some(Night {
            source: Some("light".into()),
            spec: NightSpec { light: Some(light), hours: None }
        })
    );
    assert_eq!(config.outputs[3].spec.only, Some(Only::Day));
    let (config, _) = with(&only("from = \"21:00\"\nto = \"06:30\"\nzone = \"Europe/Berlin\""));
    let hours =
        Hours { from: 1260, to: 390, zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap() };
    assert_eq!(
        config.night,
        Some(Night { source: None, spec: NightSpec { light: None, hours: Some(hours) } })
    );
}

#[test]
fn a_night_that_nobody_can_tell_is_a_fault() {
    let night = |lines: &str| format!("{SOURCES}\n[night]\n{lines}");
    let only = output("pin = 2\nonly = \"night\"");

    expect_fault(&only, "nothing says when it is night", "\"night\"");
    expect_fault(&night("above = 1"), "`night` has neither `source` nor `from`", "[night]");
    let source = night("source = \"ligth\"\nbelow = 1");
    expect_fault(&source, "unknown source `ligth`", "\"ligth\"");
    assert_eq!(fix_of(&source), "did you mean `light`?");
    let lid = night("source = \"feeder\"\nbelow = 1");
    expect_fault(&lid, "readings of kind `lid` are no numbers", "\"feeder\"");
    let upside = night("source = \"light\"\nbelow = 20\nabove = 10");
    expect_fault(&upside, "it would be night and day at once", "10");
    let time = night("from = \"9pm\"\nto = \"06:00\"");
    expect_fault(&time, "`9pm` is no time of day", "\"9pm\"");
    let empty = night("from = \"06:00\"\nto = \"06:00\"");
    expect_fault(&empty, "this night has no length", "\"06:00\"");
    expect_fault(
        &night("from = \"21:00\""),
        "`to` is missing: when does the night end?",
        "\"21:00\"",
    );
    let mixed = night("from = \"21:00\"\nto = \"06:00\"\nbelow = 1");
    expect_fault(&mixed, "this says nothing without `source`", "1");
    let dark = night("source = \"light\"");
    expect_fault(&dark, "`below` is missing: from when on is it night?", "\"light\"");
}
