//! The configuration: one TOML file, checked as a whole before anything starts.
//!
//! A file is checked in three passes: its structure against the schema of its tables, the tables
//! against each other, and the files that they name. All faults are reported at once, each with
//! line, caret and fix. A file with a fault is not used at all, and no value is guessed. A
//! [`Config`] is valid and needs no further check. The file is only read, never written.

mod checks;
mod exchange;
mod findings;
mod model;
mod nearest;
mod outputs;
mod placeholder;
mod places;
mod privacy;
mod reader;
mod sections;
mod structure;
mod tables;
#[cfg(test)]
mod tests;
mod units;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use schemars::Schema;
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::DeTable;

pub(crate) use exchange::plan;
pub(crate) use findings::{Faults, Report, Warning};
pub(crate) use model::*;

use findings::{Finding, Findings};
use places::Places;
use reader::TableReader;
use tables::Tables;

/// The path of the configuration, unless the command line gives another.
pub(crate) const DEFAULT_PATH: &str = "/etc/pulsegate/pulsegate.toml";
/// The largest file that is read, in bytes: ten times the size of a file with a thousand sources
/// and a rule for each.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration, and the findings in its file.
struct Outcome {
    config: Option<Config>,
    report: Report,
}

/// The treatment of the files that a configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Checked,
    Ignored,
}

/// Reads a configuration, and checks the certificate and key that the configuration names.
///
/// # Errors
/// Returns every fault of the file.
pub(crate) fn load(path: &Path) -> Result<(Config, Vec<Warning>), Faults> {
    usable(read(path))
}

/// Reads a configuration as far as possible, for commands that only look for a running agent or its
/// store: a fault elsewhere in the file, or a key that the user may not read, does not matter to
/// them.
///
/// # Errors
/// Returns every fault of a file without any usable content.
pub(crate) fn peek(path: &Path) -> Result<Config, Faults> {
    let outcome = read(path);
    outcome.config.ok_or(Faults(outcome.report))
}

/// Returns all findings in a configuration, and the warnings of `look_at` about the device, such as
/// about the state directory.
#[must_use]
pub(crate) fn examine(path: &Path, look_at: impl FnOnce(&Config) -> Vec<String>) -> Report {
    let Outcome { config, mut report } = read(path);
    if let Some(config) = config {
        report.warn(look_at(&config));
    }
    report
}

/// Parses a duration in the form of the configuration.
///
/// # Errors
/// Returns a description of a valid duration.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let quantity = units::Quantity::Duration;
    quantity.parse(text).map(Duration::from_millis).ok_or(quantity.example())
}

/// Returns the JSON Schema of a configuration.
#[must_use]
pub(crate) fn schema() -> Schema {
    tables::build_schema()
}

#[cfg(test)]
impl Config {
    /// Reads a configuration from `text` as if from a file at `path`. The files that `text` names
    /// are not checked.
    ///
    /// # Errors
    /// Returns every fault of the text.
    pub(crate) fn from_str_at(text: &str, path: &Path) -> Result<(Self, Vec<Warning>), Faults> {
        usable(parse(path, text.to_owned(), Named::Ignored))
    }
}

fn usable(outcome: Outcome) -> Result<(Config, Vec<Warning>), Faults> {
    let warnings = outcome.report.warnings();
    match outcome.config.filter(|_| outcome.report.faults() == 0) {
        Some(config) => Ok((config, warnings)),
        None => Err(Faults(outcome.report)),
    }
}

fn read(path: &Path) -> Outcome {
    match text(path) {
        Ok(text) => parse(path, text, Named::Checked),
        Err(outcome) => *outcome,
    }
}

/// Returns the text of a file, or an outcome with the reason for its absence.
fn text(path: &Path) -> Result<String, Box<Outcome>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path);
    let unusable = |text, finding| Err(Box::new(unusable(path, text, finding)));
    match file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
        Err(error) => {
            unusable(String::new(), Finding::of_the_file(format!("cannot read: {error}")))
        }
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) => {
            unusable(String::new(), Finding::of_the_file("larger than 1 MiB"))
        }
        Ok(_) => String::from_utf8(bytes).or_else(|error| {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            unusable(text, Finding::fault(valid..valid + 1, "not UTF-8"))
        }),
    }
}

fn unusable(path: &Path, text: String, finding: Finding) -> Outcome {
    let mut findings = Findings::default();
    findings.report(finding);
    Outcome { config: None, report: Report::new(path, text, findings) }
}

fn parse(path: &Path, text: String, named: Named) -> Outcome {
    let mut findings = Findings::default();
    let config = tables(&text, &mut findings).map(|mut tables| {
        if named == Named::Checked {
            let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
            let credentials = credentials.as_deref().map(Path::new);
            tables.identity.find_key(credentials);
            findings.push_all(tables.identity.check_files(credentials));
        }
        checks::build_config(tables, &mut findings)
    });
    Outcome { config, report: Report::new(path, text, findings) }
}

/// Reads the tables, with stand-ins for broken values; `None` if the text is not TOML.
fn tables(text: &str, findings: &mut Findings) -> Option<Tables> {
    let file = toml(text, findings)?;
    mended(file, findings)
}

fn toml<'a>(text: &'a str, findings: &mut Findings) -> Option<Spanned<DeTable<'a>>> {
    let (file, errors) = DeTable::parse_recoverable(text);
    errors.iter().for_each(|error| findings.report(not_read(error)));
    errors.is_empty().then_some(file)
}

fn mended(mut file: Spanned<DeTable<'_>>, findings: &mut Findings) -> Option<Tables> {
    if !privacy::is_kept(file.get_ref(), findings) {
        return None;
    }
    structure::mend(&mut file, &tables::build_schema(), findings);
    findings.places = Places::of(&file);
    Tables::deserialize(TableReader::of(file.into_inner()))
        .inspect_err(|error| findings.report(Finding::of_the_file(error.to_string())))
        .ok()
}

fn not_read(error: &toml::de::Error) -> Finding {
    match error.span() {
        Some(span) => Finding::fault(span, error.message()),
        None => Finding::of_the_file(error.message()),
    }
}
