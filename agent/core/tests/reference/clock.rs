//! Compares the timeline with the complete history of the clock: the wall time of each moment, as
//! known now.

use crate::imports::*;
use crate::inputs::Bytes;

/// The start of the reference axis, in milliseconds since 1970. The axis never steps.
const REFERENCE_MS: i64 = 1_795_000_000_000;
const EPOCH: Epoch = Epoch(1);

/// An input: an observation of the clock, or a restart.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// The agent observes the clock, `offset_ms` from the reference axis.
    Look { pause_ms: u64, offset_ms: i64, is_set: bool },
    /// The agent restarts with the stored segments.
    Restart,
}

impl Step {
    fn of([what, a, b, c]: Bytes) -> Self {
        // Slewed by some milliseconds, stepped by seconds, or hours off.
        let unit = [1, 100, 1_000, 3_600_000][usize::from(c % 4)];
        let offset_ms = (i64::from(b) - 128) * unit;
        match what % 8 {
            0 => Self::Restart,
            _ => Self::Look { pause_ms: u64::from(a) * 50, offset_ms, is_set: c >= 128 },
        }
    }
}

/// Returns the inputs as readable text.
pub(crate) fn words(inputs: &[Bytes]) -> String {
    let steps: Vec<Step> = inputs.iter().map(|bytes| Step::of(*bytes)).collect();
    format!("{steps:?}")
}

/// An observation with a step of the clock or a change of trust.
#[derive(Debug, Clone, Copy, PartialEq)]
struct News {
    since: u64,
    offset_ms: i64,
    is_set: bool,
}

/// Observes a clock by the inputs, and after each input compares moments before and after all
/// observations.
pub(crate) fn check(inputs: &[Bytes]) -> Result<(), String> {
    let mut timeline = begun();
    let (mut news, mut stored): (Vec<News>, Vec<Segment>) = (Vec::new(), Vec::new());
    let mut now = 1_000;
    // A timeline keeps 64 segments, so no segment is dropped.
    for (nth, bytes) in inputs.iter().take(60).enumerate() {
        match Step::of(*bytes) {
            Step::Restart => {
                timeline = begun();
                stored.iter().for_each(|segment| timeline.restore_segment(EPOCH, *segment));
            }
            Step::Look { pause_ms, offset_ms, is_set } => {
                now += pause_ms;
                let offset_ms = REFERENCE_MS + offset_ms;
                let wall = Wall(offset_ms + i64::try_from(now).expect("a test is short"));
                let trust = if is_set { ClockTrust::Trusted } else { ClockTrust::Unset };
                let segment = timeline.observe_clock(EPOCH, Mono(now), wall, trust);
                let is_news = news.last().is_none_or(|last| {
                    last.is_set != is_set || last.offset_ms.abs_diff(offset_ms) >= STEP_MS
                });
                if segment.is_some() != is_news {
                    return Err(format!("after input {nth}: {segment:?} of {news:?}"));
                }
                stored.extend(segment);
                news.extend(is_news.then_some(News { since: now, offset_ms, is_set }));
            }
        }
        let moments = news.iter().flat_map(|one| [one.since - 1, one.since, one.since + 1]);
        for moment in moments.chain([0, now]) {
            compare(&timeline, &news, moment)
                .map_err(|fault| format!("after input {nth}: {fault}"))?;
        }
        if timeline.is_set(EPOCH) != news.iter().any(|one| one.is_set) {
            return Err(format!("after input {nth}: set or not, by {news:?}"));
        }
    }
    Ok(())
}

fn begun() -> Timeline {
    let mut timeline = Timeline::default();
    timeline.add_boot(EPOCH, REFERENCE_MS);
    timeline
}

/// Compares the wall time of one moment. A trusted time stays; an untrusted time is corrected by
/// the next trusted observation, or else by the last trusted observation before.
fn compare(timeline: &Timeline, news: &[News], moment: u64) -> Result<(), String> {
    let in_force = news.iter().rfind(|one| one.since <= moment);
    let set = in_force
        .filter(|one| one.is_set)
        .or_else(|| news.iter().find(|one| one.since > moment && one.is_set))
        .or_else(|| news.iter().rfind(|one| one.since <= moment && one.is_set));
    let guess = in_force.or(news.first()).map_or(REFERENCE_MS, |one| one.offset_ms);
    let (offset_ms, trust) = match set {
        Some(set) => (set.offset_ms, ClockTrust::Trusted),
        None => (guess, ClockTrust::Unset),
    };
    let on_axis =
        |offset_ms: i64| Wall(offset_ms + i64::try_from(moment).expect("a test is short"));
    let (expected, axis) = ((on_axis(offset_ms), trust), on_axis(REFERENCE_MS));
    let got = timeline.wall_time(EPOCH, Mono(moment));
    if got != expected {
        return Err(format!("{moment} was {got:?}, not {expected:?}"));
    }
    if timeline.reference_time(EPOCH, Mono(moment)) != axis {
        return Err(format!("the axis stepped at {moment}"));
    }
    match timeline.correct_reference(EPOCH, axis) == expected {
        true => Ok(()),
        false => {
            Err(format!("{axis:?} is corrected to {:?}", timeline.correct_reference(EPOCH, axis)))
        }
    }
}
