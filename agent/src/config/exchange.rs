//! A configuration with the rules and visits of another file, for a replay that tries them out.
//!
//! The other file is a whole configuration, or has only `[[rule]]` and `[[visit]]` tables. In the
//! second case it is checked together with the sources of the configuration, and its faults are
//! shown in its own lines. The keys and certificates that a configuration names are not checked,
//! because a replay needs none.

use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::findings::{Faults, Finding, Findings, Report};
use super::{Config, Named, Outcome, checks, mended, parse, text, toml, usable};

/// The keys that the other file may have, unless it is a whole configuration.
const BROUGHT: [&str; 2] = ["rule", "visit"];
/// The key that marks a whole configuration.
const THING: &str = "thing";

/// Returns the configuration at `path` with the rules and visits of the file `rules`, or the file
/// `rules` alone if it is a whole configuration.
///
/// # Errors
/// Returns every fault of the first file that has faults.
pub(crate) fn plan(path: &Path, rules: Option<&Path>) -> Result<Config, Faults> {
    let Some(rules) = rules else { return whole(path, readable(path)?) };
    let other = readable(rules)?;
    let brought = toml(&other, &mut Findings::default());
    if brought.is_some_and(|brought| brought.get_ref().contains_key(THING)) {
        return whole(rules, other);
    }
    exchanged(path, readable(path)?, rules, other)
}

fn whole(path: &Path, text: String) -> Result<Config, Faults> {
    usable(parse(path, text, Named::Ignored)).map(|(config, _)| config)
}

fn exchanged(path: &Path, base: String, rules: &Path, other: String) -> Result<Config, Faults> {
    // Placed after the configuration, so that no place occurs in both files.
    let behind = " ".repeat(base.len()) + &other;
    let mut findings = Findings::default();
    let report =
        |findings: Findings| Report::new(rules, other.clone(), findings.behind(base.len()));
    let Some(brought) = toml(&behind, &mut findings) else {
        return Err(Faults(report(findings)));
    };
    // The configuration's own rules may be wrong: they are not tried out.
    let bare = |findings: &mut Findings| {
        let mut file = toml(&base, findings)?;
        for key in BROUGHT.into_iter().filter(|key| brought.get_ref().contains_key(*key)) {
            file.get_mut().remove(key);
        }
        Some(file)
    };
    let mut faults = Findings::default();
    let tables = bare(&mut faults).and_then(|file| mended(file, &mut faults));
    let config = tables.map(|tables| checks::build_config(tables, &mut faults));
    usable(Outcome { config, report: Report::new(path, base.clone(), faults) })?;
    let config = bare(&mut Findings::default())
        .map(|file| joined(file, &brought, &mut findings))
        .and_then(|file| mended(file, &mut findings))
        .map(|tables| checks::build_config(tables, &mut findings));
    usable(Outcome { config, report: report(findings) }).map(|(config, _)| config)
}

fn joined<'a>(
    mut file: Spanned<DeTable<'a>>,
    brought: &Spanned<DeTable<'a>>,
    findings: &mut Findings,
) -> Spanned<DeTable<'a>> {
    for (key, value) in brought.get_ref() {
        if BROUGHT.contains(&key.get_ref().as_ref()) {
            file.get_mut().insert(key.clone(), value.clone());
        } else {
            let fault = Finding::fault(key.span(), "not a rule or a visit");
            let help = "a file of rules has `[[rule]]` and `[[visit]]` alone, or is whole";
            findings.push(fault.help(help));
        }
    }
    file
}

fn readable(path: &Path) -> Result<String, Faults> {
    text(path).map_err(|outcome| Faults(outcome.report))
}
