//! The number of topics and the rate of readings: more may come than can be delivered.

use std::collections::HashSet;

use pulsegate_core::cloud::delivery::DeliveryLimits;

use crate::config::checks::known::Known;
use crate::config::findings::{Finding, Findings};
use crate::config::sections::{Limits, Link};
use crate::config::tables::PublishTable;

/// The bytes of a usual record.
const RECORD_BYTES: f64 = 100.0;
/// A rate is exceeded by more than a sum of fractions may be wrong.
const CLEARLY: f64 = 1.01;

/// Warns if the sources make more readings than can be delivered. Only the readings of known
/// sources with a regular interval count, and only without filters.
pub(super) fn check_rate<'a>(
    readings: &'a PublishTable,
    kinds: &'a [(String, PublishTable)],
    link: &Link,
    known: &Known,
    findings: &mut Findings,
) {
    let is_filtered = |table: &PublishTable| {
        let has_tests = table.keep.is_some() || table.drop.is_some();
        has_tests || table.mean_every.is_some() || table.min_change.is_some()
    };
    if is_filtered(readings) || kinds.iter().any(|(_, table)| is_filtered(table)) {
        return;
    }
    let of_table = |table: &'a PublishTable| Some((table.topic.as_deref()?, &*table.path));
    let own = |kind: &str| of_table(&kinds.iter().find(|(name, _)| name == kind)?.1);
    let mut topics: HashSet<(&str, Option<&str>, Option<&str>)> = HashSet::new();
    let mut widest = None;
    let mut rate = 0.0;
    for source in known.covered(None, None) {
        let Some(readings_of) = &source.readings else { continue };
        let every = readings_of.every.filter(|every| !every.is_zero());
        rate += every.map_or(0.0, |every| every.as_secs_f64().recip());
        let kind = &*readings_of.kind;
        let Some((topic, path)) = own(kind).or(of_table(readings)) else { continue };
        let by = |word: &str, name| topic.contains(word).then_some(name);
        topics.insert((topic, by("{source}", &*source.id), by("{kind}", kind)));
        if widest.is_none() && topic.contains("{source}") {
            widest = Some(path);
        }
    }
    findings.push_all(check_link(link, rate));
    let limits = DeliveryLimits { window: link.window.into(), repeat: u64::from(link.repeat) };
    let messages = match link.limits {
        Limits::Aws => u64::from(link.messages_per_second),
        Limits::None => u64::MAX,
    };
    let most = limits.sustained_rate(topics.len().max(1), messages);
    if !exceeds(rate, most) {
        return;
    }
    let message =
        format!("{rate:.0} readings a second are more than the {most} that are delivered");
    findings.push(match widest {
        Some(path) => Finding::warning(format!("{path}.topic"), message)
            .label(format!(
                "{} topics share {} messages at once",
                topics.len(),
                limits.others_window()
            ))
            .help(
                "fewer topics (put `source` into the records), or a larger `link.window` and \
                 `link.repeat`: the queue grows, with 200 ms to the broker and back",
            ),
        None => Finding::warning("link.repeat", message)
            .help("a larger `repeat`: the queue grows, with 200 ms to the broker and back"),
    });
}

/// Warns of limits of the link that are below `rate`, in readings a second.
fn check_link(link: &Link, rate: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(most) = link.records_per_second.filter(|most| exceeds(rate, u64::from(*most))) {
        let message = format!("{rate:.0} readings a second are more than {most}: the queue grows");
        found.push(Finding::warning("link.records_per_second", message));
    }
    if link.limits == Limits::Aws && exceeds(rate * RECORD_BYTES, link.bytes_per_second) {
        let message = format!(
            "{rate:.0} readings a second, about {RECORD_BYTES} bytes each, are more than \
             `bytes_per_second`: the queue grows"
        );
        found.push(Finding::warning("link.bytes_per_second", message));
    }
    found
}

fn exceeds(rate: f64, most: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let most = most as f64;
    rate > most * CLEARLY
}
