//! `pulsegate replay`: runs rules and visits over the stored history or over lines in the form of
//! the inbox, beside a running agent or without an agent. Writes nothing to the store.

mod chart;
mod lines;

use std::io::{BufWriter, IsTerminal as _, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use pulsegate_core::rules::{Condition, RuleSpec};
use pulsegate_core::time::Wall;
use rustix::termios::tcgetwinsize;
use serde_json::json;

use super::arguments::{ConfigArgument, TimeRange};
use super::listing::{alert_record, alert_text, visit_record, visit_text};
use super::{BAD_CONFIGURATION, exit_after_write, exit_with_error, print_error, progress_bar};
use crate::config;
use crate::db::{AlertFound, FILE, Reader};
use crate::platform::terminal::escape_text;
use crate::replay::{Curve, Decided, OutcomeChange, ReplayOutcome, ReplayPlan, Replayed};
use crate::store::Formats;
use chart::{Chart, Paper};

/// Columns of a chart at most: a wider chart cannot be read.
const MAX_WIDTH: usize = 240;

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Use the rules and visits of this file in place of those of the configuration: a whole
    /// configuration, or only `[[rule]]` and `[[visit]]` tables
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    span: TimeRange,
    /// Print only alerts and visits of the source with this id
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Read lines in the format of the inbox from this file, or `-` for standard input, instead of
    /// the stored history; compares with nothing
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Draw a chart of the readings of the rule with this name, with its thresholds and alerts,
    /// instead of the list
    #[arg(long, value_name = "RULE", conflicts_with = "json")]
    chart: Option<String>,
    /// Print one JSON object per line instead of text
    #[arg(long)]
    json: bool,
}

/// Runs a replay. Fails if a line is invalid, after all valid lines were used. A difference between
/// the outcomes and the stored history is no failure.
#[must_use]
pub(crate) fn run(replay: &ReplayArguments) -> ExitCode {
    let config = match config::plan(&replay.config.config, replay.rules.as_deref()) {
        Ok(config) => config,
        Err(faults) => {
            print_error(&faults.to_string());
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let (rules, formats) = (&config.rules, Formats::new(&config));
    let charted = match replay.chart.as_deref().map(|name| find_rule(name, rules)).transpose() {
        Ok(charted) => charted,
        Err(error) => return exit_with_error(&error),
    };
    let plan = ReplayPlan { rules, visits: &formats.visits, charted };
    let (replayed, refused) = match &replay.from {
        Some(path) => match lines::run(plan, path) {
            Ok((replayed, refused)) => (replayed, refused),
            Err(error) => return exit_with_error(&error),
        },
        None => match replay_store(plan, &config) {
            Ok(replayed) => (replayed, 0),
            Err(error) => return exit_with_error(&error),
        },
    };
    let told = match charted {
        Some(rule) => print_charts(replay, rule, &replayed),
        None => print_outcomes(replay, plan, &replayed),
    };
    match told {
        Ok(()) if refused > 0 => ExitCode::FAILURE,
        told => exit_after_write(told),
    }
}

fn find_rule<'a>(name: &str, rules: &'a [RuleSpec]) -> anyhow::Result<&'a RuleSpec> {
    rules.iter().find(|rule| *rule.name == *name).with_context(|| {
        let names: Vec<_> = rules.iter().map(|rule| format!("`{}`", rule.name)).collect();
        format!("there is no rule `{name}`: there are {}", names.join(", "))
    })
}

fn replay_store(plan: ReplayPlan<'_>, config: &config::Config) -> anyhow::Result<Replayed> {
    let path = config.state_dir.join(FILE);
    let bar = progress_bar(0);
    let told = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let replayed = Reader::open_readonly(&path)
        .map_err(anyhow::Error::from)
        .and_then(|reader| reader.replay_stored(plan, told))
        .with_context(|| format!("cannot replay the store `{}`", path.display()));
    bar.finish_and_clear();
    replayed
}

impl ReplayArguments {
    fn asks_for(&self, time: Wall, source: &str) -> bool {
        self.span.contains_time(time) && self.source.as_deref().is_none_or(|asked| asked == source)
    }
}

fn print_outcomes(
    replay: &ReplayArguments,
    plan: ReplayPlan<'_>,
    replayed: &Replayed,
) -> std::io::Result<()> {
    let is_asked = |outcome: &&ReplayOutcome| {
        replay.asks_for(outcome.decided.occurred_at(), outcome.decided.source_name())
    };
    let compares = replay.from.is_none();
    let mut out = BufWriter::new(stdout().lock());
    let mut counts = ReplayCounts::default();
    for outcome in replayed.outcomes.iter().filter(is_asked) {
        counts.add_outcome(outcome);
        let change = outcome.change;
        if replay.json {
            let (name, mut record) = match &outcome.decided {
                Decided::Alert(alert) => ("alert", alert_record(alert)),
                Decided::Visit(visit) => ("visit", visit_record(visit)),
            };
            if let Decided::Visit(visit) = &outcome.decided
                && let Some(text) = visit.report_text(plan.visits)
            {
                record["text"] = json!(text);
            }
            record["record"] = json!(name);
            if compares {
                record["change"] = json!(change.json_word());
            }
            writeln!(out, "{}", escape_text(&record.to_string()))?;
        } else {
            let text = match &outcome.decided {
                Decided::Alert(alert) => alert_text(alert),
                Decided::Visit(visit) => visit_text(visit),
            };
            let sign = if compares { change.line_sign() } else { "" };
            writeln!(out, "{sign}{}", escape_text(&text))?;
        }
    }
    if replay.json {
        writeln!(out, "{}", counts.summary_record(replayed.readings, compares))?;
    } else {
        writeln!(out, "{}", counts.summary_text(replayed.readings, compares))?;
    }
    out.flush()
}

fn print_charts(
    replay: &ReplayArguments,
    rule: &RuleSpec,
    replayed: &Replayed,
) -> std::io::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let paper = measure_paper();
    let is_asked = |curve: &&Curve| match (&curve.source, &replay.source) {
        (Some(source), Some(asked)) => source == asked,
        (None, _) | (_, None) => true,
    };
    for curve in replayed.curves.iter().filter(is_asked) {
        let of_it = |alert: &&AlertFound| {
            *alert.rule == *rule.name
                && curve.source.as_ref().is_none_or(|source| *source == alert.source)
                && replay.span.contains_time(alert.time)
        };
        let alerts = replayed.outcomes.iter().filter_map(|outcome| match &outcome.decided {
            Decided::Alert(alert) if outcome.change != OutcomeChange::Removed => Some(alert),
            Decided::Alert(_) | Decided::Visit(_) => None,
        });
        let turns = alerts.filter(of_it).map(|alert| (alert.time, alert.raised)).collect();
        let name = curve.source.as_deref().unwrap_or("several together");
        let mut curve = curve.clone();
        curve.values.retain(|(time, ..)| replay.span.contains_time(*time));
        let chart = Chart {
            title: escape_text(&format!("{}: {name}", rule.name)).into_owned(),
            thresholds: rule_thresholds(rule, curve.source.as_deref().unwrap_or("")),
            curve: &curve,
            turns,
        };
        writeln!(out, "{}", chart.draw_chart(paper))?;
    }
    writeln!(out, "{} readings", replayed.readings)?;
    out.flush()
}

fn rule_thresholds(rule: &RuleSpec, source: &str) -> Vec<f64> {
    match &rule.condition {
        Condition::Reading(_) => {
            let range = rule.range_for(source);
            range.above.into_iter().chain(range.below).collect()
        }
        Condition::Silent { after, .. } => vec![after.as_secs_f64()],
        Condition::Anomaly { score, .. } => vec![*score],
        Condition::All { .. } | Condition::Any { .. } => Vec::new(),
    }
}

/// Returns the size of a chart: the width of the terminal, or of `COLUMNS` where there is no
/// terminal.
fn measure_paper() -> Paper {
    let terminal = tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = terminal.filter(|columns| *columns > 0).or_else(told).unwrap_or(80);
    let is_coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Paper { width: width.min(MAX_WIDTH), is_coloured }
}

impl OutcomeChange {
    fn line_sign(self) -> &'static str {
        match self {
            Self::Added => "+ ",
            Self::Removed => "- ",
            Self::Same => "  ",
        }
    }

    fn json_word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Same => "same",
        }
    }
}

/// The numbers of the summary. Alerts and visits count the decided outcomes, without removed
/// outcomes.
#[derive(Default)]
struct ReplayCounts {
    alerts: u64,
    visits: u64,
    added: u64,
    removed: u64,
}

impl ReplayCounts {
    fn add_outcome(&mut self, outcome: &ReplayOutcome) {
        match outcome.change {
            OutcomeChange::Added => self.added += 1,
            OutcomeChange::Removed => {
                self.removed += 1;
                return;
            }
            OutcomeChange::Same => {}
        }
        match outcome.decided {
            Decided::Alert(_) => self.alerts += 1,
            Decided::Visit(_) => self.visits += 1,
        }
    }

    fn summary_record(&self, readings: u64, compares: bool) -> serde_json::Value {
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

    fn summary_text(&self, readings: u64, compares: bool) -> String {
        let Self { alerts, visits, added, removed } = self;
        let text =
            format!("{readings} readings, {alerts} alerts raised or cleared, {visits} visits");
        if compares { format!("{text}: {added} added, {removed} removed") } else { text }
    }
}
