//! Switches lamps, buzzers and displays for rules and visits.
//!
//! `pulsegate_core::act::output` decides the value of each output; this module sets the value. All
//! outputs are off at the start, until the standing alerts are known, and at the end. An output
//! that cannot be set is reported once, as an event and as degraded, and retried until it works
//! (P7).

mod plan;
mod setter;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pulsegate_core::act::output::Outputs;
use pulsegate_core::act::standing::Standing;
use pulsegate_core::record::event::Event;
use pulsegate_core::time::Mono;
use pulsegate_sensors::NoReading;
use pulsegate_sensors::output::Wiring;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Output};
use crate::context::{Context, QUIESCE, send_if_changed, wait_for_stop};
use crate::db::EventRow;
use crate::platform::clock;
use crate::store::Store;
use plan::{Plan, build_plan};
use setter::OutputSetter;

/// Interval between retries of a failed output.
const RETRY: Duration = Duration::from_secs(10);
/// Interval between evaluations while nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// State of one output, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputState {
    pub(crate) id: Box<str>,
    /// Value that was set last.
    pub(crate) value: Option<u32>,
    /// Number of changes of the value.
    pub(crate) switched: u64,
    /// Reason for the failure, while the output cannot be set.
    pub(crate) failure: Option<String>,
}

/// State of all outputs and the night, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OutputStates {
    pub(crate) outputs: Vec<OutputState>,
    /// `true` at night; `None` if no output depends on the night or the time is unknown.
    pub(crate) is_night: Option<bool>,
}

/// Handle of the outputs.
pub(crate) struct OutputHandle {
    pub(crate) state: watch::Receiver<OutputStates>,
    plans: watch::Sender<Arc<Plan>>,
}

/// Inputs and outputs of the output task.
struct OutputTask {
    store: Store,
    plans: watch::Receiver<Arc<Plan>>,
    clock_set: watch::Receiver<bool>,
    /// Set when the agent stops.
    closing: watch::Receiver<bool>,
    states: watch::Sender<OutputStates>,
}

/// Output with its wiring.
struct WiredOutput {
    state: OutputState,
    wiring: Wiring,
    setter: OutputSetter,
    /// `true` while a value is being set.
    is_moving: bool,
    retry_at: Option<Mono>,
    lost_since: Option<Mono>,
}

/// Result of setting an output.
struct SetResult {
    /// Identity of the output: after a reload, its id may belong to another output.
    setter: OutputSetter,
    value: u32,
    outcome: Result<(), NoReading>,
}

/// Starts the outputs.
pub(crate) fn start(context: &mut Context, config: &Config) -> OutputHandle {
    let (plans, plans_seen) = watch::channel(build_plan(config));
    let (states, state) = watch::channel(OutputStates::default());
    context.tasks.spawn(run(OutputTask {
        store: context.store.clone(),
        plans: plans_seen,
        clock_set: context.clock_set.clone(),
        closing: context.closing.subscribe(),
        states,
    }));
    OutputHandle { state, plans }
}

impl OutputHandle {
    /// Applies a new configuration.
    pub(crate) fn follow(&self, config: &Config) {
        send_if_changed(&self.plans, build_plan(config));
    }

    /// Waits at most [`QUIESCE`] until the outputs are switched off, after the stop signal.
    pub(crate) async fn stop(&mut self) {
        let off = self.state.wait_for(|_| false);
        if tokio::time::timeout(QUIESCE, off).await.is_err() {
            tracing::warn!("the outputs were not switched off in time");
        }
    }
}

/// Drives the outputs until the agent stops, then switches all of them off.
///
/// # Errors
/// Returns an error if the store is gone.
async fn run(mut task: OutputTask) -> anyhow::Result<()> {
    let mut standing = task.store.watch_standing();
    let mut seen = Standing::default();
    let mut moves = JoinSet::new();
    let plan = Arc::clone(&task.plans.borrow_and_update());
    let (mut decisions, mut driven) = build_outputs(&plan, Vec::new()).await;
    loop {
        let now = clock::mono();
        let stands = standing.borrow_and_update().clone();
        for turn in stands.triggers_since(&seen) {
            decisions.handle_trigger(&turn, now);
        }
        seen = stands;
        let wall = task.clock_set.borrow_and_update().then(clock::wall);
        let levels = decisions.compute_levels(&seen, now, wall);
        for (output, value) in driven.iter_mut().zip(&levels.values) {
            output.start_setting(*value, now, &mut moves);
        }
        publish_states(&task.states, &driven, decisions.is_night());
        let retries = driven.iter().filter_map(|output| output.retry_at);
        let due = levels.due.into_iter().chain(retries).min().unwrap_or(now + LOOK_EVERY);
        tokio::select! {
            changed = standing.changed() => changed?,
            Some(done) = moves.join_next() => {
                let done: SetResult = done?;
                let mut outputs = driven.iter_mut();
                let event = outputs
                    .find(|output| output.setter == done.setter)
                    .and_then(|output| output.finish_setting(&done, clock::mono()));
                if let Some(event) = event {
                    task.store.append_event(event).await?;
                }
            }
            Ok(()) = task.plans.changed() => {
                let plan = Arc::clone(&task.plans.borrow_and_update());
                (decisions, driven) = build_outputs(&plan, driven).await;
            }
            Ok(()) = task.clock_set.changed() => {}
            () = wait_for_stop(&mut task.closing) => {
                join_all(driven.into_iter().map(|output| output.setter.switch_off())).await;
                return Ok(());
            }
            () = tokio::time::sleep(due.since(clock::mono())) => {}
        }
    }
}

/// Builds the decisions and the outputs of `plan`. Outputs with unchanged wiring stay open; the
/// others are switched off before any output is opened.
async fn build_outputs(plan: &Plan, before: Vec<WiredOutput>) -> (Outputs, Vec<WiredOutput>) {
    let specs = plan.outputs.iter().map(|output| output.spec.clone()).collect();
    let decisions = Outputs::new(specs, &plan.rules, &plan.visits, plan.night.clone());
    let same = |output: &Output, other: &WiredOutput| {
        other.state.id == output.spec.id && other.wiring == output.wiring
    };
    let (mut before, gone): (Vec<_>, Vec<_>) =
        before.into_iter().partition(|other| plan.outputs.iter().any(|output| same(output, other)));
    join_all(gone.into_iter().map(|output| output.setter.switch_off())).await;
    let driven = plan.outputs.iter().map(|output| {
        match before.iter().position(|other| same(output, other)) {
            Some(at) => before.swap_remove(at),
            None => WiredOutput::new(output.spec.id.clone(), output.wiring.clone()),
        }
    });
    (decisions, driven.collect())
}

fn publish_states(
    states: &watch::Sender<OutputStates>,
    driven: &[WiredOutput],
    is_night: Option<bool>,
) {
    let outputs = driven.iter().map(|output| output.state.clone()).collect();
    send_if_changed(states, OutputStates { outputs, is_night });
}

impl WiredOutput {
    fn new(id: Box<str>, wiring: Wiring) -> Self {
        let setter = OutputSetter::new(&id, wiring.clone());
        let state = OutputState { id, value: None, switched: 0, failure: None };
        Self { state, wiring, setter, is_moving: false, retry_at: None, lost_since: None }
    }

    /// Starts setting `value` unless the output already has that value.
    fn start_setting(&mut self, value: u32, now: Mono, moves: &mut JoinSet<SetResult>) {
        let rests = self.retry_at.is_some_and(|retry| now < retry);
        if self.is_moving || rests || self.state.value == Some(value) {
            return;
        }
        self.is_moving = true;
        let setter = self.setter.clone();
        moves.spawn(async move {
            let outcome = setter.set_value(value).await;
            SetResult { setter, value, outcome }
        });
    }

    /// Records the result of setting the output. Returns the event to append, if any.
    fn finish_setting(&mut self, done: &SetResult, now: Mono) -> Option<EventRow> {
        self.is_moving = false;
        match &done.outcome {
            Ok(()) => {
                let before = self.state.value.replace(done.value);
                self.state.switched += u64::from(before.is_some_and(|was| was != done.value));
                self.retry_at = None;
                self.works_again(now)
            }
            Err(reason) => {
                (self.state.value, self.retry_at) = (None, Some(now + RETRY));
                self.record_loss(now, reason)
            }
        }
    }

    fn record_loss(&mut self, now: Mono, reason: &NoReading) -> Option<EventRow> {
        self.state.failure = Some(reason.to_string());
        if self.lost_since.is_some() {
            return None;
        }
        self.lost_since = Some(now);
        tracing::warn!(output = &*self.state.id, %reason, "an output cannot be switched");
        let (output, reason) = (self.state.id.to_string(), reason.to_string());
        Some(EventRow { event: Event::OutputLost { output, reason }, mono: now })
    }

    fn works_again(&mut self, now: Mono) -> Option<EventRow> {
        self.state.failure = None;
        let seconds = now.since(self.lost_since.take()?).as_secs_f64();
        tracing::info!(
            output = &*self.state.id,
            lost_s = seconds,
            "an output can be switched again"
        );
        let output = self.state.id.to_string();
        Some(EventRow { event: Event::OutputReturned { output, seconds }, mono: now })
    }
}
