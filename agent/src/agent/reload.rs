//! A reload: the new configuration is read as a whole, and taken only if it has no fault. What
//! cannot change while the agent runs is left as it is, and said.

use std::path::Path;

use super::Tasks;
use super::parts::Parts;
use crate::config::{self, Config};

/// Reads the configuration again, and goes on under it.
pub(super) async fn reload(path: &Path, parts: &mut Parts, tasks: &mut Tasks) {
    let (mut config, _warnings) = match config::load(path) {
        Ok(loaded) => loaded,
        Err(faults) => {
            tracing::error!(
                faults = faults.report().faults(),
                "the new configuration is not used: {faults}"
            );
            let trouble = match faults.report().faults() {
                1 => "the configuration was changed and has a fault".to_owned(),
                count => format!("the configuration was changed and has {count} faults"),
            } + ": the old one stays in force (see `pulsegate check`)";
            parts.troubles.of_reload([trouble]);
            return;
        }
    };
    let kept = keep_what_needs_a_restart(parts.config(), &mut config);
    let troubles = kept.iter().map(|key| format!("`{key}` changes only with a restart"));
    parts.troubles.of_reload(troubles);
    parts.follow(config, tasks).await;
    tracing::info!(needs_restart = ?kept, "the configuration was reloaded");
}

/// Puts back what is woven into the store and the tasks. Returns the keys that were changed.
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
