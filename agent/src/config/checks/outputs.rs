//! Checks that each output has one connection, and that night can be told from day.

use jiff::tz::TimeZone;
use pulsegate_core::act::output::{Hours, Light, NightSpec};
use pulsegate_sensors::line::Level;

use super::known::Known;
use super::rules::unknown_source;
use super::visits::zone;
use crate::config::findings::{Finding, Findings};
use crate::config::model::{Night, Output, Wiring};
use crate::config::place::At;
use crate::config::tables::{NightTable, OutputTable, Tables};

/// The number of lines of a decimal digit.
const LINES_OF_A_DIGIT: usize = 4;
/// The most digits of a display: no visit has ten thousand openings.
const MAX_DIGITS: usize = 4;

pub(super) fn build_outputs(tables: &Tables, findings: &mut Findings) -> Vec<Output> {
    let output = |table: &At<OutputTable>| {
        if let Some(only) = table.only.as_ref().filter(|_| tables.night.is_none()) {
            let fault = Finding::fault(only.span(), "nothing says when it is night");
            findings
                .push(fault.help("such as `[night]` with `from = \"21:00\"`, `to = \"06:00\"`"));
        }
        Output {
            id: table.id.to_string(),
            wiring: wiring(table, findings),
            pulse: table.pulse.0,
            only: table.only.as_deref().copied(),
        }
    };
    tables.output.iter().map(output).collect()
}

fn wiring(table: &At<OutputTable>, findings: &mut Findings) -> Wiring {
    let id = &*table.id;
    let spans = [
        table.pin.as_ref().map(At::span),
        table.pins.as_ref().map(At::span),
        table.file.as_ref().map(At::span),
    ];
    let mut given = spans.into_iter().flatten();
    match (given.next(), given.next()) {
        (None, _) => {
            let message = format!("output `{id}` has neither `pin` nor `pins` nor `file`");
            findings.push(Finding::fault(table.span(), message).help("such as `pin = 22`"));
        }
        (Some(first), Some(second)) => {
            let message = format!("output `{id}` is connected to two things");
            findings.push(Finding::fault(second, message).also(first, "one of them is enough"));
        }
        (Some(_), None) => {}
    }
    if let Some(file) = &table.file {
        if let Some(active) = &table.active {
            let message = "a file has no level: it takes 0 for off";
            findings.push(Finding::fault(active.span(), message).label("drop it"));
        }
        return Wiring::File(file.to_path_buf());
    }
    let active = table.active.as_deref().copied().unwrap_or(Level::High);
    if let Some(pins) = &table.pins {
        let digits = pins.len() / LINES_OF_A_DIGIT;
        if !pins.len().is_multiple_of(LINES_OF_A_DIGIT) || !(1..=MAX_DIGITS).contains(&digits) {
            let message = format!("{} lines are no decimal digits", pins.len());
            let fault = Finding::fault(pins.span(), message);
            findings.push(fault.label("4 lines for each of 1 to 4 digits, the lowest bit first"));
        }
        return Wiring::Lines { pins: pins.iter().map(|pin| **pin).collect(), active };
    }
    Wiring::Lines { pins: table.pin.iter().map(|pin| **pin).collect(), active }
}

/// Builds the decision between night and day.
pub(super) fn night(
    table: Option<&At<NightTable>>,
    known: &Known,
    findings: &mut Findings,
) -> Option<Night> {
    let table = table?;
    if table.source.is_none() && table.from.is_none() {
        let fault = Finding::fault(table.span(), "`night` has neither `source` nor `from`");
        findings.push(fault.help("such as `from = \"21:00\"` and `to = \"06:00\"`"));
        return None;
    }
    let of_source = [&table.below, &table.above].map(|given| given.as_ref().map(At::span));
    let of_clock = [&table.to, &table.zone].map(|given| given.as_ref().map(At::span));
    for (whole, part, parts) in
        [("source", &table.source, of_source), ("from", &table.from, of_clock)]
    {
        for span in parts.into_iter().flatten().filter(|_| part.is_none()) {
            findings.push(Finding::fault(span, format!("this says nothing without `{whole}`")));
        }
    }
    let light = table.source.as_ref().and_then(|source| light(table, source, known, findings));
    let hours = table.from.as_ref().and_then(|from| hours(table, from, findings));
    let source = table.source.as_ref().map(|source| source.as_str().into());
    Some(Night { source, spec: NightSpec { light, hours } })
}

fn light(
    table: &At<NightTable>,
    source: &At<String>,
    known: &Known,
    findings: &mut Findings,
) -> Option<Light> {
    match known.source(source) {
        None if known.is_open() => {}
        None => findings.push(unknown_source(source, known)),
        Some(found) => {
            let states = found.readings.as_ref().filter(|readings| !readings.states.is_empty());
            if let Some(readings) = states {
                let message = format!("readings of kind `{}` are no numbers", readings.kind);
                findings.push(Finding::fault(source.span(), message));
            }
        }
    }
    let Some(below) = &table.below else {
        let message = "`below` is missing: from when on is it night?";
        findings.push(Finding::fault(source.span(), message));
        return None;
    };
    if let Some(above) = table.above.as_ref().filter(|above| ***above < **below) {
        let fault = Finding::fault(above.span(), "it would be night and day at once");
        findings.push(fault.also(below.span(), "`above` is at least this"));
    }
    let above = table.above.as_deref().copied().unwrap_or(**below);
    Some(Light { below: **below, above })
}

fn hours(table: &At<NightTable>, from: &At<String>, findings: &mut Findings) -> Option<Hours> {
    let Some(to) = &table.to else {
        findings.push(Finding::fault(from.span(), "`to` is missing: when does the night end?"));
        return None;
    };
    let zone = table.zone.as_ref().map_or(TimeZone::UTC, |name| zone(name, findings));
    let (first, end) = (minute(from, findings)?, minute(to, findings)?);
    if first == end {
        let fault = Finding::fault(to.span(), "this night has no length");
        findings.push(fault.also(from.span(), "it begins then"));
    }
    Some(Hours { from: first, to: end, zone })
}

/// Parses a time of day such as `21:00`. Returns the minutes since midnight.
fn minute(text: &At<String>, findings: &mut Findings) -> Option<u16> {
    let number = |part: &str, below: u16| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok())?.filter(|number: &u16| *number < below)
    };
    let read = text
        .split_once(':')
        .and_then(|(hour, minute)| Some(number(hour, 24)? * 60 + number(minute, 60)?));
    if read.is_none() {
        let fault = Finding::fault(text.span(), format!("`{}` is no time of day", **text));
        findings.push(fault.label("such as \"21:00\""));
    }
    read
}
