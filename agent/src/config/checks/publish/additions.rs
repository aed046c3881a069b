//! Checks the fixed keys of every record.

use serde_json::Value;

use crate::config::findings::{Finding, Findings};
use crate::config::places::Place;
use crate::config::tables::Members;

/// The most bytes that fixed keys add to every record.
const MAX_BYTES: usize = 512;
/// Keys whose values identify a person or a place (P13).
const TELLING: [&str; 16] = [
    "name",
    "first_name",
    "last_name",
    "surname",
    "birthday",
    "phone",
    "telephone",
    "mobile",
    "email",
    "lat",
    "latitude",
    "lon",
    "lng",
    "longitude",
    "gps",
    "coordinates",
];
/// The number of digits after a `+` from which a text counts as a phone number.
const PHONE_DIGITS: usize = 7;

/// Builds the fixed members of every record, as JSON without braces, from the table at `path`. `is_taken` returns `true` for
/// a key that a record has anyway.
pub(super) fn build_additions(
    add: &Members<Value>,
    path: &str,
    is_taken: impl Fn(&str) -> bool,
    findings: &mut Findings,
) -> Box<str> {
    let mut members = Vec::new();
    for (at, (key, value)) in add.0.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let place = Place::Key(path.clone());
        super::check_key(key, place.clone(), findings);
        if is_taken(key) {
            let fault = Finding::fault(place.clone(), format!("a record has its own `{key}`"));
            findings.push(fault.label("choose another key"));
        }
        let telling = match value.as_str() {
            _ if TELLING.contains(&key.as_str()) => Some(place),
            Some(text) if reaches(text) => Some(Place::Value(path)),
            _ => None,
        };
        if let Some(place) = telling {
            let message = "a fixed field tells neither a person nor a place";
            let fault = Finding::fault(place, message).veiled();
            findings.push(fault.help("use an opaque id: only the cloud knows whose it is"));
        }
        members.push(format!("{}:{value}", Value::from(key.as_str())));
    }
    let members = members.join(",");
    if members.len() > MAX_BYTES {
        let fault = Finding::fault(path, "this is too much for every record");
        findings.push(fault.label(format!("at most {MAX_BYTES} bytes")));
    }
    members.into()
}

/// Returns `true` for a phone number or a mail address.
fn reaches(text: &str) -> bool {
    let number = text.trim_start().strip_prefix('+');
    let is_phone = number.is_some_and(|number| {
        number.chars().all(|c| c.is_ascii_digit() || " ()-./".contains(c))
            && number.chars().filter(char::is_ascii_digit).count() >= PHONE_DIGITS
    });
    let mail = text.split_once('@');
    is_phone || mail.is_some_and(|(who, place)| !who.is_empty() && place.contains('.'))
}
