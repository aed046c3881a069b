//! Reloads the configuration: the file is read as a whole and applied only if it has no fault. Keys
//! that need a restart keep their values and are reported.

use std::path::PathBuf;
use std::time::Duration;

use super::parts::Parts;
use crate::config::{self, Config, Faults, Warning};
use crate::platform::aside::{BlockingWorker, NotDone};

/// Time limit for reading a configuration and the files that it names.
const READING: Duration = Duration::from_secs(30);

/// Result of reading the configuration again.
pub(super) type Loaded = Result<Result<(Config, Vec<Warning>), Faults>, NotDone>;

/// Reads the configuration again, on the thread of `reader`.
pub(super) async fn read(reader: BlockingWorker, path: PathBuf) -> Loaded {
    reader.run(READING, move || config::load(&path)).await
}

/// Applies a configuration that was read again, if it has no fault.
pub(super) async fn follow(loaded: Loaded, parts: &mut Parts) {
    let (trouble, cure) = match loaded {
        Ok(Ok((config, _warnings))) => return apply_config(config, parts).await,
        Ok(Err(faults)) => {
            let count = faults.report().faults();
            tracing::error!(faults = count, "the new configuration is not used: {faults}");
            let faults = if count == 1 { "a fault".to_owned() } else { format!("{count} faults") };
            let trouble = format!("the configuration was changed and has {faults}");
            (trouble, " (see `pulsegate check`)")
        }
        Err(not_done) => {
            tracing::error!(%not_done, "the new configuration cannot be read");
            (format!("the configuration could not be read again ({not_done})"), "")
        }
    };
    parts.troubles.of_reload([format!("{trouble}: the old one stays in force{cure}")]);
}

async fn apply_config(mut config: Config, parts: &mut Parts) {
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
            publish,
            buffer: _,
        } = new;
        let fixed = [
            keep_old("thing", &old.thing, thing),
            keep_old("state_dir", &old.state_dir, state_dir),
            keep_old("status", &old.status, status),
            keep_old("clock", &old.clock, clock),
            keep_old("log", &old.log, log),
        ];
        // The topics contain the name of the thing, so they change with it at the restart.
        if fixed[0].is_some() {
            publish.clone_from(&old.publish);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        thing = "pi-1"
        endpoint = "abc-ats.iot.eu-west-1.amazonaws.com"
        identity = { certificate = "c.pem", private_key = "k.pem" }
        state_dir = "/state"
        status = { socket = "/run/status" }
        clock = { trust = "auto" }
        log = { level = "info" }
        link = { window = 20 }
        buffer = { ttl = "1d" }
        [[simulated]]
        id = "7"
        kind = "heart_rate"
    "#;

    fn parse(text: &str) -> Config {
        Config::from_str_at(text, "pulsegate.toml".as_ref()).expect("a configuration").0
    }

    #[test]
    fn a_changed_key_is_followed_by_its_part_or_kept_until_a_restart() {
        let old = parse(CONFIG);
        for (from, to, needs_restart, parts) in [
            ("pi-1", "pi-2", Some("thing"), [false, false]),
            ("/state", "/other", Some("state_dir"), [false, false]),
            ("/run/status", "/run/other", Some("status"), [false, false]),
            ("auto", "system", Some("clock"), [false, false]),
            ("info", "warn", Some("log"), [false, false]),
            ("heart_rate", "number", None, [true, false]),
            ("abc-ats", "abd-ats", None, [false, true]),
            ("k.pem", "other.pem", None, [false, true]),
            ("window = 20", "window = 30", None, [false, true]),
            ("1d", "2d", None, [false, false]),
        ] {
            let mut new = parse(&CONFIG.replace(from, to));
            assert_ne!(new, old, "{from}");

            let changes = Changes::between(&old, &mut new);

            let (kept, none) = (Vec::from_iter(needs_restart), needs_restart.is_none());
            assert_eq!((changes.needs_restart, new != old), (kept, none), "{from}");
            assert_eq!([changes.sources, changes.link], parts, "{from}");
        }
    }
}
