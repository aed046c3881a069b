//! The configuration: one TOML file, checked as a whole before anything starts.
//!
//! A file is checked in three passes: its structure against the schema of its tables, what the
//! tables say together, and the files that it names. Every fault is reported at once, with line,
//! caret and the fix; a file with a fault is not used at all, and nothing is guessed. Whoever holds a
//! [`Config`] need not check it again. The file is only read, never written.

mod checks;
mod exchange;
mod findings;
mod model;
mod nearest;
mod outputs;
mod place;
mod placeholder;
mod places;
mod privacy;
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
use tables::Tables;

/// Where the configuration is unless the command line says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/pulsegate/pulsegate.toml";
/// Bounds what is read of a file: a thousand sources with a rule each have a tenth of it.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration, and all that was found in its file.
struct Outcome {
    config: Option<Config>,
    report: Report,
}

/// Whether the files that a configuration names are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Checked,
    Ignored,
}

/// Reads a configuration, with the certificate and key that it names.
///
/// # Errors
/// Every fault of the file, if it has any.
pub(crate) fn load(path: &Path) -> Result<(Config, Vec<Warning>), Faults> {
    usable(read(path))
}

/// Reads what can be read of a configuration: for those who only look for a running agent, or for
/// what it stored. A fault elsewhere in the file, or a key that they may not see, is nothing to them.
///
/// # Errors
/// Every fault of a file that makes no sense at all.
pub(crate) fn peek(path: &Path) -> Result<Config, Faults> {
    let outcome = read(path);
    outcome.config.ok_or(Faults(outcome.report))
}

/// Says everything that is wrong with a configuration, and what `look_at` says of the device, such as of the state
/// directory that it names.
#[must_use]
pub(crate) fn examine(path: &Path, look_at: impl FnOnce(&Config) -> Vec<String>) -> Report {
    let Outcome { config, mut report } = read(path);
    if let Some(config) = config {
        report.warn(look_at(&config));
    }
    report
}

/// Reads a duration as it is written in a configuration.
///
/// # Errors
/// What a duration looks like.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let quantity = units::Quantity::Duration;
    quantity.parse(text).map(Duration::from_millis).ok_or(quantity.example())
}

/// The JSON Schema of a configuration.
#[must_use]
pub(crate) fn schema() -> Schema {
    tables::build_schema()
}

#[cfg(test)]
impl Config {
    /// Reads a configuration from `text`, as if it stood at `path`, without the files that it names.
    ///
    /// # Errors
    /// Every fault of the text, if it has any.
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

/// The text of a file, or why there is none.
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

/// Reads the tables, mended where they must be. None if the text is not TOML.
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
    Tables::deserialize(toml::Deserializer::from(file))
        .inspect_err(|error| findings.report(not_read(error)))
        .ok()
}

fn not_read(error: &toml::de::Error) -> Finding {
    match error.span() {
        Some(span) => Finding::fault(span, error.message()),
        None => Finding::of_the_file(error.message()),
    }
}
