//! `pulsegate readings`, `alerts` and `visits`: what the store holds, beside a running agent or
//! without one.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use pulsegate_core::reading::Value;
use pulsegate_core::record::ClockText;
use pulsegate_core::timeline::Trust;
use serde_json::json;

use super::{fail, peek, print};
use crate::cli::Config;
use crate::store::{AlertFound, FILE, Reader, ReadingFound, VisitFound};

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    config: Config,
    /// How many, from the end
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    last: u32,
    /// Of this source only
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

/// Lists readings.
pub(crate) fn readings(listing: &Listing) -> ExitCode {
    list(listing, |reader| {
        let found = reader.readings(listing.source.as_deref(), listing.last)?;
        Ok(found.iter().map(|found| reading_line(found, listing.json)).collect())
    })
}

/// Lists alerts.
pub(crate) fn alerts(listing: &Listing) -> ExitCode {
    list(listing, |reader| {
        let found = reader.alerts(listing.source.as_deref(), listing.last)?;
        Ok(found.iter().map(|found| alert_line(found, listing.json)).collect())
    })
}

/// Lists visits.
pub(crate) fn visits(listing: &Listing) -> ExitCode {
    list(listing, |reader| {
        let found = reader.visits(listing.source.as_deref(), listing.last)?;
        Ok(found.iter().map(|(id, visit)| visit_line(id, visit, listing.json)).collect())
    })
}

fn list(listing: &Listing, find: impl FnOnce(&Reader) -> anyhow::Result<Vec<String>>) -> ExitCode {
    let config = match peek(&listing.config.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let path = config.state_dir.join(FILE);
    let found = Reader::open(&path)
        .map_err(anyhow::Error::from)
        .and_then(|reader| find(&reader))
        .with_context(|| format!("cannot read the store `{}`", path.display()));
    match found {
        Ok(lines) if lines.is_empty() => ExitCode::SUCCESS,
        Ok(lines) => print(&lines.join("\n")),
        Err(error) => fail(&error),
    }
}

fn reading_line(found: &ReadingFound, json: bool) -> String {
    let time = ClockText::format(found.time);
    let unset = found.trust == Trust::Unset;
    if json {
        let mut record = json!({
            "seq": found.id,
            "source": found.source,
            "kind": found.kind,
            "time": time,
            "value": plain(&found.value),
        });
        if let Some(detail) = &found.detail {
            record["rr"] = json!(detail.rr);
            record["energy_kj"] = json!(detail.energy_kj);
        }
        flag(&mut record, unset);
        return record.to_string();
    }
    let unset = if unset { " (clock not set)" } else { "" };
    let (source, kind) = (&found.source, &found.kind);
    format!("{:<12} {time}{unset}  {source:<12} {kind:<12} {}", found.id, plain(&found.value))
}

fn alert_line(found: &AlertFound, json: bool) -> String {
    let time = ClockText::format(found.time);
    let state = if found.raised { "raised" } else { "cleared" };
    let unset = found.trust == Trust::Unset;
    if json {
        let mut record = json!({
            "seq": found.id,
            "rule": found.rule,
            "source": found.source,
            "state": state,
            "severity": found.severity,
            "value": plain(&found.value),
            "time": time,
        });
        if let Some(score) = found.score {
            record["score"] = json!(score);
        }
        if let Some((start, end)) = found.window {
            record["window_start"] = json!(ClockText::format(start));
            record["window_end"] = json!(ClockText::format(end));
        }
        flag(&mut record, unset);
        return record.to_string();
    }
    let unset = if unset { " (clock not set)" } else { "" };
    let (severity, source, rule) = (&found.severity, &found.source, &found.rule);
    let value = plain(&found.value);
    format!("{:<12} {time}{unset}  {state:<8} {severity:<9} {source:<12} {rule}: {value}", found.id)
}

fn visit_line(id: &str, visit: &VisitFound, json: bool) -> String {
    let (start, end) = (ClockText::format(visit.start), ClockText::format(visit.end));
    let unset = visit.trust == Trust::Unset;
    let (source, openings, units) = (&visit.source, visit.openings, visit.units);
    let unit = visit.unit.as_deref().unwrap_or("units");
    if json {
        let mut record = json!({
            "seq": id,
            "source": source,
            "start": start,
            "end": end,
            "openings": openings,
            "units": units,
            "seconds": visit.seconds(),
        });
        if let Some(unit) = &visit.unit {
            record["unit"] = json!(unit);
        }
        flag(&mut record, unset);
        return record.to_string();
    }
    let unset = if unset { " (clock not set)" } else { "" };
    let seconds = visit.seconds();
    format!(
        "{id:<12} {start}{unset}  {source:<12} {openings} openings, {units} {unit}, {seconds} s"
    )
}

fn flag(record: &mut serde_json::Value, unset: bool) {
    if unset {
        record["clock"] = json!("unset");
    }
}

fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => json!(number),
        Value::State(state) => json!(state),
    }
}
