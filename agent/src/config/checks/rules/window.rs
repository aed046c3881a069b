//! Windows: tumbling or sliding, and in which steps.

use std::time::Duration;

use pulsegate_core::rules::{MAX_STEPS, MIN_WINDOW, WindowSpec};

use super::{Finding, Findings};
use crate::config::place::At;
use crate::config::tables::WindowTable;
use crate::config::units::Period;

pub(super) fn build(table: &At<WindowTable>, findings: &mut Findings) -> WindowSpec {
    let (length, step) = match (&table.tumbling, &table.sliding) {
        (Some(length), None) => (length.0, length.0),
        (None, Some(length)) => {
            let every = table.every.as_ref();
            (length.0, every.map_or_else(|| finest(length.0), |every| every.0))
        }
        (Some(tumbling), Some(sliding)) => {
            let fault = Finding::fault(sliding.span(), "a window is either tumbling or sliding");
            findings.push(fault.also(tumbling.span(), "`tumbling`"));
            (tumbling.0, tumbling.0)
        }
        (None, None) => {
            let fault = Finding::fault(table.span(), "this window has no length");
            findings.push(fault.help("give it `tumbling` or `sliding`, such as \"60s\""));
            (Duration::from_secs(1), Duration::from_secs(1))
        }
    };
    if let Some(every) = &table.every {
        step_of(every, table, findings);
    }
    WindowSpec { length, step, take: table.take }
}

fn step_of(every: &At<Period>, table: &WindowTable, findings: &mut Findings) {
    let Some(length) = &table.sliding else {
        if let Some(tumbling) = &table.tumbling {
            let message =
                "a tumbling window begins where the one before ends: `every` is for sliding";
            findings
                .push(Finding::fault(every.span(), message).also(tumbling.span(), "`tumbling`"));
        }
        return;
    };
    let (whole, part) = (millis(length.0), millis(every.0));
    if !whole.is_multiple_of(part) {
        let message = format!("a window of {} does not pass by in steps of {}", **length, **every);
        let fault = Finding::fault(every.span(), message).label("must be a whole part of it");
        findings.push(fault.also(length.span(), "the window"));
    } else if whole / part > u64::from(MAX_STEPS) {
        let message =
            format!("a window of {} has more than {MAX_STEPS} steps of {}", **length, **every);
        let least = Period(finest(length.0));
        findings.push(Finding::fault(every.span(), message).label(format!("\"{least}\" or more")));
    }
}

/// The shortest step that fits: at least a second, and a whole part of the length.
fn finest(length: Duration) -> Duration {
    let length = millis(length);
    let least = millis(MIN_WINDOW);
    let fits = |parts: &u64| length.is_multiple_of(*parts) && length / parts >= least;
    Duration::from_millis(length / (1..=u64::from(MAX_STEPS)).rev().find(fits).unwrap_or(1))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
