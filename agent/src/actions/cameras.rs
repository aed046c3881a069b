//! The cameras: takes a picture when a rule or a visit asks for one, and tells of it.
//!
//! Which camera takes one when is decided in `pulsegate_core::act::capture`; this runs the program, keeps
//! the picture in a folder of its own, and then appends an event that links it to its alert or visit.
//! A picture without its event, after a power cut between the two, is kept like the others and told
//! of by nobody. A camera that fails is an event with its reason, seldom repeated (P7).

mod album;
mod folder;
mod shot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::act::capture::{Camera, Quota};
use pulsegate_core::act::standing::{Standing, Turn};
use pulsegate_core::record::event::{Event, PictureMembers, PictureReason};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::time::Mono;
use pulsegate_core::visits::Moment;
use pulsegate_core::visits::VisitSpec;
use pulsegate_sensors::Sources;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::db::EventRow;
use crate::platform::clock;
use crate::platform::closing::told;
use crate::store::{Stopped, Store};
use album::Album;
use folder::Picture;
pub(crate) use shot::Recipe;

/// The folder of the pictures, in the state directory.
pub(crate) const FOLDER: &str = "pictures";

/// Which cameras there are, and what is wanted of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) cameras: Vec<CameraPlan>,
    /// What all pictures may have.
    pub(crate) max_bytes: u64,
    pub(crate) rules: Arc<Vec<RuleSpec>>,
    pub(crate) visits: Vec<VisitSpec>,
}

/// One camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CameraPlan {
    pub(crate) id: Box<str>,
    pub(crate) recipe: Recipe,
    pub(crate) rest: Duration,
}

/// How a camera is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CameraState {
    pub(crate) id: Box<str>,
    pub(crate) taken: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Why the last picture could not be taken, if it could not.
    pub(crate) failure: Option<String>,
}

/// All cameras and their pictures, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CameraStates {
    pub(crate) cameras: Vec<CameraState>,
    pub(crate) kept: usize,
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    /// Pictures that went for newer ones, since the start.
    pub(crate) evicted: usize,
}

/// What the cameras follow.
pub(crate) struct Darkroom {
    pub(crate) store: Store,
    pub(crate) sources: Arc<Sources>,
    pub(crate) plans: watch::Receiver<Arc<Plan>>,
    /// Set when the agent stops.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) states: watch::Sender<CameraStates>,
}

/// A camera with how it is.
struct Manned {
    camera: Camera,
    recipe: Recipe,
    state: CameraState,
}

/// A picture that was taken, or was not.
struct Shot {
    camera: Box<str>,
    /// When it began.
    at: Mono,
    why: Turn,
    /// With how many older ones went for it.
    outcome: Result<(Picture, usize), String>,
}

struct Work {
    store: Store,
    sources: Arc<Sources>,
    plan: Arc<Plan>,
    manned: Vec<Manned>,
    album: Option<Album>,
    /// None: the folder was opened.
    shots: JoinSet<Option<Shot>>,
    /// Pictures begun since the agent started.
    begun: u64,
    evicted: usize,
}

/// Takes pictures until the agent stops; what is being taken then is given up.
///
/// # Errors
/// When the store is gone.
pub(crate) async fn run(mut room: Darkroom) -> anyhow::Result<()> {
    let mut standing = room.store.standing();
    let mut seen = Standing::default();
    let mut work = Work {
        store: room.store,
        sources: room.sources,
        plan: Arc::default(),
        manned: Vec::new(),
        album: None,
        shots: JoinSet::new(),
        begun: 0,
        evicted: 0,
    };
    work.follow(Arc::clone(&room.plans.borrow_and_update()));
    loop {
        work.show(&room.states);
        tokio::select! {
            changed = standing.changed() => {
                changed?;
                let stands = standing.borrow_and_update().clone();
                work.begin(stands.since(&seen));
                seen = stands;
            }
            Some(shot) = work.shots.join_next() => match shot {
                Ok(Some(shot)) => work.finish(shot).await?,
                Ok(None) => {}
                Err(error) => anyhow::bail!("a picture was lost: {error}"),
            },
            Ok(()) = room.plans.changed() => {
                work.follow(Arc::clone(&room.plans.borrow_and_update()));
            }
            () = told(&mut room.closing) => return Ok(()),
        }
    }
}

impl Work {
    fn follow(&mut self, plan: Arc<Plan>) {
        let mut before = std::mem::take(&mut self.manned);
        for wanted in &plan.cameras {
            let camera = Camera::new(&wanted.id, wanted.rest, &plan.rules, &plan.visits);
            let old = before.iter().position(|old| old.state.id == wanted.id);
            let (camera, state) = match old.map(|old| before.swap_remove(old)) {
                Some(old) => (camera.after(&old.camera), old.state),
                None => (camera, CameraState::new(&wanted.id)),
            };
            self.manned.push(Manned { camera, recipe: wanted.recipe.clone(), state });
        }
        self.plan = plan;
        if self.album.is_none() && !self.manned.is_empty() {
            let album = Album::new(&self.plan.folder);
            self.album = Some(album.clone());
            self.shots.spawn(async move {
                if let Err(reason) = album.work(|_| Ok(())).await {
                    tracing::error!(reason, "pictures cannot be kept");
                }
                None
            });
        }
    }

    fn begin(&mut self, turns: Vec<Turn>) {
        let now = clock::mono();
        for turn in turns {
            for at in 0..self.manned.len() {
                let one = &mut self.manned[at];
                if one.camera.handle_turn(&turn, now) {
                    let (camera, recipe) = (one.state.id.clone(), one.recipe.clone());
                    self.shoot(camera, recipe, turn.clone(), now);
                }
                let one = &mut self.manned[at];
                one.state.skipped = one.camera.skipped;
            }
        }
    }

    fn shoot(&mut self, camera: Box<str>, recipe: Recipe, why: Turn, at: Mono) {
        let quota = self.quota();
        self.begun += 1;
        // Sorts by age, and is never used again, whatever the clock and the state directory do.
        let boot = self.store.boot;
        let (counter, suffix) = (boot.counter(), boot.suffix());
        let key = format!("{counter:08}{suffix}-{:06}-{camera}.jpg", self.begun);
        let Some(album) = self.album.clone() else { return };
        self.shots.spawn(async move {
            let outcome = shot::take(recipe, album, key, quota).await;
            Some(Shot { camera, at, why, outcome })
        });
    }

    async fn finish(&mut self, shot: Shot) -> Result<(), Stopped> {
        let evicted = shot.outcome.as_ref().map_or(0, |(_, evicted)| *evicted);
        self.evicted += evicted;
        let now = clock::mono();
        let Some(one) = self.manned.iter_mut().find(|one| one.state.id == shot.camera) else {
            // A reload took the camera away; its picture stays.
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
        self.store.event(EventRow { event, mono: shot.at }).await
    }

    fn quota(&self) -> Quota {
        Quota::new(self.plan.max_bytes, self.manned.len())
    }

    fn show(&self, states: &watch::Sender<CameraStates>) {
        let (kept, bytes) = self.album.as_ref().map(Album::holds).unwrap_or_default();
        let cameras = self.manned.iter().map(|one| one.state.clone()).collect();
        let (max_bytes, evicted) = (self.plan.max_bytes, self.evicted);
        let now = CameraStates { cameras, kept, bytes, max_bytes, evicted };
        states.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
    }
}

impl CameraState {
    fn new(id: &str) -> Self {
        Self { id: id.into(), taken: 0, failed: 0, skipped: 0, failure: None }
    }
}

/// The members of the event of a picture, with the alert or the visit that asked for it.
fn picture_members(
    camera: String,
    picture: Picture,
    turn: &Turn,
    sources: &Sources,
) -> PictureMembers {
    let Picture { key, bytes, sha256 } = picture;
    let reason = match turn {
        Turn::Raised { .. } => PictureReason::Alert,
        Turn::Visit { moment: Moment::Begin, .. } => PictureReason::Begin,
        Turn::Visit { moment: Moment::Opening, .. } => PictureReason::Opening,
        Turn::Visit { moment: Moment::End, .. } => PictureReason::End,
    };
    let (rule, source, visit) = match turn {
        Turn::Raised { rule, source } => {
            let source = sources.get(*source).map(|source| source.name.to_string());
            (Some(rule.to_string()), source, None)
        }
        Turn::Visit { source, visit, .. } => {
            (None, Some(source.to_string()), Some(visit.to_string()))
        }
    };
    PictureMembers { bytes, camera, evicted: None, key, reason, rule, sha256, source, visit }
}
