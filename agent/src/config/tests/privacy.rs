//! Texts that must never leave the device (P13).

use super::{Config, LEAST, expect_fault, path, with};

const FORBIDDEN: &str = "privacy.forbidden = [\"Anna Smith\", \"+49 170 1234567\", \"52.5200\"]";

fn faults(lines: &str) -> (usize, String) {
    let text = format!("{FORBIDDEN}\n{LEAST}\n{lines}");
    match Config::from_str_at(&text, path()) {
        Ok(_) => (0, String::new()),
        Err(faults) => {
            (faults.report().faults(), faults.to_string() + &faults.report().to_json().to_string())
        }
    }
}

#[test]
fn a_forbidden_text_is_refused_wherever_it_could_get_out() {
    for line in [
        "lid = [{ id = \"anna-smith\", pin = 1 }]",
        "number = [{ id = \"a\", file = \"f\", unit = \"Anna Smiths\" }]",
        "number = [{ id = \"a\", file = \"/home/anna_smith/f\" }]",
        "inbox = [{ path = \"i\", sources = [\"491701234567\", \"a+49-170-1234567\"] }]",
        "publish.readings.topic = \"a/AnnaSmith\"",
        "publish.readings.fields = { seq = \"seq\", anna_smith = \"value\" }",
        "publish.readings.add = { site = \"ANNA SMITH\" }",
        "publish.readings.add = { latitude = 52.5200 }",
        "rule = [{ name = \"Anna Smith runs\", on = \"heart_rate\", above = 1 }]\nheart_rate = [{ id = \"7\", name = \"x\" }]",
        "lid = [{ id = \"a\", pin = 1, visit = { gap = \"1m\", report = { text = \"Anna  Smith\" } } }]",
    ] {
        let (count, told) = faults(line);

        assert_eq!(count, 1, "{line}\n{told}");
        for part in ["nna", "NNA", "1701", "170-1", "52.5"] {
            assert!(!told.contains(part), "the fault repeats it: {told}");
        }
    }
}

#[test]
fn a_fixed_field_tells_no_person_and_no_place() {
    let add = |field: &str| format!("publish.readings.add = {{ {field} }}");

    for (field, caret) in [
        ("latitude = 52.5", "latitude"),
        ("lon = \"x\"", "lon"),
        ("first_name = \"x\"", "first_name"),
        ("phone = 491701234567", "phone"),
        ("call = \"+49 (170) 123-4567\"", "\"+49"),
        ("call = \"a@example.org\"", "\"a@"),
    ] {
        expect_fault(&add(field), "a fixed field tells neither a person nor a place", caret);
    }
    with(&add("site = \"garden\", floor = 3, firmware = \"+1.2\", plate = \"+long-1234567\""));
}

#[test]
fn a_monitor_may_be_found_by_a_name_that_is_forbidden_elsewhere() {
    let (count, told) = faults("heart_rate = [{ id = \"7\", name = \"Anna Smith\" }]");

    assert_eq!(count, 0, "{told}");
}

#[test]
fn a_text_of_two_letters_is_not_forbidden_by_accident() {
    let text = format!("privacy.forbidden = [\"a-b\"]\n{LEAST}");

    let faults = Config::from_str_at(&text, path()).expect_err("too short");

    assert!(faults.to_string().contains("at least 3 letters"), "{faults}");
    assert_eq!(with("[privacy]").1, []);
}
