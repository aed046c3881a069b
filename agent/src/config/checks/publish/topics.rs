//! Counts the topics of readings, since a message holds readings of one topic only.

use std::collections::HashSet;

use pulsegate_core::cloud::delivery::{self, DeliveryLimits};

use crate::config::checks::known::Known;
use crate::config::findings::{Finding, Findings};
use crate::config::tables::PublishTable;

/// Warns if there are more topics than messages that may be on their way at once. Counts only known
/// sources.
pub(super) fn count<'a>(
    readings: &'a PublishTable,
    kinds: &'a [(String, PublishTable)],
    window: u16,
    known: &Known,
    findings: &mut Findings,
) {
    let of_table = |table: &'a PublishTable| Some((table.topic.as_deref()?, &*table.path));
    let own = |kind: &str| of_table(&kinds.iter().find(|(name, _)| name == kind)?.1);
    let mut topics: HashSet<(&str, Option<&str>, Option<&str>)> = HashSet::new();
    let mut widest = None;
    for source in known.covered(None, None) {
        let kind = source.readings.as_ref().map_or("", |readings| &readings.kind);
        let Some((topic, path)) = own(kind).or(of_table(readings)) else { continue };
        let by = |word: &str, name| topic.contains(word).then_some(name);
        topics.insert((topic, by("{source}", &*source.id), by("{kind}", kind)));
        if widest.is_none() && topic.contains("{source}") {
            widest = Some(path);
        }
    }
    let share = DeliveryLimits { window: window.into(), repeat: delivery::REPEAT }.others_window();
    if let Some(path) = widest.filter(|_| topics.len() > share) {
        let message = format!("{} topics share a window of {share} messages", topics.len());
        let warning = Finding::warning(format!("{path}.topic"), message);
        findings.push(warning.label("each message holds readings of one topic").help(
            "fewer topics (put `source` into the records), or a larger `link.window`: batches are \
             cut short, and a queue drains slowly",
        ));
    }
}
