//! Reports inbox clients beyond their limits, as events: at most one an hour for each inbox, with
//! the totals since the start, and one more if the inbox's share of the source table fills up.
//!
//! Events name an inbox by its number in the configuration, since the path stays on the device.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsegate_core::record::event::{Event, InboxCrowdedMembers};
use pulsegate_core::time::Mono;
use pulsegate_sensors::inbox::Counters;
use tokio::sync::watch;

use crate::db::EventRow;
use crate::platform::clock;
use crate::sources::drivers::{Gauge, Overview};
use crate::store::Store;

/// Interval between two checks of the counters: seldom, since an event comes at most once an hour, and each check
/// wakes the processor.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Shortest interval between two events of one inbox, since a flood may last; `status` always has
/// the totals.
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// Percentage of an inbox's share of the source table from which the share counts as nearly full.
const FILLING_PERCENT: u64 = 80;

/// Counters of one inbox at the time of its last event.
#[derive(Debug, Clone, Copy, Default)]
struct Reported {
    troubles: [u64; 4],
    at: Option<Mono>,
    is_filling: bool,
}

/// Checks the inboxes until the agent stops.
///
/// # Errors
/// Returns an error if the store is gone.
pub(crate) async fn run(drivers: watch::Receiver<Overview>, store: Store) -> anyhow::Result<()> {
    let mut reported: HashMap<PathBuf, Reported> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let gauges = drivers.borrow().gauges.clone();
        let inboxes = gauges.iter().filter_map(|gauge| {
            let Gauge::Inbox(path, counters) = gauge else { return None };
            Some((path, counters))
        });
        for (number, (path, counters)) in (1..).zip(inboxes) {
            let reported = reported.entry(path.clone()).or_default();
            for event in reported.check_counters(number, counters, clock::mono()) {
                let text = event.event.to_text();
                tracing::warn!(inbox = %path.display(), event = text.word, members = text.members,
                    "clients of an inbox take more than is theirs");
                store.append_event(event).await?;
            }
        }
    }
}

/// Returns whether an inbox has nearly filled its share of the source table.
pub(crate) fn is_filling(counters: &Counters) -> bool {
    let (used, share) = (load_counter(&counters.sources), load_counter(&counters.max_sources));
    share > 0 && used * 100 >= share * FILLING_PERCENT
}

impl Reported {
    fn check_counters(&mut self, number: u32, counters: &Counters, now: Mono) -> Vec<EventRow> {
        let mut events = Vec::new();
        let troubles =
            [&counters.turned_away, &counters.displaced, &counters.unfinished, &counters.cut]
                .map(load_counter);
        let is_worse = troubles.iter().zip(self.troubles).any(|(now, before)| *now > before);
        let is_damped = self.at.is_some_and(|at| now.since(at) < TELL_EVERY);
        if is_worse && !is_damped {
            let [turned_away, displaced, unfinished, cut] = troubles;
            let inbox = number;
            let members = InboxCrowdedMembers { inbox, turned_away, displaced, unfinished, cut };
            events.push(EventRow { event: Event::InboxCrowded(members), mono: now });
            (self.troubles, self.at) = (troubles, Some(now));
        } else if !is_worse {
            // A restarted driver counts from 0.
            self.troubles = troubles;
        }
        let was_filling = std::mem::replace(&mut self.is_filling, is_filling(counters));
        if self.is_filling && !was_filling {
            let (sources, max_sources) =
                (load_counter(&counters.sources), load_counter(&counters.max_sources));
            let event = Event::InboxSourcesFilling { inbox: number, sources, max_sources };
            events.push(EventRow { event, mono: now });
        }
        events
    }
}

fn load_counter(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reported: &mut Reported, counters: &Counters, at_s: u64) -> Vec<Event> {
        let events = reported.check_counters(1, counters, Mono(at_s * 1000));
        events.into_iter().map(|event| event.event).collect()
    }

    #[test]
    fn a_crowd_is_told_at_once_and_then_once_an_hour() {
        let (mut reported, counters) = (Reported::default(), Counters::default());
        assert_eq!(told(&mut reported, &counters, 0), []);

        counters.turned_away.store(3, Ordering::Relaxed);
        let first = told(&mut reported, &counters, 2);
        counters.cut.store(7, Ordering::Relaxed);
        let damped = told(&mut reported, &counters, 4);
        let later = told(&mut reported, &counters, 2 + 3600);
        let quiet = told(&mut reported, &counters, 2 + 7200);

        let (turned_away, displaced, unfinished) = (3, 0, 0);
        let crowded = |cut| {
            Event::InboxCrowded(InboxCrowdedMembers {
                inbox: 1,
                turned_away,
                displaced,
                unfinished,
                cut,
            })
        };
        assert_eq!(first, [crowded(0)]);
        assert_eq!(damped, []);
        assert_eq!(later, [crowded(7)]);
        assert_eq!(quiet, []);
    }

    #[test]
    fn a_table_of_sources_that_fills_up_is_told_once() {
        let (mut reported, counters) = (Reported::default(), Counters::default());
        counters.max_sources.store(1000, Ordering::Relaxed);
        counters.sources.store(799, Ordering::Relaxed);
        assert_eq!(told(&mut reported, &counters, 0), []);

        counters.sources.store(800, Ordering::Relaxed);
        let first = told(&mut reported, &counters, 2);
        counters.sources.store(1000, Ordering::Relaxed);
        let second = told(&mut reported, &counters, 4);

        let filling = Event::InboxSourcesFilling { inbox: 1, sources: 800, max_sources: 1000 };
        assert_eq!(first, [filling]);
        assert_eq!(second, []);
    }
}
