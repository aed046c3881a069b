//! Readings as lines of an export, written straight from the stored values.

use std::collections::HashMap;
use std::io;

use pulsegate_core::cloud::record_text::{
    ClockText, Framing, ReadingFormat, ReadingLayout, RecordStamp, contact_word, write_intervals,
    write_number,
};
use pulsegate_core::cloud::topic::{Open, Template};
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::Value;
use pulsegate_core::time::timeline::ClockTrust;
use pulsegate_sensors::{Source, SourceId};

use super::csv::{CsvColumn, write_field};
use crate::db::ReadingFound;

/// The columns of readings, in the order of [`ReadingLines::write_row`].
pub(super) const COLUMNS: &[CsvColumn] = &[
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
];

/// Writes readings as CSV, or as standard records with the intervals between beats. Prepares the
/// constant text of each source once.
pub(super) struct ReadingLines<'a> {
    units: &'a [(Box<str>, Box<str>)],
    rows: HashMap<SourceId, ConstantFields>,
    objects: HashMap<SourceId, ReadingLayout>,
    clock: ClockText,
}

/// The constant fields of the readings of one source, with the commas around them.
struct ConstantFields {
    source_and_kind: Vec<u8>,
    unit: Vec<u8>,
}

impl<'a> ReadingLines<'a> {
    /// `units` lists sources and their units.
    pub(super) fn new(units: &'a [(Box<str>, Box<str>)]) -> Self {
        let (rows, objects) = (HashMap::new(), HashMap::new());
        Self { units, rows, objects, clock: ClockText::default() }
    }

    /// Appends a reading as a row of CSV.
    pub(super) fn write_row(
        &mut self,
        id: RecordId,
        found: &ReadingFound,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let units = self.units;
        let fields = match self.rows.entry(found.reading.source) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(ConstantFields::new(&found.source, find_unit(units, &found.source))?)
            }
        };
        id.write_to(out);
        out.extend_from_slice(&fields.source_and_kind);
        self.clock.write_time(found.time, out);
        out.push(b',');
        match &found.reading.value {
            Value::Number(number) => write_number(*number, out),
            Value::State(state) => write_field(state, out)?,
        }
        out.extend_from_slice(&fields.unit);
        let detail = found.reading.detail.as_deref();
        out.extend_from_slice(contact_word(detail).unwrap_or_default().as_bytes());
        out.push(b',');
        if let Some(energy) = detail.and_then(|detail| detail.energy_kj) {
            write_number(energy.into(), out);
        }
        out.push(b',');
        if let Some(detail) = detail {
            write_intervals(&detail.rr, out);
        }
        out.extend_from_slice(match found.trust {
            ClockTrust::Trusted => b",\r\n",
            ClockTrust::Unset => b",unset\r\n",
        });
        Ok(())
    }

    /// Appends a reading as a line of JSON.
    pub(super) fn write_object(&mut self, id: RecordId, found: &ReadingFound, out: &mut Vec<u8>) {
        let units = self.units;
        let layout = self.objects.entry(found.reading.source).or_insert_with(|| {
            let open = Open { source: false, kind: false };
            let format = ReadingFormat {
                topic: Template::for_thing("", "", open).expect("a text without placeholders"),
                fields: None,
                framing: Framing::Lines,
                add: "".into(),
            };
            ReadingLayout::new(&format, &found.source, find_unit(units, &found.source), true)
        });
        let stamp = RecordStamp { id, time: found.time, trust: found.trust };
        layout.write_record(&found.reading, &stamp, &mut self.clock, out);
        out.push(b'\n');
    }
}

impl ConstantFields {
    fn new(source: &Source, unit: Option<&str>) -> io::Result<Self> {
        let (mut source_and_kind, mut written_unit) = (vec![b','], vec![b',']);
        write_field(&source.name, &mut source_and_kind)?;
        source_and_kind.push(b',');
        write_field(&source.kind, &mut source_and_kind)?;
        source_and_kind.push(b',');
        write_field(unit.unwrap_or_default(), &mut written_unit)?;
        written_unit.push(b',');
        Ok(Self { source_and_kind, unit: written_unit })
    }
}

fn find_unit<'a>(units: &'a [(Box<str>, Box<str>)], source: &Source) -> Option<&'a str> {
    units.iter().find(|(name, _)| *name == source.name).map(|(_, unit)| &**unit)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use pulsegate_core::record::id::Boot;
    use pulsegate_core::record::reading::{HeartDetail, Reading, Seq};
    use pulsegate_core::time::{Mono, Wall};
    use pulsegate_sensors::Contact;

    use super::super::csv::write_row;
    use super::*;

    fn any_found() -> impl Strategy<Value = ReadingFound> {
        let decimal = (-3_000_000..3_000_000_i32, 0..6_i32);
        let value = prop_oneof![
            3 => decimal.prop_map(|(n, places)| Value::Number(f64::from(n) / 10_f64.powi(places))),
            1 => any::<i32>().prop_map(|n| Value::Number(f64::from(n) * 1_048_576.0)),
            2 => any::<f64>().prop_map(Value::Number),
            2 => "\\PC{0,12}".prop_map(|state| Value::State(state.into())),
            1 => proptest::sample::select(vec!["=1+1", "a,b", " x", "\"", "\r\n", "-3"])
                .prop_map(|state| Value::State(state.into())),
        ];
        let contact =
            prop_oneof![Just(Contact::Unsupported), Just(Contact::Lost), Just(Contact::Detected)];
        let rr = proptest::collection::vec(any::<u16>(), 0..3);
        let detail = (contact, proptest::option::of(any::<u16>()), rr)
            .prop_map(|(contact, energy_kj, rr)| Box::new(HeartDetail { contact, energy_kj, rr }));
        let source = proptest::sample::select(vec![
            (0, "7", "heart_rate"),
            (1, "-air", "temperature"),
            (2, "feeder", "lid"),
        ]);
        let ms = 0..4_000_000_000_000_i64;
        (source, value, proptest::option::of(detail), ms, any::<bool>()).prop_map(
            |((id, name, kind), value, detail, ms, is_trusted)| ReadingFound {
                source: Arc::new(Source { name: name.into(), kind: kind.into() }),
                reading: Reading { source: SourceId(id), mono: Mono(0), time: None, value, detail },
                time: Wall(ms),
                trust: if is_trusted { ClockTrust::Trusted } else { ClockTrust::Unset },
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_row_has_the_fields_of_the_standard_record(
            all in proptest::collection::vec(any_found(), 1..20),
        ) {
            let units = [("-air".into(), "\"C\", =".into())];
            let mut lines = ReadingLines::new(&units);
            for (seq, found) in (1..).zip(&all) {
                let id = RecordId { boot: Boot::new(1, 2), seq: Seq(seq) };
                let (mut row, mut object, mut expected) = (Vec::new(), Vec::new(), Vec::new());
                lines.write_row(id, found, &mut row).unwrap();
                lines.write_object(id, found, &mut object);
                let record = serde_json::from_slice(&object).unwrap();
                write_row(COLUMNS, &record, &mut expected).unwrap();
                prop_assert_eq!(String::from_utf8(row).unwrap(), String::from_utf8(expected).unwrap());
            }
        }
    }
}
