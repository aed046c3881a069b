//! Builds topics, fields, batches and filters of published records, and checks them.

mod additions;
mod filters;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use pulsegate_core::cloud::filter::FilterSpec;
use pulsegate_core::cloud::record_text::{Field, Framing, ReadingFormat};
use pulsegate_core::cloud::topic::{self, Open, Template};
use pulsegate_core::record::event::EVENT_KEYS;

use pulsegate_sensors::{MAX_NAME_BYTES, is_kind};

use super::known::Known;
use super::names;
use crate::config::findings::{Finding, Findings};
use crate::config::model::{Limits, Publish, PublishConfig};
use crate::config::nearest::suggest;
use crate::config::places::Place;
use crate::config::sections::{Link, beyond_aws};
use crate::config::tables::{Members, PublishTable, PublishTables};
use crate::config::units::Size;

/// The unit in which AWS IoT Core bills messages: 5 KiB.
const BILLED_BYTES: u64 = 5 << 10;
/// The greatest multiple of [`BILLED_BYTES`] below 128 KiB, the limit of a message.
const MAX_AWS_BATCH: Size = Size(125 << 10);
/// The default size of a batch: four billed units, a second of some two hundred readings.
const BATCH_BYTES: u64 = 4 * BILLED_BYTES;
/// The default time that a reading waits for further readings.
const READINGS_DELAY: Duration = Duration::from_secs(5);
/// The longest key, in bytes, since a key is part of every record.
const MAX_KEY_BYTES: usize = 64;
/// The placeholders of a template of readings.
const OPEN: Open = Open { source: true, kind: true };
/// A name as long as the longest id or kind of another program.
const FOREIGN: [u8; MAX_NAME_BYTES] = [b'x'; MAX_NAME_BYTES];

/// The keys of a standard record of a reading.
const READING_KEYS: &[&str] = &[
    "seq",
    "source",
    "kind",
    "time",
    "bpm",
    "value",
    "state",
    "unit",
    "contact",
    "energy_kj",
    "rr_ms",
    "clock",
];
const ALERT_KEYS: &[&str] = &[
    "seq",
    "rule",
    "source",
    "state",
    "severity",
    "value",
    "score",
    "window_start",
    "window_end",
    "time",
    "clock",
];

const _: () =
    assert!(BATCH_BYTES <= MAX_AWS_BATCH.0 && MAX_AWS_BATCH.0.is_multiple_of(BILLED_BYTES));

pub(super) fn build_publish(
    tables: PublishTables,
    thing: &str,
    link: &Link,
    known: &Known,
    findings: &mut Findings,
) -> Publish {
    let mut tables = tables.0;
    for (index, (_, table)) in tables.iter_mut().enumerate() {
        table.path = format!("publish[{index}]");
    }
    let mut take = |name: &str| {
        let index = tables.iter().position(|(given, _)| given == name);
        index.map(|index| tables.remove(index).1).unwrap_or_default()
    };
    let (readings, alerts, events) = (take("readings"), take("alerts"), take("events"));
    topics::check_rate(&readings, &tables, link, known, findings);
    let mut section = Section { thing, limits: link.limits, known, findings };

    let any = section.longest(None);
    let readings = section.build(readings, &any, &usual(topic::READINGS, thing, READINGS_DELAY));
    let kinds = tables.into_iter().map(|(kind, table)| {
        section.check_kind(&kind, &table.path);
        let longest = section.longest(Some(&kind));
        let config = section.build(table, &longest, &readings);
        (kind.into(), config)
    });
    let kinds: BTreeMap<Box<str>, PublishConfig> = kinds.collect();
    let alerts_usual = usual(topic::ALERTS, thing, Duration::ZERO);
    let events_usual = usual(topic::EVENTS, thing, Duration::ZERO);
    let (source, _) = &any;
    Publish {
        readings,
        kinds,
        alerts: section.without_fields(alerts, &alerts_usual, Some(source), ALERT_KEYS),
        events: section.without_fields(events, &events_usual, None, EVENT_KEYS),
    }
}

fn usual(topic: &str, thing: &str, delay: Duration) -> PublishConfig {
    let topic = Template::for_thing(topic, thing, OPEN).expect("a template of this program");
    PublishConfig {
        format: ReadingFormat { topic, fields: None, framing: Framing::Array, add: "".into() },
        limit_bytes: usize::try_from(BATCH_BYTES).unwrap_or(usize::MAX),
        delay,
        filter: FilterSpec::default(),
    }
}

/// The longest names for the placeholders of a template; `None` for a placeholder without a value
/// in some records.
struct Longest<'a> {
    source: Option<&'a str>,
    kind: Option<&'a str>,
}

struct Section<'a> {
    thing: &'a str,
    limits: Limits,
    known: &'a Known,
    findings: &'a mut Findings,
}

impl Section<'_> {
    /// Returns the longest id and the longest kind of the sources of `kind`.
    fn longest(&self, kind: Option<&str>) -> (String, String) {
        let foreign = || String::from_utf8_lossy(&FOREIGN).into_owned();
        let covered = self.known.covered(kind, None);
        let ids = covered.iter().map(|source| source.id.clone());
        let kinds =
            covered.iter().filter_map(|source| Some(source.readings.as_ref()?.kind.clone()));
        let source = ids.chain(self.known.is_open().then(foreign)).max_by_key(String::len);
        let any = kinds.chain(self.known.has_foreign_kinds().then(foreign)).max_by_key(String::len);
        (source.unwrap_or_default(), kind.map(str::to_owned).or(any).unwrap_or_default())
    }

    fn check_kind(&mut self, kind: &str, path: &str) {
        if self.known.has_kind(kind) {
            return;
        }
        let place = Place::Key(path.to_owned());
        if !self.known.has_foreign_kinds() {
            let message = format!("no source gives readings of kind `{kind}`");
            let names = [self.known.kinds(), vec!["readings", "alerts", "events"]].concat();
            self.findings.push(suggest(Finding::fault(place, message), kind, &names, "sections"));
        } else if !is_kind(kind) {
            self.findings.push(names::malformed_kind(kind, place));
        }
    }

    fn build(
        &mut self,
        table: PublishTable,
        (source, kind): &(String, String),
        usual: &PublishConfig,
    ) -> PublishConfig {
        let longest = Longest { source: Some(source), kind: Some(kind) };
        self.check_columns(&table, usual);
        let fields = table.fields.as_ref().map(|fields| self.fields(fields, &table.path));
        let fields = fields.or_else(|| usual.format.fields.clone());
        let taken = |key: &str| match &fields {
            Some(fields) => key == "clock" || fields.iter().any(|(own, _)| **own == *key),
            None => READING_KEYS.contains(&key),
        };
        let add = self.build_additions(&table, taken);
        let filter = filters::build_filter(&table, kind, usual, self.known, self.findings);
        let add = add.unwrap_or_else(|| usual.format.add.clone());
        let own = PublishConfig { filter, ..usual.clone() };
        self.section(table, &longest, fields, add, own)
    }

    fn without_fields(
        &mut self,
        table: PublishTable,
        usual: &PublishConfig,
        source: Option<&str>,
        keys: &[&str],
    ) -> PublishConfig {
        if table.fields.is_some() {
            let message = "only readings have fields that can be chosen";
            self.findings.push(Finding::fault(format!("{}.fields", table.path), message));
        }
        if table.format == Some(Framing::Columns) {
            let place = format!("{}.format", table.path);
            let fault = Finding::fault(place, "only readings can be in columns");
            self.findings.push(fault.label("`array` or `lines`"));
        }
        filters::none(&table, self.findings);
        let taken = |key: &str| keys.contains(&key);
        let add = self.build_additions(&table, taken);
        let longest = Longest { source, kind: None };
        self.section(table, &longest, None, add.unwrap_or_default(), usual.clone())
    }

    /// Builds the fixed members of every record, if the table has any.
    fn build_additions(
        &mut self,
        table: &PublishTable,
        is_taken: impl Fn(&str) -> bool,
    ) -> Option<Box<str>> {
        let path = format!("{}.add", table.path);
        let add = table.add.as_ref()?;
        Some(additions::build_additions(add, &path, is_taken, self.findings))
    }

    /// Completes a section; keys missing in the table have the values of `usual`.
    fn section(
        &mut self,
        table: PublishTable,
        longest: &Longest<'_>,
        fields: Option<Vec<(Box<str>, Field)>>,
        add: Box<str>,
        usual: PublishConfig,
    ) -> PublishConfig {
        self.check_batch(&table);
        let bytes = table.batch.bytes.map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX));
        let format = ReadingFormat {
            topic: self.topic(&table, longest).unwrap_or(usual.format.topic),
            fields,
            framing: table.format.unwrap_or(usual.format.framing),
            add,
        };
        PublishConfig {
            format,
            limit_bytes: bytes.unwrap_or(usual.limit_bytes),
            delay: table.batch.delay.map_or(usual.delay, |delay| delay.0),
            filter: usual.filter,
        }
    }

    fn topic(&mut self, table: &PublishTable, longest: &Longest<'_>) -> Option<Template> {
        let topic = table.topic.as_ref()?;
        let open = Open { source: longest.source.is_some(), kind: longest.kind.is_some() };
        let limits = match self.limits {
            Limits::Aws => topic::Limits::Aws,
            Limits::None => topic::Limits::Mqtt,
        };
        let checked = Template::for_thing(topic, self.thing, open).and_then(|template| {
            let (source, kind) = (longest.source.unwrap_or(""), longest.kind.unwrap_or(""));
            topic::check_topic(&template.fill_in(source, kind), limits)
        });
        if let Err(fault) = checked {
            let fix = fault.suggest_fix();
            let place = format!("{}.topic", table.path);
            self.findings.push(Finding::fault(place, fault.to_string()).label(fix));
        }
        Template::for_thing(topic, self.thing, OPEN).ok()
    }

    fn fields(&mut self, fields: &Members<Field>, path: &str) -> Vec<(Box<str>, Field)> {
        let (fields, path) = (&fields.0, format!("{path}.fields"));
        if fields.is_empty() {
            self.findings.push(Finding::fault(&*path, "a record needs at least one field"));
        } else if !fields.iter().any(|(_, field)| *field == Field::Seq) {
            let message = "without `seq` the cloud cannot remove duplicates";
            let warning = Finding::warning(&*path, message);
            self.findings.push(warning.help("add a key for it, such as `seq = \"seq\"`"));
        }
        for (at, (key, _)) in fields.iter().enumerate() {
            check_key(key, Place::Key(format!("{path}[{at}]")), self.findings);
        }
        fields.iter().map(|(key, field)| (key.as_str().into(), *field)).collect()
    }

    /// Checks that readings in columns have the fields of the standard record.
    fn check_columns(&mut self, table: &PublishTable, usual: &PublishConfig) {
        if table.format.unwrap_or(usual.format.framing) != Framing::Columns {
            return;
        }
        let place = |key: &str| format!("{}.{key}", table.path);
        let message = "readings in columns have the fields of the standard record";
        if table.fields.is_some() {
            let fault = Finding::fault(place("fields"), message);
            self.findings.push(fault.label("leave out `fields`, or set `format = \"array\"`"));
        } else if table.format.is_some() && usual.format.fields.is_some() {
            let fault = Finding::fault(place("format"), message);
            let help = "move `fields` of `publish.readings` to the kinds that need other fields";
            self.findings.push(fault.label("`publish.readings` has other `fields`").help(help));
        }
    }

    fn check_batch(&mut self, table: &PublishTable) {
        if let (Limits::Aws, Some(bytes)) = (self.limits, table.batch.bytes) {
            let place = format!("{}.batch.bytes", table.path);
            if !bytes.0.is_multiple_of(BILLED_BYTES) {
                let message = format!("`bytes` must be a multiple of 5KiB, not {bytes}");
                let fault = Finding::fault(place, message);
                self.findings.push(fault.label("AWS bills each message by 5 KiB"));
            } else if bytes > MAX_AWS_BATCH {
                let wanted = format!("at most {MAX_AWS_BATCH}");
                self.findings.push(beyond_aws(place, bytes, "bytes", &wanted));
            }
        }
    }
}

fn check_key(key: &str, place: Place, findings: &mut Findings) {
    let fits = (1..=MAX_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        let fault = Finding::fault(place, format!("`{key}` cannot be a key of a record"));
        findings.push(fault.label("1 to 64 of `a-z 0-9 _`"));
    }
}
