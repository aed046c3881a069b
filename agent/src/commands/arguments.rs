//! Arguments shared by several commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pulsegate_core::time::Wall;

use crate::config::DEFAULT_PATH;
use crate::platform::clock;

/// The configuration file of a command.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgument {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(crate) config: PathBuf,
}

/// The span of time of a command.
#[derive(Debug, Args)]
pub(crate) struct TimeRange {
    /// The start of the time span, inclusive: a duration back from now, such as `7d`, or a time
    /// such as `2026-11-20T10:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    since: Option<Wall>,
    /// The end of the time span, exclusive, in the format of `--since`
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    until: Option<Wall>,
}

impl TimeRange {
    /// Returns true if `time` lies in the span.
    pub(crate) fn contains_time(&self, time: Wall) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// Parses a duration in the form of the configuration: `60s`, `5m`.
pub(crate) fn parse_duration_argument(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).map_err(str::to_owned)
}

/// Parses a time: an age, counted back from now, or a date with time and zone.
fn parse_moment(text: &str) -> Result<Wall, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Wall(time.as_millisecond())),
        Err(_) if text.contains(['-', ':', 'T', 'Z']) => {
            Err("a time has its date, its seconds and its zone, such as 2026-11-20T10:00:00Z"
                .into())
        }
        Err(_) => Ok(clock::wall() - parse_duration_argument(text)?),
    }
}
