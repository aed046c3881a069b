//! Reloads the configuration: the file is read as a whole and applied only if it has no fault. Keys
//! that need a restart keep their values and are reported.

use std::path::PathBuf;
use std::time::Duration;

use super::parts::Parts;
use crate::config::{self, Config, Faults, Warning};
use crate::platform::aside::{Aside, NotDone};

/// Time limit for reading a configuration and the files that it names.
const READING: Duration = Duration::from_secs(30);

/// Result of reading the configuration again.
pub(super) type Loaded = Result<Result<(Config, Vec<Warning>), Faults>, NotDone>;

/// Reads the configuration again, on the thread of `reader`.
pub(super) async fn read(reader: Aside, path: PathBuf) -> Loaded {
    reader.run(READING, move || config::load(&path)).await
}

/// Applies a configuration that was read again, if it has no fault.
pub(super) async fn follow(loaded: Loaded, parts: &mut Parts) {
    let stays = ": the old one stays in force";
    let mut config = match loaded {
        Ok(Ok((config, _warnings))) => config,
        Ok(Err(faults)) => {
            tracing::error!(
                faults = faults.report().faults(),
                "the new configuration is not used: {faults}"
            );
            let trouble = match faults.report().faults() {
                1 => "the configuration was changed and has a fault".to_owned(),
                count => format!("the configuration was changed and has {count} faults"),
            } + stays
                + " (see `pulsegate check`)";
            parts.troubles.of_reload([trouble]);
            return;
        }
        Err(not_done) => {
            tracing::error!(%not_done, "the new configuration cannot be read");
            let trouble = format!("the configuration could not be read again ({not_done}){stays}");
            parts.troubles.of_reload([trouble]);
            return;
        }
    };
    let kept = keep_what_needs_a_restart(&parts.config, &mut config);
    let troubles = kept.iter().map(|key| format!("`{key}` changes only with a restart"));
    parts.troubles.of_reload(troubles);
    parts.follow(config).await;
    tracing::info!(needs_restart = ?kept, "the configuration was reloaded");
}

/// Restores the old values of keys that need a restart in `new`. Returns the changed keys among
/// them.
fn keep_what_needs_a_restart(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    let mut keep = |key, changed| {
        if changed {
            kept.push(key);
        }
    };
    keep("thing", old.thing != new.thing);
    keep("state_dir", old.state_dir != new.state_dir);
    keep("status", old.status != new.status);
    keep("clock", old.clock != new.clock);
    keep("log", old.log != new.log);
    new.thing.clone_from(&old.thing);
    new.state_dir.clone_from(&old.state_dir);
    new.status.clone_from(&old.status);
    new.clock.clone_from(&old.clock);
    new.log.clone_from(&old.log);
    kept
}
