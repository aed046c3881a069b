//! Builds visits, and checks that their source has openings and that their report can be rendered.

use jiff::tz::{self, TimeZone};
use pulsegate_core::visits::{First, ReportFault, ReportTemplate, VisitFormat, VisitSpec};

use super::known::Known;
use super::names::repeated;
use super::rules::{self, unknown_source};
use crate::config::findings::{Finding, Findings, Span};
use crate::config::model::SimulatedKind;
use crate::config::nearest::suggest;
use crate::config::tables::{ReportTable, SourceVisitTable, Tables, VisitTable};

/// The longest template of a report, in bytes, since the text is part of the visit's record.
const MAX_TEXT_BYTES: usize = 1_024;
/// The state that counts as an opening, unless the configuration or the type of the source gives
/// another.
const OPENING: &str = "open";

pub(super) fn build_visits(
    tables: &Tables,
    known: &Known,
    findings: &mut Findings,
) -> Vec<VisitFormat> {
    for (index, table) in tables.simulated.iter().enumerate() {
        if table.visit.is_some() && table.kind != SimulatedKind::Lid {
            let message = format!("source `{}` is no lid: it has no openings", table.id);
            findings.push(Finding::fault(format!("simulated[{index}].id"), message));
        }
    }
    let lids = tables.lid.iter().map(|table| (&table.id, &table.visit)).enumerate();
    let triggers = tables.trigger.iter().map(|table| (&table.id, &table.visit)).enumerate();
    let simulated = tables.simulated.iter().map(|table| (&table.id, &table.visit)).enumerate();
    let own = [
        ("lid", lids.collect::<Vec<_>>()),
        ("trigger", triggers.collect()),
        ("simulated", simulated.collect()),
    ];
    let mut visits: Vec<(VisitFormat, Span)> = Vec::new();
    for (name, tables) in own {
        for (index, (id, visit)) in tables {
            if let Some(visit) = visit {
                let path = format!("{name}[{index}]");
                let span = findings.span_of(format!("{path}.id"));
                let source = (id.as_str(), usual_opening(id, known), First::Level);
                let path = format!("{path}.visit");
                let visit = build_format(source, visit, &path, known, findings);
                visits.push((visit, span));
            }
        }
    }
    let of_lines = visits.len();
    for (index, table) in tables.visit.iter().enumerate() {
        let path = format!("visit[{index}]");
        let span = findings.span_of(format!("{path}.source"));
        visits.push((build_of_source(table, &path, known, findings), span));
    }
    let named = visits.iter().map(|(visit, span)| (&*visit.spec.source, span.clone()));
    for ((source, span), first) in repeated(named) {
        // Two tables of one id were reported as such.
        if !visits[of_lines..].iter().any(|(_, source)| *source == span) {
            continue;
        }
        let fault = Finding::fault(span, format!("source `{source}` has its visits twice"));
        findings.push(fault.also(first, "first here"));
    }
    visits.into_iter().map(|(visit, _)| visit).collect()
}

/// Builds the visits to `source` from the table at `path`.
fn build_format(
    (source, opening, first): (&str, &str, First),
    table: &VisitTable,
    path: &str,
    known: &Known,
    findings: &mut Findings,
) -> VisitFormat {
    VisitFormat {
        spec: VisitSpec {
            source: source.into(),
            opening: opening.into(),
            first,
            gap: table.gap.0,
            units_per_opening: table.units_per_opening,
            live: table.live,
            then: rules::of_visits(&table.then, path, known, findings),
        },
        unit: table.unit.as_deref().map(Into::into),
        report: table.report.as_ref().and_then(|table| report(table, path, findings)),
    }
}

/// Builds the visits to a source without a `visit` table of its own.
fn build_of_source(
    table: &SourceVisitTable,
    path: &str,
    known: &Known,
    findings: &mut Findings,
) -> VisitFormat {
    let source = known.source(&table.source);
    let place = format!("{path}.source");
    if source.is_none() && !known.is_open() {
        findings.push(unknown_source(&table.source, &*place, known));
    }
    let readings = source.and_then(|source| source.readings.as_ref());
    if let Some(readings) = readings {
        let states = readings.states;
        if states.is_empty() {
            let message = format!("readings of kind `{}` are numbers: no openings", readings.kind);
            findings.push(Finding::fault(place, message));
        } else if let Some(is) = table.is.as_deref().filter(|is| !states.contains(is)) {
            let message = format!("readings of kind `{}` are never `{is}`", readings.kind);
            let fault = Finding::fault(format!("{path}.is"), message);
            findings.push(suggest(fault, is, states, "states"));
        }
    }
    let opening = table.is.as_deref().unwrap_or_else(|| usual_opening(&table.source, known));
    let first = if readings.is_some() { First::Level } else { First::Change };
    build_format((&table.source, opening, first), &table.to_visit(), path, known, findings)
}

fn usual_opening(id: &str, known: &Known) -> &'static str {
    let readings = known.source(id).and_then(|source| source.readings.as_ref());
    readings.and_then(|readings| readings.states.first()).copied().unwrap_or(OPENING)
}

/// Builds the report of the visit at `path`.
fn report(
    table: &ReportTable,
    path: &str,
    findings: &mut Findings,
) -> Option<(ReportTemplate, TimeZone)> {
    let text = &table.text;
    let place = format!("{path}.report.text");
    if text.len() > MAX_TEXT_BYTES || text.contains(char::is_control) {
        let fault = Finding::fault(&*place, "this cannot be the text of a report");
        findings.push(fault.label(format!("at most {MAX_TEXT_BYTES} bytes on one line")));
    }
    let report = ReportTemplate::from_text(text);
    if let Err(fault) = &report {
        let finding = Finding::fault(place, fault.to_string());
        findings.push(match fault {
            ReportFault::Unknown(word) => {
                suggest(finding, word, &ReportTemplate::placeholder_names(), "placeholders")
            }
            ReportFault::Decimals(_) => finding.label("such as `{units:2}` or `{minutes:0}`"),
            ReportFault::Unbalanced => finding.label("a report has no braces of its own"),
        });
    }
    let zone = zone(&table.zone, &format!("{path}.report.zone"), findings);
    Some((report.ok()?, zone))
}

/// Returns the time zone whose name is at `place`. On a system without a time zone database, warns
/// and returns UTC.
pub(super) fn zone(name: &str, place: &str, findings: &mut Findings) -> TimeZone {
    if let Ok(zone) = TimeZone::get(name) {
        return zone;
    }
    let available: Vec<String> = tz::db().available().map(|zone| zone.to_string()).collect();
    if available.is_empty() {
        let warning = Finding::warning(place, "this system knows no time zones");
        findings.push(warning.label("times are told in UTC: install `tzdata`"));
        return TimeZone::UTC;
    }
    let names: Vec<&str> = available.iter().map(String::as_str).collect();
    let fault = Finding::fault(place, format!("unknown time zone `{name}`"));
    findings.push(suggest(fault, name, &names, "time zones"));
    TimeZone::UTC
}
