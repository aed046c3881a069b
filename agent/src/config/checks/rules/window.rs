//! Builds the window of a rule: tumbling, or sliding in steps.

use std::time::Duration;

use pulsegate_core::rules::WindowSpec;

use super::{Finding, Findings};
use crate::config::tables::WindowTable;

/// Builds the window at `path` in the file.
pub(super) fn build_window(table: &WindowTable, path: &str, findings: &mut Findings) -> WindowSpec {
    let every = table.every.map(|every| every.0);
    let (length, step) = match (table.tumbling, table.sliding) {
        (None, Some(length)) => (length.0, every.unwrap_or(WindowSpec::finest_step(length.0))),
        (Some(length), _) => (length.0, length.0),
        (None, None) => {
            let fault = Finding::fault(path, "this window has no length");
            findings.push(fault.help("add `tumbling` or `sliding`, such as \"60s\""));
            (Duration::from_secs(1), Duration::from_secs(1))
        }
    };
    if table.tumbling.is_some() {
        let mut refuse = |key: &str, message| {
            let fault = Finding::fault(format!("{path}.{key}"), message);
            findings.push(fault.also(format!("{path}.tumbling"), "`tumbling`"));
        };
        if table.sliding.is_some() {
            refuse("sliding", "a window is either tumbling or sliding");
        } else if every.is_some() {
            let message = "`every` is for sliding windows: a tumbling window begins at the end of \
                           the window before";
            refuse("every", message);
        }
    }
    WindowSpec { length, step, take: table.take }
}
