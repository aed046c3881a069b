//! Who speaks for the wall clock: systemd's time client, the kernel, the clock chip.
//!
//! The kernel's own word would be that of adjtimex(2), for which there is no safe binding; `timedatectl`
//! asks it, which also knows of chrony and ntpd, but starts a service to do so: once a minute at most.
//! A witness may hang (a bus, a chip on a dead I2C line). Each is waited for beside everything else.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pulsegate_core::time::clock::{Evidence, judge};
use pulsegate_core::time::timeline::Trust;
use pulsegate_core::time::{Mono, Wall};
use tokio::sync::oneshot;

use super::{mono, wall};

/// `systemd-timesyncd` makes this file when it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// The time of the clock chip in seconds since 1970, UTC (the kernel's Documentation/admin-guide/rtc.rst).
const CHIP_TIME: &str = "/sys/class/rtc/rtc0/since_epoch";
/// How often witnesses are asked that cost something: starting `timedatectl`, reading a chip.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// `timedatectl` talks to a service that has to be started first.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// 2026-11-01, in seconds: the time of this version, if the build does not tell a later one.
const VERSION_TIME: i64 = 1_793_491_200;
/// When this program was made. A build that can be repeated says so by itself (reproducible-builds.org,
/// `SOURCE_DATE_EPOCH`); the clock of the machine that builds says nothing.
const MADE: Wall = Wall(made(option_env!("SOURCE_DATE_EPOCH")).saturating_mul(1000));

/// The witnesses of one start of the agent.
pub(crate) struct Witnesses {
    /// Whether the configuration believes the system clock as it is.
    believes_system: bool,
    last_trusted: Option<Wall>,
    /// Whether somebody said that a time server has set the clock. Nobody is asked after that.
    synchronised: bool,
    /// What the chip said, and the wall clock with it, when that was enough to believe the clock.
    trusts_chip: bool,
    asked_at: Option<Mono>,
    question: Option<BoxFuture<'static, bool>>,
    /// A chip that does not answer is not asked again: the thread that asked waits for ever.
    chip: Option<oneshot::Receiver<(Wall, Wall)>>,
}

impl Witnesses {
    /// Nobody was asked yet, and nobody is if `believes_system`; the store knows of `last_trusted`.
    pub(crate) fn new(believes_system: bool, last_trusted: Option<Wall>) -> Self {
        Self {
            believes_system,
            last_trusted,
            synchronised: false,
            trusts_chip: false,
            asked_at: None,
            question: None,
            chip: None,
        }
    }

    /// Whether the wall clock can be believed, as far as is known by now. Waits for nobody.
    pub(crate) fn trust(&mut self) -> Trust {
        if self.believes_system {
            return self.judge(wall(), true, None);
        }
        self.synchronised |= Path::new(SYNCHRONISED).exists();
        self.hear_chip();
        let is_due = self.asked_at.is_none_or(|at| mono().since(at) >= ASK_EVERY);
        if !self.synchronised && !self.trusts_chip && is_due && self.question.is_none() {
            self.asked_at = Some(mono());
            self.question = Some(Box::pin(ask_systemd()));
            self.chip = self.chip.take().or_else(ask_chip);
        }
        let now = wall();
        self.judge(now, self.synchronised, self.trusts_chip.then_some(now))
    }

    /// Waits for the answer to a question that is on its way; for ever if there is none.
    pub(crate) async fn answered(&mut self) {
        let Some(question) = &mut self.question else { return std::future::pending().await };
        self.synchronised |= question.await;
        self.question = None;
    }

    fn hear_chip(&mut self) {
        let Some(chip) = &mut self.chip else { return };
        match chip.try_recv() {
            Ok((chip, wall)) => {
                self.trusts_chip = self.judge(wall, false, Some(chip)) == Trust::Trusted;
                self.chip = None;
            }
            Err(oneshot::error::TryRecvError::Closed) => self.chip = None,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
    }

    fn judge(&self, wall: Wall, synchronised: bool, chip: Option<Wall>) -> Trust {
        let last_trusted = self.last_trusted;
        judge(&Evidence { wall, synchronised, chip, made: MADE, last_trusted })
    }
}

/// The time of this version in seconds, or a later one that the build tells.
const fn made(told: Option<&str>) -> i64 {
    let Some(told) = told else { return VERSION_TIME };
    match i64::from_str_radix(told, 10) {
        Ok(told) if told > VERSION_TIME => told,
        Ok(_) | Err(_) => VERSION_TIME,
    }
}

/// Asks systemd, which asks the kernel.
async fn ask_systemd() -> bool {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    match tokio::time::timeout(ASK_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output.stdout.starts_with(b"yes"),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Asks the clock chip, on a thread of its own: its time, and the wall clock's at that moment.
fn ask_chip() -> Option<oneshot::Receiver<(Wall, Wall)>> {
    let (answer, answered) = oneshot::channel();
    let ask = move || {
        let told = std::fs::read_to_string(CHIP_TIME).ok();
        if let Some(seconds) = told.and_then(|text| text.trim().parse::<i64>().ok()) {
            // The agent may have ended meanwhile.
            answer.send((Wall(seconds.saturating_mul(1000)), wall())).ok();
        }
    };
    std::thread::Builder::new().name("clock chip".into()).spawn(ask).ok().map(|_| answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_build_is_a_later_one_that_it_tells_or_that_of_the_version() {
        assert_eq!(made(None), VERSION_TIME);
        assert_eq!(made(Some("1900000000")), 1_900_000_000);
        for not_later in ["0", "-5", "", "soon", "1793491199"] {
            assert_eq!(made(Some(not_later)), VERSION_TIME, "{not_later}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_twice_in_a_minute_and_looking_waits_for_nobody() {
        let mut witnesses = Witnesses::new(false, None);

        let trust = witnesses.trust();

        // A clock that was set before needs no witness.
        assert_eq!(witnesses.question.take().is_some(), trust == Trust::Unset);
        witnesses.trust();
        assert!(witnesses.question.is_none(), "not again so soon");
    }
}
