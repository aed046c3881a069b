//! Sets one output on a separate thread, since a chip behind a bus or a file on a disk may hang.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pulsegate_sensors::NoReading;
use pulsegate_sensors::output::{OutputDriver, Wiring};

use crate::platform::aside::BlockingWorker;

/// Time limit for setting an output; a line takes microseconds, a file milliseconds.
const SETTING: Duration = Duration::from_secs(5);
/// Time limit for switching off, at the end and before an output's lines are given to another
/// output.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Handle of one output; see the module. Clones set the same output.
#[derive(Debug, Clone)]
pub(super) struct OutputSetter {
    aside: BlockingWorker,
    /// `None` after the output was released. Only the thread of `aside` takes this lock.
    output: Arc<Mutex<Option<OutputDriver>>>,
}

impl OutputSetter {
    pub(super) fn new(id: &str, wiring: Wiring) -> Self {
        let output = Arc::new(Mutex::new(Some(OutputDriver::new(wiring))));
        Self { aside: BlockingWorker::new(&format!("output {id}")), output }
    }

    /// Sets the output to `value`, opening it first if needed.
    ///
    /// # Errors
    /// Returns the reason the output could not be set.
    pub(super) async fn set_value(&self, value: u32) -> Result<(), NoReading> {
        let output = Arc::clone(&self.output);
        let set =
            move || lock_mutex(&output).as_mut().map_or(Ok(()), |output| output.set_value(value));
        let done = self.aside.run(SETTING, set).await;
        done.unwrap_or_else(|not_done| {
            let text = format!("hung: {not_done}; check the chip and its bus, or the file's disk");
            Err(NoReading::Failed(text))
        })
    }

    /// Switches the output off and closes it. If the call hangs, the output is left to its thread.
    pub(super) async fn switch_off(self) {
        let output = Arc::clone(&self.output);
        if let Err(not_done) =
            self.aside.run(LETTING_GO, move || drop(lock_mutex(&output).take())).await
        {
            tracing::warn!(%not_done, "an output was left as it is");
        }
    }
}

/// Equal if both handles set the same output.
impl PartialEq for OutputSetter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.output, &other.output)
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_output_that_hangs_has_a_reason_and_is_set_once_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let lamp = folder.path().join("lamp");
        let setter = OutputSetter::new("lamp", Wiring::File(lamp.clone()));
        let (release, released) = mpsc::channel::<()>();
        let hang = setter.aside.run(SETTING, move || released.recv().ok()).await;
        assert!(hang.is_err());

        let reason = setter.set_value(1).await.unwrap_err();
        assert!(!lamp.exists());
        setter.clone().switch_off().await;
        drop(release);
        tokio::time::resume();
        setter.set_value(1).await.unwrap();

        assert!(reason.to_string().contains("hung: "), "{reason}");
        assert_eq!(std::fs::read_to_string(&lamp).unwrap(), "1\n");
        setter.switch_off().await;
        assert_eq!(std::fs::read_to_string(&lamp).unwrap(), "0\n");
    }
}
