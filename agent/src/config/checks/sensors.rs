//! Checks the sources, and the hardware that they share with each other and with outputs.

use pulsegate_sensors::forbidden::Forbidden;
use pulsegate_sensors::line::Backend;

use super::names::repeated;
use crate::config::findings::{Finding, Findings};
use crate::config::sections::check_buses;
use crate::config::tables::Tables;

/// The number of lines of a Raspberry Pi: BCM2835 ARM Peripherals, section 6.1.
const RASPBERRY_PI_LINES: u16 = 54;

/// Checks the tables of all sources.
pub(super) fn check_sensors(tables: &Tables, findings: &mut Findings) {
    check_pins(tables, findings);
    for (index, table) in tables.heart_rate.iter().enumerate() {
        findings.push_all(table.check(&format!("heart_rate[{index}]")));
    }
    for (index, table) in tables.inbox.iter().enumerate() {
        findings.push_all(table.check(&format!("inbox[{index}]")));
    }
    for (index, table) in tables.simulated.iter().enumerate() {
        findings.push_all(table.check(&format!("simulated[{index}]")));
    }
    for (index, table) in tables.camera.iter().enumerate() {
        findings.push_all(table.check(&format!("camera[{index}]")));
    }
    check_monitors_differ(tables, findings);
    check_sockets_differ(tables, findings);
    findings.push_all(check_buses(&tables.number));
    if !tables.camera.is_empty() {
        let message = "pictures stay on this device: this version uploads none";
        findings.push(Finding::warning("camera[0]", message));
    }
}

/// Adds to the sources the settings of other tables: inboxes get the forbidden texts. Removes the
/// visits, which are already built and which no driver needs.
pub(super) fn complete(tables: &mut Tables) {
    let mut forbidden = Forbidden::default();
    for text in &tables.privacy.forbidden {
        forbidden.add_text(text);
    }
    tables.inbox.iter_mut().for_each(|inbox| inbox.forbidden = forbidden.clone());
    tables.lid.iter_mut().for_each(|lid| lid.visit = None);
    tables.trigger.iter_mut().for_each(|trigger| trigger.visit = None);
    tables.simulated.iter_mut().for_each(|simulated| simulated.visit = None);
}

fn check_pins(tables: &Tables, findings: &mut Findings) {
    let paths = |name: &'static str| (0..).map(move |index: usize| format!("{name}[{index}].pin"));
    let lids = paths("lid").zip(tables.lid.iter().map(|table| table.pin));
    let triggers = paths("trigger").zip(tables.trigger.iter().map(|table| table.pin));
    let driven = tables.output.iter().enumerate().flat_map(|(index, table)| {
        let single = table.pin.map(|pin| (format!("output[{index}].pin"), pin));
        let pins = table.pins.iter().flatten().enumerate();
        single
            .into_iter()
            .chain(pins.map(move |(line, pin)| (format!("output[{index}].pins[{line}]"), *pin)))
    });
    let all = lids.chain(triggers).chain(driven);
    let pins: Vec<_> = all.map(|(path, pin)| (pin, findings.span_of(path))).collect();
    for (pin, span) in &pins {
        if tables.gpio.backend == Backend::RaspberryPi && *pin >= RASPBERRY_PI_LINES {
            let last = RASPBERRY_PI_LINES - 1;
            let message = format!("a Raspberry Pi has lines 0 to {last}, not {pin}");
            findings.push(Finding::fault(span.clone(), message));
        }
    }
    for ((pin, span), first) in repeated(pins.into_iter()) {
        let fault = Finding::fault(span, format!("pin {pin} has two uses"));
        findings.push(fault.also(first, "the other is here"));
    }
}

/// Reports a monitor with two ids: its readings would get either both ids or neither.
fn check_monitors_differ(tables: &Tables, findings: &mut Findings) {
    let mut given = Vec::new();
    for (index, table) in tables.heart_rate.iter().enumerate() {
        for (key, word) in [("address", &table.address), ("name", &table.name)] {
            let span = findings.span_of(format!("heart_rate[{index}].{key}"));
            given.extend(word.as_ref().map(|word| (word.to_ascii_uppercase(), span)));
        }
    }
    let words = given.iter().map(|(word, span)| (word, span.clone()));
    for ((monitor, span), first) in repeated(words) {
        let fault = Finding::fault(span, format!("monitor `{monitor}` has two ids"));
        findings.push(fault.also(first, "the other is here"));
    }
}

fn check_sockets_differ(tables: &Tables, findings: &mut Findings) {
    let span = |index: usize| findings.span_of(format!("inbox[{index}].path"));
    let inboxes = tables.inbox.iter().enumerate();
    let paths = inboxes.map(|(index, table)| (table.path.as_path(), span(index)));
    for ((path, span), first) in repeated(paths) {
        let fault = Finding::fault(span, format!("`{}` has two inboxes", path.display()));
        findings.push(fault.also(first, "the other is here"));
    }
}
