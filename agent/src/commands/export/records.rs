//! Records of the store as lines of an export, a page at a time.

use std::io;

use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Wall;
use serde_json::{Value, json};

use super::csv::{self, CsvColumn};
use super::readings::ReadingLines;
use super::{ExportFormat, What};
use crate::commands::listing::{alert_record, visit_record};
use crate::db::{Choice, NamedRecords, Reader};
use crate::store::Formats;

/// Records of a page. Bounds memory; a page takes little more time than its records.
const PAGE: u32 = 4_096;

/// Returns the columns for each kind of record.
pub(super) fn record_columns(what: What) -> &'static [CsvColumn] {
    match what {
        What::Readings => super::readings::COLUMNS,
        What::Alerts => &[
            ("seq", &["seq"]),
            ("rule", &["rule"]),
            ("source", &["source"]),
            ("state", &["state"]),
            ("severity", &["severity"]),
            ("value", &["value"]),
            ("score", &["score"]),
            ("window_start", &["window_start"]),
            ("window_end", &["window_end"]),
            ("time", &["time"]),
            ("clock", &["clock"]),
        ],
        What::Visits => &[
            ("seq", &["seq"]),
            ("source", &["source"]),
            ("start", &["start"]),
            ("end", &["end"]),
            ("openings", &["openings"]),
            ("units", &["units"]),
            ("unit", &["unit"]),
            ("seconds", &["seconds"]),
            ("text", &["text"]),
            ("time", &["time"]),
            ("clock", &["clock"]),
            ("visit", &["visit"]),
        ],
    }
}

/// Reads the records of the store page by page.
pub(super) struct Records<'a> {
    reader: &'a Reader,
    what: What,
    format: ExportFormat,
    formats: &'a Formats,
    readings: ReadingLines<'a>,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        what: What,
        format: ExportFormat,
        formats: &'a Formats,
    ) -> Self {
        Self { reader, what, format, formats, readings: ReadingLines::new(&formats.units) }
    }

    /// Appends the records behind the place `after` to `out`, except those that `is_wanted`, given
    /// their time and source, refuses. Returns the place of the last record; `None` at the end.
    pub(super) fn write_page(
        &mut self,
        after: Seq,
        is_wanted: impl Fn(Wall, &str) -> bool,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Seq>> {
        let choice = Choice::Behind(after, PAGE);
        Ok(match self.what {
            What::Readings => {
                let found = self.reader.last_readings(choice)?;
                let last = last_place(&found);
                let wanted =
                    found.iter().filter(|(_, found)| is_wanted(found.time, &found.source.name));
                for (id, found) in wanted {
                    match self.format {
                        ExportFormat::Csv => self.readings.write_row(*id, found, out)?,
                        ExportFormat::Jsonl => self.readings.write_object(*id, found, out),
                    }
                }
                last
            }
            What::Alerts => {
                let found = self.reader.last_alerts(choice)?;
                let wanted = found.iter().filter(|(_, found)| is_wanted(found.time, &found.source));
                for (id, found) in wanted {
                    self.write_record(*id, alert_record(found), out)?;
                }
                last_place(&found)
            }
            What::Visits => {
                let found = self.reader.last_visits(choice)?;
                let wanted = found.iter().filter(|(_, found)| is_wanted(found.end, &found.source));
                for (id, found) in wanted {
                    let mut record = visit_record(found);
                    record["event"] = json!("visit");
                    if let Some(text) = found.report_text(&self.formats.visits) {
                        record["text"] = json!(text);
                    }
                    self.write_record(*id, record, out)?;
                }
                last_place(&found)
            }
        })
    }

    fn write_record(&self, id: RecordId, mut record: Value, out: &mut Vec<u8>) -> io::Result<()> {
        record["seq"] = json!(id.to_string());
        match self.format {
            ExportFormat::Csv => csv::write_row(record_columns(self.what), &record, out),
            ExportFormat::Jsonl => {
                serde_json::to_writer(&mut *out, &record)?;
                out.push(b'\n');
                Ok(())
            }
        }
    }
}

fn last_place<T>(found: &NamedRecords<T>) -> Option<Seq> {
    found.last().map(|(id, _)| id.seq)
}
