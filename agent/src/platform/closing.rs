//! The signal by which parts of the agent learn that it stops.

use tokio::sync::watch;

/// Returns when the agent stops.
pub(crate) async fn told(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(closing.wait_for(|closing| *closing).await);
}
