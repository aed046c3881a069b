//! `pulsegate readings`, `alerts` and `visits`: lists records of the store, beside a running agent
//! or without an agent.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use pulsegate_core::cloud::record_text::ClockText;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::Value;
use pulsegate_core::time::timeline::ClockTrust;
use serde_json::json;

use super::arguments::ConfigArgument;
use super::{exit_with_error, peek_config, print_text};
use crate::db::VisitFound;
use crate::db::{AlertFound, Choice, FILE, Reader, ReadingFound};

/// The arguments of the lists.
#[derive(Debug, Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    config: ConfigArgument,
    /// The number of records to print, counted back from the newest
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    last: u32,
    /// Print only records of the source with this id
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Print one JSON object per line instead of text
    #[arg(long)]
    json: bool,
}

impl Listing {
    fn choose_records(&self) -> Choice<'_> {
        Choice::Last(self.source.as_deref(), self.last)
    }
}

/// Lists readings.
pub(crate) fn list_readings(listing: &Listing) -> ExitCode {
    print_records(listing, |reader| {
        let found = reader.last_readings(listing.choose_records())?;
        Ok(found.iter().map(|(id, found)| reading_line(*id, found, listing.json)).collect())
    })
}

/// Lists alerts.
pub(crate) fn list_alerts(listing: &Listing) -> ExitCode {
    print_records(listing, |reader| {
        let found = reader.last_alerts(listing.choose_records())?;
        Ok(found.iter().map(|(id, found)| alert_line(*id, found, listing.json)).collect())
    })
}

/// Lists visits.
pub(crate) fn list_visits(listing: &Listing) -> ExitCode {
    print_records(listing, |reader| {
        let found = reader.last_visits(listing.choose_records())?;
        Ok(found.iter().map(|(id, visit)| visit_line(*id, visit, listing.json)).collect())
    })
}

fn print_records(
    listing: &Listing,
    find: impl FnOnce(&Reader) -> anyhow::Result<Vec<String>>,
) -> ExitCode {
    let config = match peek_config(&listing.config.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let path = config.state_dir.join(FILE);
    let found = Reader::open_readonly(&path)
        .map_err(anyhow::Error::from)
        .and_then(|reader| find(&reader))
        .with_context(|| format!("cannot read the store `{}`", path.display()));
    match found {
        Ok(lines) if lines.is_empty() => ExitCode::SUCCESS,
        Ok(lines) => print_text(&lines.join("\n")),
        Err(error) => exit_with_error(&error),
    }
}

fn reading_line(id: RecordId, found: &ReadingFound, json: bool) -> String {
    let (time, source) = (ClockText::format_time(found.time), &found.source);
    let value = plain_value(&found.reading.value);
    if json {
        let mut record = json!({
            "seq": id.to_string(),
            "source": source.name,
            "kind": source.kind,
            "time": time,
            "value": value,
        });
        if let Some(detail) = &found.reading.detail {
            record["rr"] = json!(detail.rr);
            record["energy_kj"] = json!(detail.energy_kj);
        }
        flag_unset_clock(&mut record, found.trust);
        return record.to_string();
    }
    let unset = clock_note(found.trust);
    format!("{id:<20} {time}{unset}  {:<12} {:<12} {value}", source.name, source.kind)
}

fn alert_line(id: RecordId, found: &AlertFound, json: bool) -> String {
    if json {
        with_record_name(id, alert_record(found))
    } else {
        format!("{id:<20} {}", alert_text(found))
    }
}

fn visit_line(id: RecordId, found: &VisitFound, json: bool) -> String {
    if json {
        with_record_name(id, visit_record(found))
    } else {
        format!("{id:<20} {}", visit_text(found))
    }
}

/// Adds the record id to a record as `seq`, and returns the JSON text.
fn with_record_name(id: RecordId, mut record: serde_json::Value) -> String {
    record["seq"] = json!(id.to_string());
    record.to_string()
}

/// Returns an alert as JSON for programs.
pub(super) fn alert_record(found: &AlertFound) -> serde_json::Value {
    let mut record = json!({
        "rule": found.rule,
        "source": found.source,
        "state": alert_state(found),
        "severity": found.severity,
        "value": plain_value(&found.value),
        "time": ClockText::format_time(found.time),
    });
    if let Some(score) = found.score {
        record["score"] = json!(score);
    }
    if let Some((start, end)) = found.window {
        record["window_start"] = json!(ClockText::format_time(start));
        record["window_end"] = json!(ClockText::format_time(end));
    }
    flag_unset_clock(&mut record, found.trust);
    record
}

/// Returns an alert as text for people.
pub(super) fn alert_text(found: &AlertFound) -> String {
    let (time, unset) = (ClockText::format_time(found.time), clock_note(found.trust));
    let (severity, source, rule) = (&found.severity, &found.source, &found.rule);
    let (state, value) = (alert_state(found), plain_value(&found.value));
    format!("{time}{unset}  {state:<8} {severity:<9} {source:<12} {rule}: {value}")
}

/// Returns a visit as JSON for programs.
pub(super) fn visit_record(visit: &VisitFound) -> serde_json::Value {
    let mut record = json!({
        "source": visit.source,
        "visit": visit.id,
        "start": ClockText::format_time(visit.start),
        "end": ClockText::format_time(visit.end),
        "openings": visit.openings,
        "units": visit.units,
        "seconds": visit.duration_seconds(),
    });
    if let Some(unit) = &visit.unit {
        record["unit"] = json!(unit);
    }
    if let Some(time) = visit.told {
        record["time"] = json!(ClockText::format_time(time));
    }
    flag_unset_clock(&mut record, visit.trust);
    record
}

/// Returns a visit as text for people.
pub(super) fn visit_text(visit: &VisitFound) -> String {
    let (start, unset) = (ClockText::format_time(visit.start), clock_note(visit.trust));
    let (source, openings, units) = (&visit.source, visit.openings, visit.units);
    let (unit, seconds) = (visit.unit.as_deref().unwrap_or("units"), visit.duration_seconds());
    format!("{start}{unset}  {source:<12} {openings} openings, {units} {unit}, {seconds} s")
}

fn alert_state(found: &AlertFound) -> &'static str {
    if found.raised { "raised" } else { "cleared" }
}

fn clock_note(trust: ClockTrust) -> &'static str {
    match trust {
        ClockTrust::Trusted => "",
        ClockTrust::Unset => " (clock not set)",
    }
}

fn flag_unset_clock(record: &mut serde_json::Value, trust: ClockTrust) {
    if trust == ClockTrust::Unset {
        record["clock"] = json!("unset");
    }
}

fn plain_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => json!(number),
        Value::State(state) => json!(state),
    }
}
