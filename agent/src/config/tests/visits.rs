//! Visits, their reports, and heart-rate variability.

use std::time::Duration;

use pulsegate_core::visits::First;

use super::{expect_fault, fix_of, with};

fn lid(visit: &str) -> String {
    format!("lid = [{{ id = \"a\", pin = 1, visit = {{ gap = \"90s\", {visit} }} }}]")
}

fn report(text: &str) -> String {
    lid(&format!("report = {{ text = \"{text}\" }}"))
}

#[test]
fn a_lid_a_trigger_and_another_programs_source_can_have_visits() {
    let (config, warnings) = with(&format!(
        "{}\ntrigger = [{{ id = \"b\", kind = \"movement\", pin = 2 }}]\n\
         inbox = [{{ path = \"i.sock\", sources = [\"c\"] }}]\n\
         visit = [{{ source = \"b\", gap = \"1m\", live = true }}, {{ source = \"c\", gap = \"1m\" }}]",
        lid("units_per_opening = 0.5")
    ));

    assert_eq!(warnings, []);
    let specs: Vec<_> = config.visits.iter().map(|visit| &visit.spec).collect();
    let [lid, trigger, other] = &specs[..] else { panic!("{specs:?}") };
    assert_eq!((&*lid.source, &*lid.opening, lid.first), ("a", "open", First::Level));
    assert_eq!(lid.gap, Duration::from_secs(90));
    assert_eq!((&*trigger.opening, trigger.first, trigger.live), ("active", First::Level, true));
    assert_eq!((&*other.opening, other.first), ("open", First::Change));
}

#[test]
fn a_placeholder_that_does_not_exist_is_told_the_nearest() {
    let text = report("{minuets} min");

    expect_fault(&text, "unknown placeholder `{minuets}`", "\"{minuets} min\"");
    assert_eq!(fix_of(&text), "did you mean `minutes`?");
    expect_fault(&report("{unit:2}"), "`{unit:2}` cannot have these decimals", "\"{unit:2}\"");
    expect_fault(&report("{unit"), "a brace without its partner", "\"{unit\"");
}

#[test]
fn a_time_zone_that_does_not_exist_is_told_the_nearest() {
    let text = lid("report = { text = \"x\", zone = \"Europe/Berlni\" }");

    expect_fault(&text, "unknown time zone `Europe/Berlni`", "\"Europe/Berlni\"");
    assert_eq!(fix_of(&text), "did you mean `Europe/Berlin`?");
}

#[test]
fn visits_need_a_source_with_openings_and_one_table_each() {
    let number = "number = [{ id = \"air\", file = \"f\" }]\n";
    let visit = |source: &str| format!("visit = [{{ source = \"{source}\", gap = \"1m\" }}]");
    expect_fault(
        &(number.to_owned() + &visit("air")),
        "readings of kind `number` are numbers: no openings",
        "\"air\"",
    );
    expect_fault(&(number.to_owned() + &visit("aire")), "unknown source `aire`", "\"aire\"");
    let twice = lid("live = true") + "\n" + &visit("a");
    expect_fault(&twice, "source `a` has its visits twice", "\"a\"");
    expect_fault(
        "simulated = [{ id = \"s\", kind = \"number\", visit = { gap = \"1m\" } }]",
        "source `s` is no lid: it has no openings",
        "\"s\"",
    );
    expect_fault(
        "lid = [{ id = \"a\", pin = 1 }]\nvisit = [{ source = \"a\", is = \"opne\", gap = \"1m\" }]",
        "readings of kind `lid` are never `opne`",
        "\"opne\"",
    );
}

#[test]
fn rules_and_sections_know_what_is_derived_only_where_it_is() {
    let belt = |variability| {
        format!(
            "heart_rate = [{{ id = \"7\", name = \"Polar\", variability = {variability} }}]\n\
             publish.\"heart_rate.rmssd\".topic = \"iot/rmssd\"\n\
             rule = [{{ name = \"r\", on = \"heart_rate.rmssd\", source = \"7\", below = 20 }}]"
        )
    };

    assert_eq!(with(&belt(true)).1, []);
    let text = format!("{}\n{}", super::LEAST, belt(false));
    let faults = super::Config::from_str_at(&text, super::path()).expect_err("no such kind");
    assert_eq!(faults.report().faults(), 2, "section and rule: {faults}");
}
