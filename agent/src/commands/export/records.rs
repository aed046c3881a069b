//! Records of the store in their published form, a page at a time.

use std::collections::HashMap;
use std::sync::Arc;

use pulsegate_core::cloud::record_text::{
    ClockText, Framing, ReadingFormat, ReadingLayout, RecordStamp,
};
use pulsegate_core::cloud::topic::{Open, Template};
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Wall;
use pulsegate_sensors::Source;
use serde_json::json;

use super::What;
use super::csv::CsvColumn;
use crate::commands::listing::{alert_record, visit_record, with_record_name};
use crate::db::{Choice, NamedRecords, Reader, ReadingFound};
use crate::store::Formats;

/// Records of a page. Bounds memory; a page takes little more time than its records.
const PAGE: u32 = 4_096;

/// Returns the columns for each kind of record.
pub(super) fn record_columns(what: What) -> &'static [CsvColumn] {
    match what {
        What::Readings => &[
            ("seq", &["seq"]),
            ("source", &["source"]),
            ("kind", &["kind"]),
            ("time", &["time"]),
            ("value", &["value", "bpm", "state"]),
            ("unit", &["unit"]),
            ("contact", &["contact"]),
            ("energy_kj", &["energy_kj"]),
            ("rr_ms", &["rr_ms"]),
            ("clock", &["clock"]),
        ],
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

/// A record as JSON text, with the time and the source by which records are chosen.
pub(super) struct ExportedRecord {
    pub(super) time: Wall,
    pub(super) source: String,
    pub(super) json: String,
}

/// Reads the records of the store page by page.
pub(super) struct Records<'a> {
    reader: &'a Reader,
    what: What,
    formats: &'a Formats,
    layouts: HashMap<Arc<Source>, ReadingLayout>,
    clock: ClockText,
    page: Vec<ExportedRecord>,
}

impl<'a> Records<'a> {
    pub(super) fn new(reader: &'a Reader, what: What, formats: &'a Formats) -> Self {
        let (layouts, clock) = (HashMap::new(), ClockText::default());
        Self { reader, what, formats, layouts, clock, page: Vec::new() }
    }

    /// Reads the records behind the place `after`. Returns the place of the last record; `None` at
    /// the end.
    pub(super) fn read_page(&mut self, after: Seq) -> anyhow::Result<Option<Seq>> {
        Ok(match self.what {
            What::Readings => {
                let found = self.reader.last_readings(Choice::Behind(after, PAGE))?;
                self.fill_page(found, |records, id, found| {
                    let json = records.format_reading(id, &found);
                    ExportedRecord { time: found.time, source: found.source.name.to_string(), json }
                })
            }
            What::Alerts => {
                let found = self.reader.last_alerts(Choice::Behind(after, PAGE))?;
                self.fill_page(found, |_, id, found| {
                    let json = with_record_name(id, alert_record(&found));
                    ExportedRecord { time: found.time, source: found.source, json }
                })
            }
            What::Visits => {
                let found = self.reader.last_visits(Choice::Behind(after, PAGE))?;
                self.fill_page(found, |records, id, found| {
                    let mut record = visit_record(&found);
                    record["event"] = json!("visit");
                    if let Some(text) = found.report_text(&records.formats.visits) {
                        record["text"] = json!(text);
                    }
                    ExportedRecord {
                        time: found.end,
                        source: found.source,
                        json: with_record_name(id, record),
                    }
                })
            }
        })
    }

    /// Removes and returns the records of the page.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = ExportedRecord> {
        self.page.drain(..)
    }

    fn fill_page<T>(
        &mut self,
        found: NamedRecords<T>,
        write: impl Fn(&mut Self, RecordId, T) -> ExportedRecord,
    ) -> Option<Seq> {
        let last = found.last().map(|(id, _)| id.seq);
        for (id, found) in found {
            let written = write(self, id, found);
            self.page.push(written);
        }
        last
    }

    /// Formats a reading in the default published form, with the intervals between beats.
    fn format_reading(&mut self, id: RecordId, found: &ReadingFound) -> String {
        let units = &self.formats.units;
        let source = Arc::clone(&found.source);
        let layout = self.layouts.entry(source).or_insert_with_key(|source| {
            let unit = units.iter().find(|(name, _)| *name == source.name);
            let open = Open { source: false, kind: false };
            let format = ReadingFormat {
                topic: Template::for_thing("", "", open).expect("a text without placeholders"),
                fields: None,
                framing: Framing::Lines,
                add: "".into(),
            };
            ReadingLayout::new(&format, source, unit.map(|(_, unit)| &**unit), true)
        });
        let stamp = RecordStamp { id, time: found.time, trust: found.trust };
        let mut out = Vec::new();
        layout.write_record(&found.reading, &stamp, &mut self.clock, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
