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
    let changes = Changes::between(&parts.config, &mut config);
    let needs_restart = &changes.needs_restart;
    let troubles = needs_restart.iter().map(|key| format!("`{key}` changes only with a restart"));
    parts.troubles.of_reload(troubles);
    parts.follow(config, &changes).await;
    tracing::info!(?needs_restart, "the configuration was reloaded");
}

/// Differences of a new configuration from the old one, by the part that has to follow.
pub(super) struct Changes {
    /// Changed keys that need a restart.
    needs_restart: Vec<&'static str>,
    pub(super) sources: bool,
    pub(super) link: bool,
}

impl Changes {
    /// Compares `new` with `old`, and restores the old values of keys that need a restart in `new`. The
    /// pattern lists all keys, so a new key does not compile before its part is chosen here.
    fn between(old: &Config, new: &mut Config) -> Self {
        let Config {
            // Keys that need a restart.
            thing,
            state_dir,
            status,
            clock,
            log,
            // Keys of the sources, and of the link.
            sensors,
            host,
            identity,
            link,
            // Keys that store, publisher, outputs and cameras take from every new configuration.
            outputs: _,
            night: _,
            pictures: _,
            visits: _,
            rules: _,
            publish: _,
            buffer: _,
        } = new;
        let fixed = [
            keep_old("thing", &old.thing, thing),
            keep_old("state_dir", &old.state_dir, state_dir),
            keep_old("status", &old.status, status),
            keep_old("clock", &old.clock, clock),
            keep_old("log", &old.log, log),
        ];
        Self {
            needs_restart: fixed.into_iter().flatten().collect(),
            sources: *sensors != old.sensors,
            link: *host != old.host || *identity != old.identity || *link != old.link,
        }
    }
}

/// Restores the old value of `key`. Returns `key` if its value was changed.
fn keep_old<T: PartialEq + Clone>(key: &'static str, old: &T, new: &mut T) -> Option<&'static str> {
    let is_changed = new != old;
    new.clone_from(old);
    is_changed.then_some(key)
}
