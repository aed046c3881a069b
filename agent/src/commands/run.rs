//! `pulsegate run`: the agent itself.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{BAD_CONFIGURATION, STATE_IN_USE, exit_with_error, print_error};
use crate::agent;
use crate::config::{self, Config};
use crate::platform::state_lock::StateDirBusy;
use crate::platform::terminal::LogWriter;

/// Threads of the runtime's pool, which is not used: work that may hang has its own threads, see
/// [`crate::platform::aside`].
const MAX_BLOCKING_THREADS: usize = 1;
/// Time for the runtime to shut down, after which a read hanging in the kernel is abandoned.
const ABANDON_AFTER: Duration = Duration::from_secs(2);

/// Runs the agent until a signal stops the process. Returns exit code 0 after a stop, 78 for a
/// configuration with faults, and 75 if another agent works on the state directory.
pub(crate) fn run(path: &Path) -> ExitCode {
    let (config, warnings) = match config::load(path) {
        Ok(loaded) => loaded,
        Err(faults) => {
            print_error(&faults.to_string());
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    log_to_stderr(config.log.level.as_str());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match run_to_end(path, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let failed = exit_with_error(&error);
            if error.is::<StateDirBusy>() { ExitCode::from(STATE_IN_USE) } else { failed }
        }
    }
}

fn run_to_end(path: &Path, config: Config) -> anyhow::Result<()> {
    // Code that asks rustls for the default provider instead of ours needs one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(agent::run(path.to_owned(), config));
    runtime.shutdown_timeout(ABANDON_AFTER);
    outcome
}

/// Sends the log to standard error, without times under systemd, whose journal adds the time.
fn log_to_stderr(level: &str) {
    let asked = std::env::var("PULSEGATE_LOG").ok().and_then(|words| words.parse().ok());
    let filter: Targets = asked.unwrap_or_else(|| {
        let usual = format!("error,pulsegate={level},pulsegate_sensors={level}");
        usual.parse().expect("a level of the configuration is one of the log")
    });
    let keeps_colour = std::io::stderr().is_terminal();
    let lines = fmt::layer()
        .with_writer(move || LogWriter { keeps_colour })
        .with_ansi(keeps_colour)
        .with_target(false);
    let lines = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => lines.without_time().boxed(),
        None => lines.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
}
