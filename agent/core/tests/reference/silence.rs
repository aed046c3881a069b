//! The expected transitions of `silent` rules: no reading of a source arrives for too long, by the
//! monotonic clock, regardless of values.

use crate::alarms::{Turn, silent_at};
use crate::flapping::reports;
use crate::history::*;
use crate::imports::*;
use crate::rules::Said;

/// Returns the expected results of a `silent` rule for one source. An expected source may be silent
/// from the start of the agent on, any other source after its first reading.
pub(crate) fn of_one(after: i64, is_expected: bool, source: usize, history: &[Entry]) -> Said {
    let mut clock = SourceClock::default();
    let (mut since, mut raised): (Option<Wall>, bool) = (None, false);
    let (mut items, mut turns) = (Vec::new(), Vec::new());
    for (index, entry) in history.iter().enumerate() {
        let at = entry.at();
        if let Entry::Began { axis, from, .. } = entry {
            clock = SourceClock::default();
            let heard = history[*from..index].iter().filter_map(Entry::heard);
            heard.filter(|one| one.source == source).for_each(|one| clock.tell(one.event, one.at));
            if is_expected && !clock.is_known() {
                clock = SourceClock::assumed(*axis, at);
            }
            since = clock.at(at).filter(|_| is_expected);
            continue;
        }
        let own = entry.heard().filter(|heard| heard.source == source);
        let mut now = clock.at(at);
        let mut turn = |raised, time: Wall, silent: i64, items: &[Item<'_>]| {
            let silent = std::time::Duration::from_millis(u64::try_from(silent).unwrap_or(0));
            let value = Value::Number(silent.as_secs_f64());
            turns.push((items.len(), Turn { raised, source, time, value, window: None }));
        };
        if let (Some(time), Some(last)) = (now, since)
            && !raised
            && silent_at(last, after) <= time
        {
            raised = true;
            turn(true, silent_at(last, after), after, &items);
        }
        if let Some(time) = now {
            items.push(Item::Known(Wall(time.0 - millis(LATENESS))));
        }
        let Some(heard) = own else { continue };
        let before = now.unwrap_or(heard.event);
        clock.tell(heard.event, heard.at);
        now = clock.at(at);
        if raised {
            raised = false;
            let silent = since.map_or(0, |since| before.0 - since.0);
            turn(false, before, silent, &items);
        }
        since = now;
        items.extend(now.map(|time| Item::Known(Wall(time.0 - millis(LATENESS)))));
    }
    let told = reports(&turns, &items);
    Said { turns: turns.into_iter().map(|(_, turn)| turn).collect(), told }
}
