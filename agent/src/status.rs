//! The status socket: each client is sent the status as a JSON object, and the connection is
//! closed. Clients cannot change anything.

mod answer;
mod model;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use pulsegate_core::cloud::delivery::RefusedTopic;
use pulsegate_core::time::Mono;
use pulsegate_sensors::places::{ConnectionPlace, Places};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use crate::actions::cameras::CameraStates;
use crate::actions::outputs::OutputStates;
use crate::cloud::mqtt::LinkState;
use crate::cloud::publisher::PublisherState;
use crate::config::Config;
use crate::context::Context;
use crate::platform::clock;
use crate::sources::drivers::Overview;
use crate::sources::sampler::SourceStates;
use crate::store::Store;
pub(crate) use model::{
    CameraStatus, DiskStatus, LinkStatus, OutputStatus, PicturesStatus, Refusal, SourceStatus,
    Status,
};

/// Time for sending the status to a client who does not read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at once. Bounds their memory and descriptors.
const MAX_ASKERS: usize = 16;
/// Clients at once of the same user, so other users always get an answer.
const MAX_ASKERS_OF_A_USER: usize = MAX_ASKERS / 2;
/// Pause after a failed accept: most likely no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Pause before the socket is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The state from which the status is composed.
#[derive(Clone)]
struct Observed {
    thing: String,
    started: Mono,
    max_bytes: u64,
    store: Store,
    clock_set: watch::Receiver<bool>,
    parts: PartStates,
}

/// State of each part, from its handle.
#[derive(Clone)]
pub(crate) struct PartStates {
    pub(crate) sources: watch::Receiver<SourceStates>,
    pub(crate) drivers: watch::Receiver<Overview>,
    pub(crate) outputs: watch::Receiver<OutputStates>,
    pub(crate) cameras: watch::Receiver<CameraStates>,
    pub(crate) link: watch::Receiver<LinkState>,
    pub(crate) publisher: watch::Receiver<PublisherState>,
    /// The refused topics.
    pub(crate) refused: watch::Receiver<Vec<RefusedTopic>>,
    /// Faults that belong to no single part.
    pub(crate) troubles: watch::Receiver<Vec<String>>,
}

/// Starts the status socket.
pub(crate) fn start_status(context: &mut Context, config: &Config, parts: PartStates) {
    let observed = Observed {
        thing: config.thing.clone(),
        started: clock::mono(),
        max_bytes: config.buffer.max_bytes,
        store: context.store.clone(),
        clock_set: context.clock_set.clone(),
        parts,
    };
    context.tasks.spawn(serve_status(config.status.socket.clone(), observed));
}

/// Answers clients until the agent stops. If the socket cannot be made, tries again every
/// [`RETRY`]; the agent goes on (P7).
async fn serve_status(path: PathBuf, observed: Observed) -> anyhow::Result<()> {
    let listener = loop {
        match pulsegate_sensors::inbox::bind_socket(&path) {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "nobody can ask for the status");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let places = Places::new(MAX_ASKERS, MAX_ASKERS_OF_A_USER);
    let socket = places.register_socket();
    let mut askers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match places.admit_connection(socket, &stream) {
                    Some(place) => {
                        askers.spawn(timeout(PATIENCE, send_unless_displaced(place, stream, observed.clone())));
                    }
                    None => turn_away(&stream),
                },
                Err(error) => {
                    tracing::debug!(%error, "nobody can ask for the status for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = askers.join_next(), if !askers.is_empty() => {}
        }
    }
}

fn turn_away(stream: &UnixStream) {
    let refusal = Refusal { error: "too many ask for the status at once".to_owned() };
    let answer = serde_json::to_vec(&refusal).unwrap_or_default();
    let courtesy = stream.try_write(&answer);
    tracing::debug!(told = courtesy.is_ok(), "turned somebody away who asked for the status");
}

/// Answers a client, unless another user needs the place first.
async fn send_unless_displaced(place: ConnectionPlace, stream: UnixStream, observed: Observed) {
    tokio::select! {
        () = place.wait_until_lost() => tracing::debug!("whoever asked for the status made room"),
        () = send_status(stream, observed) => {}
    }
}

async fn send_status(mut stream: UnixStream, observed: Observed) {
    let status = answer::compose_status(&observed, clock::mono()).await;
    let answer = match status.to_json() {
        Ok(answer) => answer,
        Err(error) => return tracing::error!(%error, "cannot write the status as JSON"),
    };
    if let Err(error) = stream.write_all(answer.as_bytes()).await {
        tracing::debug!(%error, "whoever asked for the status left");
    }
}
