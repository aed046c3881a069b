//! Takes pictures for rules and visits, and records them as events.
//!
//! `pulsegate_core::act::capture` decides which camera takes a picture and when. This module runs
//! the program, keeps the picture in the cameras' folder, and then appends an event that links the
//! picture to its alert or visit. If power fails between the two, the picture stays and no event
//! reports it. A failing camera causes an event with the reason, at a limited rate (P7).

mod album;
mod folder;
mod shot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::act::capture::{CameraControl, Quota};
use pulsegate_core::act::standing::{ActionTrigger, Standing};
use pulsegate_core::record::event::{Event, PictureMembers, PictureReason};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::time::Mono;
use pulsegate_core::visits::Moment;
use pulsegate_core::visits::VisitSpec;
use pulsegate_sensors::Sources;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{self, Config};
use crate::context::{Context, send_if_changed, wait_for_stop};
use crate::db::EventRow;
use crate::platform::clock;
use crate::store::{Stopped, Store};
use album::PictureStore;
use folder::Picture;
use shot::Recipe;

/// Name of the picture folder in the state directory.
const FOLDER: &str = "pictures";

/// Configured cameras, with the rules and visits that trigger them.
#[derive(Debug, Clone, PartialEq, Default)]
struct PicturePlan {
    folder: PathBuf,
    cameras: Vec<CameraPlan>,
    /// Limit of all pictures together, in bytes.
    max_bytes: u64,
    rules: Arc<Vec<RuleSpec>>,
    visits: Vec<VisitSpec>,
}

/// Configuration of one camera.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CameraPlan {
    id: Box<str>,
    recipe: Recipe,
    rest: Duration,
}

/// State of one camera, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CameraState {
    pub(crate) id: Box<str>,
    pub(crate) taken: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Reason for the failure of the last picture, if any.
    pub(crate) failure: Option<String>,
}

/// State of all cameras and their pictures, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CameraStates {
    pub(crate) cameras: Vec<CameraState>,
    pub(crate) kept: usize,
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    /// Number of pictures deleted for newer ones, since the start.
    pub(crate) evicted: usize,
}

/// Handle of the cameras.
pub(crate) struct CameraHandle {
    pub(crate) state: watch::Receiver<CameraStates>,
    plans: watch::Sender<Arc<PicturePlan>>,
}

/// Camera with its recipe and state.
struct ManagedCamera {
    camera: CameraControl,
    recipe: Recipe,
    state: CameraState,
}

/// Result of one attempt to take a picture.
struct Shot {
    camera: Box<str>,
    /// Monotonic time at the start of the attempt.
    at: Mono,
    why: ActionTrigger,
    /// Picture and number of older pictures deleted for it, or the reason for the failure.
    outcome: Result<(Picture, usize), String>,
}

/// Task that takes the pictures.
struct CameraTask {
    store: Store,
    sources: Arc<Sources>,
    states: watch::Sender<CameraStates>,
    plan: Arc<PicturePlan>,
    manned: Vec<ManagedCamera>,
    album: Option<PictureStore>,
    /// Running attempts; `None` is the result of opening the folder.
    shots: JoinSet<Option<Shot>>,
    /// Number of pictures begun since the agent started.
    begun: u64,
    evicted: usize,
}

/// Starts the cameras.
pub(crate) fn start(context: &mut Context, config: &Config) -> CameraHandle {
    let (plans, plans_seen) = watch::channel(build_plan(config));
    let (states, state) = watch::channel(CameraStates::default());
    let task = CameraTask {
        store: context.store.clone(),
        sources: Arc::clone(&context.sources),
        states,
        plan: Arc::default(),
        manned: Vec::new(),
        album: None,
        shots: JoinSet::new(),
        begun: 0,
        evicted: 0,
    };
    context.tasks.spawn(task.run(plans_seen, context.closing.subscribe()));
    CameraHandle { state, plans }
}

impl CameraHandle {
    /// Applies a new configuration.
    pub(crate) fn follow(&self, config: &Config) {
        send_if_changed(&self.plans, build_plan(config));
    }
}

/// Builds the plan that `config` asks for.
fn build_plan(config: &Config) -> Arc<PicturePlan> {
    let camera = |camera: &config::Camera| CameraPlan {
        id: camera.id.as_str().into(),
        recipe: Recipe {
            command: camera.capture.command.clone(),
            deadline: camera.capture.deadline,
        },
        rest: camera.capture.rest,
    };
    Arc::new(PicturePlan {
        folder: config.state_dir.join(FOLDER),
        cameras: config.sensors.cameras.iter().map(camera).collect(),
        max_bytes: config.pictures.max_bytes,
        rules: Arc::clone(&config.rules),
        visits: config.visit_specs(),
    })
}

impl CameraTask {
    /// Takes pictures until the agent stops; pictures in progress are abandoned then.
    ///
    /// # Errors
    /// Returns an error if the store is gone.
    async fn run(
        mut self,
        mut plans: watch::Receiver<Arc<PicturePlan>>,
        mut closing: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut standing = self.store.watch_standing();
        let mut seen = Standing::default();
        self.follow(Arc::clone(&plans.borrow_and_update()));
        loop {
            self.show();
            tokio::select! {
                changed = standing.changed() => {
                    changed?;
                    let stands = standing.borrow_and_update().clone();
                    self.begin(stands.triggers_since(&seen));
                    seen = stands;
                }
                Some(shot) = self.shots.join_next() => match shot {
                    Ok(Some(shot)) => self.finish(shot).await?,
                    Ok(None) => {}
                    Err(error) => anyhow::bail!("a picture was lost: {error}"),
                },
                Ok(()) = plans.changed() => {
                    self.follow(Arc::clone(&plans.borrow_and_update()));
                }
                () = wait_for_stop(&mut closing) => return Ok(()),
            }
        }
    }

    fn follow(&mut self, plan: Arc<PicturePlan>) {
        let mut before = std::mem::take(&mut self.manned);
        for wanted in &plan.cameras {
            let camera = CameraControl::new(&wanted.id, wanted.rest, &plan.rules, &plan.visits);
            let old = before.iter().position(|old| old.state.id == wanted.id);
            let (camera, state) = match old.map(|old| before.swap_remove(old)) {
                Some(old) => (camera.with_state_of(&old.camera), old.state),
                None => (camera, CameraState::new(&wanted.id)),
            };
            self.manned.push(ManagedCamera { camera, recipe: wanted.recipe.clone(), state });
        }
        self.plan = plan;
        if self.album.is_none() && !self.manned.is_empty() {
            let album = PictureStore::new(&self.plan.folder);
            self.album = Some(album.clone());
            self.shots.spawn(async move {
                if let Err(reason) = album.run_with_folder(|_| Ok(())).await {
                    tracing::error!(reason, "pictures cannot be kept");
                }
                None
            });
        }
    }

    fn begin(&mut self, turns: Vec<ActionTrigger>) {
        let now = clock::mono();
        for turn in turns {
            for at in 0..self.manned.len() {
                let one = &mut self.manned[at];
                if one.camera.handle_trigger(&turn, now) {
                    let (camera, recipe) = (one.state.id.clone(), one.recipe.clone());
                    self.shoot(camera, recipe, turn.clone(), now);
                }
                let one = &mut self.manned[at];
                one.state.skipped = one.camera.skipped;
            }
        }
    }

    fn shoot(&mut self, camera: Box<str>, recipe: Recipe, why: ActionTrigger, at: Mono) {
        let quota = self.quota();
        self.begun += 1;
        // The key sorts by age and stays unique even if the clock steps or the state directory is
        // restored.
        let boot = self.store.boot;
        let (counter, suffix) = (boot.counter(), boot.suffix());
        let key = format!("{counter:08}{suffix}-{:06}-{camera}.jpg", self.begun);
        let Some(album) = self.album.clone() else { return };
        self.shots.spawn(async move {
            let outcome = shot::take_picture(recipe, album, key, quota).await;
            Some(Shot { camera, at, why, outcome })
        });
    }

    async fn finish(&mut self, shot: Shot) -> Result<(), Stopped> {
        let evicted = shot.outcome.as_ref().map_or(0, |(_, evicted)| *evicted);
        self.evicted += evicted;
        let now = clock::mono();
        let Some(one) = self.manned.iter_mut().find(|one| one.state.id == shot.camera) else {
            // A reload removed the camera; its picture stays.
            return Ok(());
        };
        let camera = shot.camera.to_string();
        let event = match shot.outcome {
            Ok((picture, _)) => {
                one.camera.handle_taken(now);
                one.state.taken += 1;
                one.state.failure = None;
                let evicted = Some(evicted).filter(|evicted| *evicted > 0);
                let members = picture_members(camera, picture, &shot.why, &self.sources);
                Event::Picture(PictureMembers { evicted, ..members })
            }
            Err(reason) => {
                one.state.failed += 1;
                tracing::warn!(camera = &*shot.camera, reason, "no picture");
                one.state.failure = Some(reason.clone());
                let Some(failures) = one.camera.handle_failed(now) else { return Ok(()) };
                Event::PictureFailed { camera, failures, reason }
            }
        };
        self.store.append_event(EventRow { event, mono: shot.at }).await
    }

    fn quota(&self) -> Quota {
        Quota::new(self.plan.max_bytes, self.manned.len())
    }

    fn show(&self) {
        let (kept, bytes) = self.album.as_ref().map(PictureStore::kept_totals).unwrap_or_default();
        let cameras = self.manned.iter().map(|one| one.state.clone()).collect();
        let (max_bytes, evicted) = (self.plan.max_bytes, self.evicted);
        send_if_changed(&self.states, CameraStates { cameras, kept, bytes, max_bytes, evicted });
    }
}

impl CameraState {
    fn new(id: &str) -> Self {
        Self { id: id.into(), taken: 0, failed: 0, skipped: 0, failure: None }
    }
}

/// Returns the members of a picture's event, with the alert or visit that triggered the picture.
fn picture_members(
    camera: String,
    picture: Picture,
    turn: &ActionTrigger,
    sources: &Sources,
) -> PictureMembers {
    let Picture { key, bytes, sha256 } = picture;
    let reason = match turn {
        ActionTrigger::Raised { .. } => PictureReason::Alert,
        ActionTrigger::Visit { moment: Moment::Begin, .. } => PictureReason::Begin,
        ActionTrigger::Visit { moment: Moment::Opening, .. } => PictureReason::Opening,
        ActionTrigger::Visit { moment: Moment::End, .. } => PictureReason::End,
    };
    let (rule, source, visit) = match turn {
        ActionTrigger::Raised { rule, source } => {
            let source = sources.get(*source).map(|source| source.name.to_string());
            (Some(rule.to_string()), source, None)
        }
        ActionTrigger::Visit { source, visit, .. } => {
            (None, Some(source.to_string()), Some(visit.to_string()))
        }
    };
    PictureMembers { bytes, camera, evicted: None, key, reason, rule, sha256, source, visit }
}
