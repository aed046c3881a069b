//! Lines in the form of the inbox, from a file or standard input.
//!
//! A line counts as having arrived at its own time, or together with the line before when the time
//! is missing. A time more than a day ahead of all others is believed when the next time agrees. An
//! invalid line is reported with its number.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, stdin};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::ProgressBar;
use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_core::rules::{KernelBoot, MAX_LEAP, TimedReading};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::Sources;
use pulsegate_sensors::inbox::{Entry, EntryValue, Lines, MAX_LINE_BYTES};

use crate::commands::{print_error, progress_bar};
use crate::replay::{Replay, ReplayPlan, Replayed};

/// Lines between two updates of the progress bar.
const SHOWN_EVERY: u64 = 4_096;
/// Invalid lines reported at most: bounds the output for a file of another format.
const MAX_TOLD: u64 = 100;
const BOOT: KernelBoot = KernelBoot(1);

/// Runs `plan` over the lines of a file, or of standard input for `-`. Returns the outcomes and the
/// number of invalid lines.
pub(super) fn run(plan: ReplayPlan<'_>, path: &Path) -> anyhow::Result<(Replayed, u64)> {
    let replayed = if path == Path::new("-") {
        replay_lines(plan, &mut stdin().lock(), &ProgressBar::hidden())
    } else {
        let context = || format!("cannot read `{}`", path.display());
        let file = File::open(path).with_context(context)?;
        let bar = progress_bar(file.metadata().map_or(0, |metadata| metadata.len()));
        let replayed = replay_lines(plan, &mut BufReader::new(file), &bar).with_context(context);
        bar.finish_and_clear();
        replayed
    };
    replayed.context("cannot replay")
}

fn replay_lines(
    plan: ReplayPlan<'_>,
    from: &mut impl BufRead,
    bar: &ProgressBar,
) -> anyhow::Result<(Replayed, u64)> {
    let sources = Arc::new(Sources::default());
    let mut lines = Lines::new(Arc::clone(&sources));
    let mut replay = Replay::new(plan, sources)?;
    let mut clock = Arrivals::default();
    let (mut number, mut bytes, mut refused) = (0_u64, 0_u64, 0_u64);
    let mut line = Vec::new();
    let mut begun = false;
    let mut take = |reading: Reading| {
        let event = reading.time.unwrap_or_default();
        if !std::mem::replace(&mut begun, true) {
            replay.begin_agent_start(BOOT, reading.mono, event);
        }
        replay.fold_reading(&TimedReading { reading: &reading, boot: BOOT, event });
    };
    while read_line(from, &mut line)? {
        number += 1;
        bytes += u64::try_from(line.len())?;
        if number.is_multiple_of(SHOWN_EVERY) {
            bar.set_position(bytes);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let readings = match lines.parse_line(text) {
            Some(Ok(entry)) => clock.stamp_entry(entry),
            Some(Err(error)) => Err(error.to_string()),
            None => continue,
        };
        match readings {
            Ok(readings) => readings.into_iter().flatten().for_each(&mut take),
            Err(error) => {
                refused += 1;
                if refused <= MAX_TOLD {
                    bar.suspend(|| print_error(&format!("line {number}: {error}")));
                }
            }
        }
    }
    clock.take_doubted().into_iter().for_each(&mut take);
    if refused > MAX_TOLD {
        print_error(&format!("and {} more lines", refused - MAX_TOLD));
    }
    Ok((replay.finish_replay(), refused))
}

/// Reads a line, cut off a little above the limit of the inbox. Returns false at the end.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let limit = u64::try_from(MAX_LINE_BYTES + 2).unwrap_or(u64::MAX);
    from.by_ref().take(limit).read_until(b'\n', line)?;
    if line.len() > MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        from.skip_until(b'\n')?;
    }
    Ok(!line.is_empty())
}

/// Gives readings a time of arrival: lines only carry the time of measurement.
#[derive(Debug, Default)]
struct Arrivals {
    last: Option<Wall>,
    /// The first time, and the highest believed time.
    highest: Option<(Wall, Wall)>,
    /// An entry more than [`MAX_LEAP`] ahead. If the next time agrees, the entry arrived at its own
    /// time, else together with the line before.
    doubted: Option<(Wall, Entry)>,
}

impl Arrivals {
    /// Returns the readings whose arrival is known by now, in the order of their lines.
    ///
    /// # Errors
    /// When neither this entry nor an earlier entry has a time.
    fn stamp_entry(&mut self, entry: Entry) -> Result<[Option<Reading>; 2], String> {
        let Some(time) = entry.time_ms.map(Wall).or(self.last) else {
            return Err("`time`: neither this line nor one before it has any".into());
        };
        self.last = Some(time);
        let (_, highest) = *self.highest.get_or_insert((time, time));
        let is_leap = time > highest + MAX_LEAP;
        let doubted = self.doubted.take();
        let agreed = doubted.as_ref().is_some_and(|(doubted, _)| time + MAX_LEAP >= *doubted);
        if is_leap && !agreed {
            self.doubted = Some((time, entry));
            return Ok([
                doubted.map(|(doubted, entry)| self.arrived_reading(doubted, entry)),
                None,
            ]);
        }
        let before = doubted.map(|(doubted, entry)| {
            if is_leap {
                self.raise_highest(doubted.min(time));
            }
            self.arrived_reading(doubted, entry)
        });
        self.raise_highest(time);
        Ok([before, Some(self.arrived_reading(time, entry))])
    }

    /// Returns the last entry if its time is still doubted.
    fn take_doubted(&mut self) -> Option<Reading> {
        self.doubted.take().map(|(time, entry)| self.arrived_reading(time, entry))
    }

    fn raise_highest(&mut self, time: Wall) {
        if let Some((_, highest)) = &mut self.highest {
            *highest = time.max(*highest);
        }
    }

    fn arrived_reading(&self, time: Wall, entry: Entry) -> Reading {
        let since_first = self.highest.map(|(first, highest)| highest.since(first));
        let millis = since_first.unwrap_or_default().as_millis();
        let value = match entry.value {
            EntryValue::Number(number) => Value::Number(number),
            EntryValue::State(state) => Value::State(state),
        };
        Reading {
            source: entry.source,
            mono: Mono(u64::try_from(millis).unwrap_or(u64::MAX)),
            time: Some(time),
            value,
            detail: None,
        }
    }
}
