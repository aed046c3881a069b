//! A number in a file, as Linux shows many sensors: 1-wire (`temperature`), hwmon (`temp1_input`),
//! IIO (`in_voltage0_raw`).
//!
//! Read on the grid of its period, away from the runtime's thread: a 1-wire conversion takes 750 ms,
//! and a dead bus can hold a read for ever. At most one read is ever under way. A file that is
//! absent, fails, hangs or holds no number is one "no reading" with its reason, and is read
//! again each period. Values are not judged: a DS18B20 that lost power for a moment says 85.000 °C,
//! which is also a temperature; a rule can tell it from the values around it, this driver cannot.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::grid::{Grid, Turn};
use crate::{Measurement, NoReading, Outlet};

/// sysfs shows at most a page.
const MAX_FILE_BYTES: usize = 4096;
/// A read that takes longer than its period is hung, but one of 750 ms on a slow bus shared with
/// others is not, however short the period is.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);
/// No sensor takes longer, however long the period is.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// Enough of what is not a number to recognise it.
const SHOWN_CHARS: usize = 40;

/// A configured number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberFile {
    /// The file; its first word is the number.
    pub path: PathBuf,
    /// What the number is multiplied by.
    pub scale: f64,
    /// What is added after that.
    pub offset: f64,
    /// The period of its grid.
    pub every: Duration,
}

/// Reads `number` on its grid until the outlet closes. `wall_ms` is the wall time in milliseconds
/// since the epoch.
pub async fn watch(number: NumberFile, outlet: Outlet, wall_ms: impl Fn() -> i64) {
    let mut grid = Grid::new(number.every);
    let mut reader = Reader::new(&number.path, number.every);
    let mut lost = false;
    while !outlet.is_closed() {
        if let Turn::Wait(wait) = grid.ask(wall_ms()) {
            sleep(wait).await;
            continue;
        }
        match reader.read().await.and_then(|text| number.value(&text)) {
            Ok(value) => {
                lost = false;
                outlet.measured(Measurement::Number(value)).await;
            }
            Err(reason) if !lost => {
                lost = true;
                outlet.nothing(reason).await;
            }
            Err(_) => {}
        }
    }
}

impl NumberFile {
    fn value(&self, text: &[u8]) -> Result<f64, NoReading> {
        if text.len() > MAX_FILE_BYTES {
            return Err(NoReading::Garbage(format!("more than {MAX_FILE_BYTES} bytes")));
        }
        let text = String::from_utf8_lossy(text);
        let Some(word) = text.split_whitespace().next() else {
            return Err(NoReading::Garbage("an empty file".to_owned()));
        };
        word.parse()
            .map(|raw| scaled(raw, self.scale) + self.offset)
            .ok()
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| {
                let shown: String = word.chars().take(SHOWN_CHARS).collect();
                NoReading::Garbage(format!("{shown:?}"))
            })
    }
}

/// `raw * scale`; a scale such as 0.001, which binary fractions cannot hold, divides by its inverse
/// instead, so that 21562 becomes 21.562 and not 21.562000000000001.
fn scaled(raw: f64, scale: f64) -> f64 {
    let inverse = scale.recip().round();
    if inverse.recip() == scale { raw / inverse } else { raw * scale }
}

/// Reads one file, with at most one read under way.
struct Reader {
    path: Arc<Path>,
    patience: Duration,
    hung: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Reader {
    fn new(path: &Path, every: Duration) -> Self {
        let patience = every.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE);
        Self { path: path.into(), patience, hung: None }
    }

    async fn read(&mut self) -> Result<Vec<u8>, NoReading> {
        // What a hung read brings in the end is of no known time, and is thrown away.
        self.hung.take_if(|hung| hung.is_finished());
        if self.hung.is_some() {
            return Err(self.silent());
        }
        let path = Arc::clone(&self.path);
        let mut reading = tokio::task::spawn_blocking(move || read_bounded(&path));
        match timeout(self.patience, &mut reading).await {
            Ok(Ok(outcome)) => outcome.map_err(|error| self.reason(&error)),
            Ok(Err(_)) => Err(NoReading::Failed("the runtime is ending".to_owned())),
            Err(_) => {
                self.hung = Some(reading);
                Err(self.silent())
            }
        }
    }

    fn silent(&self) -> NoReading {
        NoReading::Silent { seconds: self.patience.as_secs() }
    }

    fn reason(&self, error: &io::Error) -> NoReading {
        let path = self.path.display();
        if error.kind() == io::ErrorKind::NotFound {
            return NoReading::Absent(format!("`{path}`"));
        }
        NoReading::Failed(format!("`{path}`: {error}"))
    }
}

/// Reads a little more than is allowed, so that too much can be told from just enough.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
