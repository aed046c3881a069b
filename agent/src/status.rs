//! `status`: how the agent is, asked over a Unix socket. Whoever connects is sent one JSON object,
//! and the connection is closed. Nothing can be changed through it.

mod answer;

use std::path::PathBuf;

use pulsegate_core::time::Mono;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use crate::cameras::CameraStates;
use crate::drivers::Overview;
use crate::mqtt::LinkState;
use crate::outputs::OutputStates;
use crate::publisher::PublisherState;
use crate::sampler::SourceStates;
use crate::store::Store;

/// Whoever asks and does not listen is left alone after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bounds what askers can cost at once.
const MAX_ASKERS: usize = 16;
/// How long to wait before the socket is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Where to look when somebody asks.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) thing: String,
    pub(crate) started: Mono,
    pub(crate) store: Store,
    pub(crate) links: watch::Receiver<LinkState>,
    pub(crate) clock_set: watch::Receiver<bool>,
    pub(crate) sources: watch::Receiver<SourceStates>,
    pub(crate) publisher: watch::Receiver<PublisherState>,
    pub(crate) drivers: watch::Receiver<Overview>,
    pub(crate) outputs: watch::Receiver<OutputStates>,
    pub(crate) cameras: watch::Receiver<CameraStates>,
    /// What is wrong and belongs to no part.
    pub(crate) troubles: watch::Receiver<Vec<String>>,
    pub(crate) max_bytes: u64,
}

/// Answers until the agent stops. A socket that cannot be had is no reason to end (P7).
pub(crate) async fn serve(path: PathBuf, observed: Observed) -> anyhow::Result<()> {
    let listener = loop {
        match pulsegate_sensors::inbox::bind(&path) {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "nobody can ask for the status");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let mut askers = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept(), if askers.len() < MAX_ASKERS => {
                askers.spawn(timeout(PATIENCE, tell(stream, observed.clone())));
            }
            Some(_) = askers.join_next() => {}
        }
    }
}

async fn tell(mut stream: UnixStream, observed: Observed) {
    let answer = answer::compose(&observed).await;
    if let Err(error) = stream.write_all(answer.to_string().as_bytes()).await {
        tracing::debug!(%error, "whoever asked for the status left");
    }
}
