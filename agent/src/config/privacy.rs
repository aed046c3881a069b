//! Searches the file for texts that `privacy.forbidden` lists, so that no such text can get into a
//! topic, a record, a log line or the status (P13).
//!
//! The search covers all keys and values, not a list of published ones, so later additions to the
//! tables are covered, too. A found text is reported by its place alone and not repeated, because
//! the report may end in a log. No other fault is shown beside it, since other faults show their
//! lines.

use pulsegate_sensors::forbidden::{Forbidden, MIN_CHARS};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Finding, Findings, Span};

/// The keys by which a heart-rate monitor is found. Their values are never published or logged.
const RECOGNISES: [&str; 2] = ["name", "address"];

/// Searches the file for the texts of `privacy.forbidden`. Returns `true` if there are none.
pub(super) fn is_kept(file: &DeTable<'_>, findings: &mut Findings) -> bool {
    let listed = file.get("privacy").and_then(|privacy| match privacy.get_ref() {
        DeValue::Table(privacy) => privacy.get("forbidden"),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => None,
    });
    let Some(DeValue::Array(listed)) = listed.map(Spanned::get_ref) else { return true };
    let mut forbidden = Forbidden::default();
    for text in listed.iter() {
        let DeValue::String(words) = text.get_ref() else { continue };
        if !forbidden.add_text(words) {
            let message = format!("a forbidden text has at least {MIN_CHARS} letters or digits");
            findings.push(Finding::fault(text.span(), message).veiled());
        }
    }
    let mut search = Search { forbidden, found: false, findings };
    for (key, value) in file.iter().filter(|(key, _)| key.get_ref() != "privacy") {
        search.text(key.get_ref(), key.span());
        search.value(value, key.get_ref() == "heart_rate");
    }
    !search.found
}

struct Search<'a> {
    forbidden: Forbidden,
    found: bool,
    findings: &'a mut Findings,
}

impl Search<'_> {
    fn value(&mut self, value: &Spanned<DeValue<'_>>, is_monitor: bool) {
        match value.get_ref() {
            DeValue::String(text) => self.text(text, value.span()),
            DeValue::Integer(number) => self.text(number.as_str(), value.span()),
            DeValue::Float(number) => self.text(number.as_str(), value.span()),
            DeValue::Boolean(_) | DeValue::Datetime(_) => {}
            DeValue::Array(elements) => {
                elements.iter().for_each(|element| self.value(element, is_monitor));
            }
            DeValue::Table(table) => {
                for (key, value) in table.iter() {
                    self.text(key.get_ref(), key.span());
                    if !(is_monitor && RECOGNISES.contains(&key.get_ref().as_ref())) {
                        self.value(value, false);
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str, span: Span) {
        if self.forbidden.is_in(text) {
            self.found = true;
            let fault = Finding::fault(span, "a text that `privacy.forbidden` lists");
            self.findings
                .report(fault.veiled().help("use an opaque id: only the cloud knows whose it is"));
        }
    }
}
