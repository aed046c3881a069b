//! Which turns alerts should tell of: of one rule and source at most 20 within a minute, and of more the
//! last, as soon as there is room for it and if it still is news.

use crate::alarms::Turn;
use crate::history::{Item, millis};
use crate::imports::*;

/// The turns that are told, in the order in which they are. Each comes with its item.
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
            // What is held back is stored by nobody: it follows from the readings within the horizon.
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

/// How many were told in the minute before `time`.
fn told_within(told: &[Turn], time: Wall) -> usize {
    let is_within = |turn: &&Turn| turn.time <= time && time.0 - turn.time.0 < millis(WITHIN);
    told.iter().filter(is_within).count()
}
