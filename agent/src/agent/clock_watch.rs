//! Watches the clocks, and notifies the store if the wall clock was set or stepped.

use std::time::Duration;

use pulsegate_core::time::clock::ClockReports;
use pulsegate_core::time::timeline::ClockTrust;
use tokio::sync::watch;

use crate::config::Trust as Policy;
use crate::context::Tasks;
use crate::platform::clock::{self, Witnesses};
use crate::store::Store;

/// Time within which a step is noticed; readings taken in between are corrected, too.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Starts the watch. Returns whether the clock is set.
pub(super) fn start(tasks: &mut Tasks, policy: Policy, store: &Store) -> watch::Receiver<bool> {
    let (is_set, seen) = watch::channel(false);
    tasks.spawn(run(policy, store.clone(), is_set));
    seen
}

/// Watches until the store stops.
async fn run(policy: Policy, store: Store, is_set: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut witnesses = Witnesses::new(policy == Policy::System, store.last_trusted);
    let mut reports = ClockReports::default();
    let mut interval = tokio::time::interval(WATCH_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = witnesses.wait_for_answer() => {}
        }
        let trust = witnesses.assess_trust();
        let was_set = is_set.send_replace(trust == ClockTrust::Trusted);
        if trust == ClockTrust::Trusted && !was_set {
            tracing::info!("the clock is set");
        }
        let (mono, wall) = (clock::mono(), clock::wall());
        if reports.admit_report(mono, wall, trust) {
            store.observe_clock(mono, wall, trust).await?;
        }
    }
}
