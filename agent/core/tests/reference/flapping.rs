//! The expected alerts among the transitions of one rule and source: at most 20 within a minute,
//! and of further transitions only the last, as soon as there is room and if the state has changed.

use crate::alarms::Turn;
use crate::history::{Item, millis};
use crate::imports::*;

/// Returns the published transitions, in the order of publication. `turns` has each transition with
/// the index of the causing item.
pub(crate) fn reports(turns: &[(usize, Turn)], items: &[Item<'_>]) -> Vec<Turn> {
    let mut told: Vec<Turn> = Vec::new();
    let mut held: Option<Turn> = None;
    let mut coming = turns.iter().peekable();
    for index in 0..=items.len() {
        while let Some((_, turn)) = coming.next_if(|(item, _)| *item <= index) {
            tell_held(&mut told, &mut held, turn.time);
            let is_news = told.last().is_none_or(|last| last.raised != turn.raised);
            if is_news && told_within(&told, turn.time) < MAX_ALERTS {
                told.push(turn.clone());
                held = None;
            } else {
                held = is_news.then(|| turn.clone());
            }
        }
        match items.get(index) {
            Some(Item::Known(time)) => tell_held(&mut told, &mut held, *time),
            // A held-back transition is not stored, but follows from the readings within the
            // horizon.
            Some(Item::Forgot(_)) => held = None,
            Some(Item::Says(..)) | None => {}
        }
    }
    told
}

fn tell_held(told: &mut Vec<Turn>, held: &mut Option<Turn>, time: Wall) {
    let last = told.len().checked_sub(MAX_ALERTS).map(|at| told[at].time);
    let has_room = last.is_none_or(|last| time.0 - last.0 >= millis(WITHIN));
    if has_room {
        told.extend(held.take());
    }
}

/// Returns the number of transitions published in the minute before `time`.
fn told_within(told: &[Turn], time: Wall) -> usize {
    let is_within = |turn: &&Turn| turn.time <= time && time.0 - turn.time.0 < millis(WITHIN);
    told.iter().filter(is_within).count()
}
