//! `pulsegate replay`: what rules and visits would have told, over the stored history or over lines
//! as the inbox takes them. Beside a running agent or without one; nothing is written.

mod lines;

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use pulsegate_core::rules::RuleSpec;
use serde_json::json;

use super::listing::{alert_record, alert_text, visit_record, visit_text};
use super::{BAD_CONFIGURATION, complain, fail};
use crate::cli::{self, Config};
use crate::config;
use crate::store::{Change, Decided, FILE, Outcome, Reader, Replayed, VisitFormat};
use crate::{clock, compile};

/// What to run over what.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    config: Config,
    /// Try the rules and visits of this file, a whole configuration or `[[rule]]` tables alone
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Tell only what happened that long ago or later
    #[arg(long, value_name = "DURATION", value_parser = cli::duration)]
    since: Option<Duration>,
    /// Read lines like those of the inbox from a file, or `-`, instead of the stored history
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

/// What is tried.
struct Plan {
    rules: std::sync::Arc<Vec<RuleSpec>>,
    visits: Vec<VisitFormat>,
}

/// Runs it. Lines that make no sense are a failure, after all others were used; a difference is
/// none.
#[must_use]
pub(crate) fn run(replay: &Replay) -> ExitCode {
    let config = match config::plan(&replay.config.config, replay.rules.as_deref()) {
        Ok(config) => config,
        Err(faults) => {
            complain(&faults.to_string());
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let visits = compile::formats(&config).visits.clone();
    let plan = Plan { rules: compile::rules(&config), visits };
    let (replayed, refused) = match &replay.from {
        Some(path) => match lines::run(&plan, path) {
            Ok((replayed, refused)) => (replayed, refused),
            Err(error) => return fail(&error),
        },
        None => match stored(&plan, &config) {
            Ok(replayed) => (replayed, 0),
            Err(error) => return fail(&error),
        },
    };
    match tell(replay, &replayed) {
        Ok(()) if refused == 0 => ExitCode::SUCCESS,
        // That nobody reads it to its end is a failure, but none to speak of.
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn stored(plan: &Plan, config: &config::Config) -> anyhow::Result<Replayed> {
    let path = config.state_dir.join(FILE);
    let bar = bar(0);
    let told = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let replayed = Reader::open(&path)
        .map_err(anyhow::Error::from)
        .and_then(|reader| reader.replay(&plan.rules, &plan.visits, told))
        .with_context(|| format!("cannot replay the store `{}`", path.display()));
    bar.finish_and_clear();
    replayed
}

/// Seen on a terminal only.
fn bar(length: u64) -> ProgressBar {
    let style = "{elapsed_precise} {wide_bar} {percent} %";
    let style = ProgressStyle::with_template(style).expect("a template that indicatif knows");
    ProgressBar::new(length).with_style(style)
}

fn tell(replay: &Replay, replayed: &Replayed) -> std::io::Result<()> {
    let since = replay.since.map(|since| clock::wall() - since);
    let is_asked = |outcome: &&Outcome| since.is_none_or(|since| outcome.decided.time() >= since);
    let compares = replay.from.is_none();
    let mut out = BufWriter::new(stdout().lock());
    let mut counts = Counts::default();
    for outcome in replayed.outcomes.iter().filter(is_asked) {
        counts.add(outcome);
        let change = outcome.change;
        if replay.json {
            let (name, mut record) = match &outcome.decided {
                Decided::Alert(alert) => ("alert", alert_record(alert)),
                Decided::Visit(visit) => ("visit", visit_record(visit)),
            };
            record["record"] = json!(name);
            if compares {
                record["change"] = json!(change.word());
            }
            writeln!(out, "{record}")?;
        } else {
            let text = match &outcome.decided {
                Decided::Alert(alert) => alert_text(alert),
                Decided::Visit(visit) => visit_text(visit),
            };
            let sign = if compares { change.sign() } else { "" };
            writeln!(out, "{sign}{text}")?;
        }
    }
    if replay.json {
        writeln!(out, "{}", counts.record(replayed.readings, compares))?;
    } else {
        writeln!(out, "{}", counts.text(replayed.readings, compares))?;
    }
    out.flush()
}

impl Change {
    fn sign(self) -> &'static str {
        match self {
            Self::Added => "+ ",
            Self::Removed => "- ",
            Self::Same => "  ",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Same => "same",
        }
    }
}

/// What was told; of alerts and visits, those that would have been.
#[derive(Default)]
struct Counts {
    alerts: u64,
    visits: u64,
    added: u64,
    removed: u64,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome.change {
            Change::Added => self.added += 1,
            Change::Removed => {
                self.removed += 1;
                return;
            }
            Change::Same => {}
        }
        match outcome.decided {
            Decided::Alert(_) => self.alerts += 1,
            Decided::Visit(_) => self.visits += 1,
        }
    }

    fn record(&self, readings: u64, compares: bool) -> serde_json::Value {
        let mut record = json!({
            "record": "summary",
            "readings": readings,
            "alerts": self.alerts,
            "visits": self.visits,
        });
        if compares {
            record["added"] = json!(self.added);
            record["removed"] = json!(self.removed);
        }
        record
    }

    fn text(&self, readings: u64, compares: bool) -> String {
        let Self { alerts, visits, added, removed } = self;
        let text =
            format!("{readings} readings, {alerts} alerts raised or cleared, {visits} visits");
        if compares { format!("{text}: {added} added, {removed} removed") } else { text }
    }
}
