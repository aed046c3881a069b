//! Waiting, the only way that tests do it: on a predicate, with a deadline.

use std::time::Duration;

/// How long a test waits for what should take a moment: long enough for a busy machine with two
/// cores, since only a failing test waits it out.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks: short beside what is awaited, long enough not to slow it down.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks again and again until `probe` finds something, and returns it.
///
/// # Panics
/// When it has found nothing within `deadline`: says that `what` did not happen.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    match within(deadline, probe).await {
        Some(found) => found,
        None => panic!("{what}: not within {deadline:?}"),
    }
}

/// As [`eventually`], for a caller that has more to say when nothing was found.
pub async fn within<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let look = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(deadline, look).await.ok()
}
