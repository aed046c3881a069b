//! Fixed keys of every record.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::findings::{Finding, Findings};
use crate::config::place::At;
use crate::config::tables::Scalar;

/// Bounds what they add to every record.
const MAX_BYTES: usize = 512;

/// Makes the members of every record of them: JSON without braces. `is_taken` knows the keys that
/// a record has anyway.
pub(super) fn build(
    add: &At<BTreeMap<At<String>, At<Scalar>>>,
    is_taken: impl Fn(&str) -> bool,
    findings: &mut Findings,
) -> String {
    let mut members = Vec::new();
    for (key, value) in add.iter() {
        super::key(key, findings);
        if is_taken(key) {
            let fault = Finding::fault(key.span(), format!("a record has its own `{}`", **key));
            findings.push(fault.label("choose another key"));
        }
        let value = match &**value {
            Scalar::Whole(number) => Value::from(*number),
            Scalar::Number(number) => Value::from(*number),
            Scalar::Text(text) => Value::from(text.as_str()),
        };
        members.push(format!("{}:{value}", Value::from(key.as_str())));
    }
    let members = members.join(",");
    if members.len() > MAX_BYTES {
        let fault = Finding::fault(add.span(), "this is too much for every record");
        findings.push(fault.label(format!("at most {MAX_BYTES} bytes")));
    }
    members
}
