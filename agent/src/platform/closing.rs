//! Stop signal that the parts of the agent wait for.

use tokio::sync::watch;

/// Waits until the agent stops.
pub(crate) async fn told(closing: &mut watch::Receiver<bool>) {
    // A dropped sender also means stop.
    drop(closing.wait_for(|closing| *closing).await);
}
