//! `pulsegate demo`: a demonstration on one machine. The stand-in cloud runs in this process, and
//! the real agent as a process of its own, with simulated belts, a lid and a number. An alert is
//! raised and cleared, and the link is cut and restored. At the end the stored records are compared
//! with the records in the cloud.

mod cloud;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use self::cloud::Cloud;
use self::stage::Stage;
use super::arguments::parse_duration_argument;
use super::{exit_with_error, print_text};

/// Time from the start until the link is cut.
const CUT: Duration = Duration::from_secs(15);
/// Time from the start until the link is restored.
const MENDED: Duration = Duration::from_secs(21);
/// Time for the queue to drain. A demo that ends earlier after [`MENDED`] does not cut the link.
const RECOVERY: Duration = Duration::from_secs(6);
/// Pause between two questions to the agent.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The duration of the demonstration; below `27s`, the link is not cut
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = parse_duration_argument)]
    duration: Duration,
    /// Print only one JSON object, at the end
    #[arg(long)]
    json: bool,
}

/// The result of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Count {
    recorded: u64,
    delivered: u64,
    duplicates: u64,
    lost: u64,
    alerts: u64,
}

/// Runs the demo; succeeds only if nothing was lost.
pub(crate) fn run(demo: &Demo) -> ExitCode {
    match play_demo(demo) {
        Ok(count) => {
            let text = if demo.json { count.to_json() } else { count.to_text() };
            let printed = print_text(&text);
            if count.lost == 0 && count.recorded > 0 { printed } else { ExitCode::FAILURE }
        }
        Err(error) => exit_with_error(&error),
    }
}

impl Count {
    fn to_json(self) -> String {
        serde_json::to_string(&self).expect("numbers are JSON")
    }

    fn to_text(self) -> String {
        format!(
            "\nrecorded {}   delivered {}   duplicates {}   lost {}   alerts {}",
            self.recorded, self.delivered, self.duplicates, self.lost, self.alerts
        )
    }
}

fn play_demo(demo: &Demo) -> anyhow::Result<Count> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let cloud = Cloud::start_broker().await?;
        let mut stage = Stage::set_up_stage(&cloud, demo.json)?;
        let shown = show_scenario(demo.duration, &cloud, &mut stage).await;
        let ended = stage.stop_agent().await;
        shown?;
        ended?;
        count_outcome(&cloud, &stage)
    })
}

async fn show_scenario(duration: Duration, cloud: &Cloud, stage: &mut Stage) -> anyhow::Result<()> {
    stage.print_line("a broker with mutual TLS, three belts, a lid and a thermometer");
    let mut look = tokio::time::interval(LOOK_EVERY);
    let (mut is_cut, mut was_cut, mut told_up, mut queue) = (false, false, false, 0);
    while stage.elapsed() < duration {
        look.tick().await;
        if let Some(exit) = stage.agent_ended()? {
            bail!("the agent ended: {exit}\n{}", stage.read_log());
        }
        for line in cloud.take_news() {
            stage.print_line(&line);
        }
        let at = stage.elapsed();
        if !was_cut && at >= CUT && duration >= MENDED + RECOVERY {
            stage.print_line("the link is cut; readings queue on disk");
            cloud.cut_link();
            (is_cut, was_cut) = (true, true);
        }
        let pending = stage.show_progress(cloud.count_arrived());
        queue = queue.max(if is_cut { pending.unwrap_or(0) } else { 0 });
        if is_cut && at >= MENDED {
            stage.print_line(&format!("the link is mended; {queue} records have queued"));
            cloud.restore_link();
            is_cut = false;
        }
        if !told_up && cloud.count_arrived() > 0 {
            stage.print_line("the first records are acknowledged");
            told_up = true;
        }
    }
    Ok(())
}

fn count_outcome(cloud: &Cloud, stage: &Stage) -> anyhow::Result<Count> {
    let (recorded, alerts) = stage.count_recorded()?;
    let (delivered, duplicates) = cloud.count_deliveries();
    Ok(Count { recorded, delivered, duplicates, lost: recorded.saturating_sub(delivered), alerts })
}
