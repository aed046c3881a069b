//! Reads a number from a file, as Linux shows many sensors: 1-wire (`temperature`), hwmon
//! (`temp1_input`), IIO (`in_voltage0_raw`).
//!
//! A file is read on the grid of its period, on the thread of its bus ([`Buses`]), so a read that
//! never returns on a dead bus blocks only that bus. Files of one bus are read one after the other.
//! A 1-wire conversion takes 750 ms; a bus with many sensors may not keep up with the period: each
//! file is then read in turn, and each value has the time of the end of its own read. A file that
//! is absent, fails, hangs or holds no number yields one "no reading" with the reason, and is read
//! again each period. The driver does not judge values: a DS18B20 after a short loss of power
//! reports 85.000 °C, which is also a valid temperature; only a rule can recognise the fault, from
//! neighbouring values.

mod bus;
mod place;
mod read_schedule;

use std::io;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::{Measurement, NoReading, Outlet};
use bus::{BusRegistration, CompletedRead, HungRead};
pub use bus::{Buses, Clocks, MAX_BUSES};
pub use place::{bus_of, is_one_wire};

/// The duration of a 1-wire thermometer's conversion at its finest resolution: DS18B20, table 2.
pub const ONE_WIRE_CONVERSION: Duration = Duration::from_millis(750);
/// The largest file that is read, in bytes: a file in sysfs holds at most a page.
const MAX_FILE_BYTES: usize = 4096;
/// The shortest limit for a read. A read beyond its period is hung, but a read of 750 ms on a
/// shared, slow bus is not, however short the period is.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);
/// The longest limit for a read: no sensor takes longer, however long the period is.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// The interval of the checks for a hung read and for a file that moved to another bus.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The number of characters of an invalid number that a reason shows.
const SHOWN_CHARS: usize = 40;

/// A configured number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberFile {
    /// The file; its first word is the number.
    pub path: PathBuf,
    /// The factor for the number.
    pub scale: f64,
    /// The value added after the multiplication.
    pub offset: f64,
    /// The period of its grid.
    pub every: Duration,
}

/// The state of a number's reads, for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumberState {
    /// Reads that returned.
    pub reads: u64,
    /// Grid points passed while the previous read still waited for the bus.
    pub missed: u64,
    /// The duration of the last read.
    pub took: Duration,
    /// The duration so far of a hung read on the bus, if there is one.
    pub hung: Option<Duration>,
}

/// Reads `number` on its grid until the outlet closes, and keeps `states` current.
pub async fn watch_file(
    number: NumberFile,
    outlet: Outlet,
    buses: Buses,
    states: watch::Sender<NumberState>,
) {
    let mut watch = NumberWatch { number, outlet, states, told: None };
    let mut seat: Option<BusRegistration> = None;
    let mut may_have_moved = true;
    while !watch.outlet.is_closed() {
        if std::mem::take(&mut may_have_moved) {
            let bus = buses.bus_of(&watch.number.path);
            if seat.as_ref().is_none_or(|seat| seat.bus() != bus) {
                drop(seat.take());
                match buses.register_file(&bus, &watch.number) {
                    Ok(taken) => seat = Some(taken),
                    Err(reason) => watch.report_missing(reason).await,
                }
            }
        }
        let Some(seat) = &mut seat else {
            sleep(LOOK_EVERY).await;
            may_have_moved = true;
            continue;
        };
        match timeout(LOOK_EVERY, seat.next()).await {
            Ok(Some(taken)) => watch.handle_read(taken).await,
            Ok(None) | Err(_) => watch.check_hung(seat.hung_read()).await,
        }
        // A device may be plugged in again on another bus.
        may_have_moved = watch.told.is_some();
    }
}

/// A number file with the last reported reason.
struct NumberWatch {
    number: NumberFile,
    outlet: Outlet,
    states: watch::Sender<NumberState>,
    /// The kind of the last reported reason, while there is no reading.
    told: Option<Discriminant<NoReading>>,
}

impl NumberWatch {
    async fn handle_read(&mut self, taken: CompletedRead) {
        self.states.send_modify(|state| {
            state.reads += 1;
            state.missed += taken.missed;
            (state.took, state.hung) = (taken.took, None);
        });
        let text = taken.content.map_err(|error| self.number.explain_failure(&error));
        match text.and_then(|text| self.number.parse_value(&text)) {
            Ok(value) => {
                self.told = None;
                self.outlet.send_measurement_at(taken.at, Measurement::Number(value)).await;
            }
            Err(reason) => self.report_missing(reason).await,
        }
    }

    /// Reports a hung read.
    async fn check_hung(&mut self, hung: Option<HungRead>) {
        let lasts = hung.map(|hung| hung.lasts);
        self.states.send_if_modified(|state| std::mem::replace(&mut state.hung, lasts) != lasts);
        if let Some(hung) = hung {
            self.report_missing(hung.into()).await;
        }
    }

    /// Reports the reason for a missing reading: once for each kind of reason.
    async fn report_missing(&mut self, reason: NoReading) {
        let kind = discriminant(&reason);
        if self.told != Some(kind) {
            self.told = Some(kind);
            self.outlet.send_no_reading(reason).await;
        }
    }
}

impl From<HungRead> for NoReading {
    fn from(hung: HungRead) -> Self {
        Self::Hung { seconds: hung.lasts.as_secs(), is_another: hung.is_another }
    }
}

/// Returns the time after which a read counts as hung.
fn hung_after(every: Duration) -> Duration {
    every.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
}

impl NumberFile {
    fn parse_value(&self, text: &[u8]) -> Result<f64, NoReading> {
        if text.len() > MAX_FILE_BYTES {
            return Err(NoReading::Garbage(format!("more than {MAX_FILE_BYTES} bytes")));
        }
        let text = String::from_utf8_lossy(text);
        let Some(word) = text.split_whitespace().next() else {
            return Err(NoReading::Garbage("an empty file".to_owned()));
        };
        word.parse()
            .map(|raw| scale_raw(raw, self.scale) + self.offset)
            .ok()
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| {
                let shown: String = word.chars().take(SHOWN_CHARS).collect();
                NoReading::Garbage(format!("{shown:?}"))
            })
    }

    fn explain_failure(&self, error: &io::Error) -> NoReading {
        let path = self.path.display();
        if error.kind() == io::ErrorKind::NotFound {
            return NoReading::Absent(format!("`{path}`"));
        }
        NoReading::Failed(format!("`{path}`: {error}"))
    }
}

/// Returns `raw * scale`. If the inverse of `scale` is a whole number, divides by the inverse: no
/// binary fraction is exactly 0.001, but 21562 / 1000 is 21.562 and not 21.562000000000001.
fn scale_raw(raw: f64, scale: f64) -> f64 {
    let inverse = scale.recip().round();
    if inverse.recip() == scale { raw / inverse } else { raw * scale }
}

#[cfg(test)]
mod tests;
