//! Collects evidence for the wall clock: systemd's time client, the kernel, the clock chip.
//!
//! The kernel reports synchronisation through adjtimex(2), for which there is no safe binding.
//! `timedatectl` reports the same, also for chrony and ntpd, but starts a service, so the agent
//! calls `timedatectl` at most once a minute. Each witness may hang (a bus, a chip on a dead I2C
//! line), and the agent waits without blocking other work.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pulsegate_core::time::clock::{ClockEvidence, judge_clock};
use pulsegate_core::time::timeline::ClockTrust;
use pulsegate_core::time::{Mono, Wall};
use tokio::sync::oneshot;

use super::{mono, wall};

/// File that `systemd-timesyncd` makes after setting the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Time of the clock chip in seconds since 1970, UTC (the kernel's
/// Documentation/admin-guide/rtc.rst).
const CHIP_TIME: &str = "/sys/class/rtc/rtc0/since_epoch";
/// Interval between questions to costly witnesses: `timedatectl`, the clock chip.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Limit for `timedatectl`, whose service may have to be started first.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// 2026-11-01 in seconds since 1970: the time of this version, unless the build gives a later time.
const VERSION_TIME: i64 = 1_793_491_200;
/// Build time of this program. A reproducible build sets the time itself (reproducible-builds.org,
/// `SOURCE_DATE_EPOCH`); the build machine's clock is not used.
const MADE: Wall = Wall(build_time(option_env!("SOURCE_DATE_EPOCH")).saturating_mul(1000));

/// Witnesses of the wall clock for one start of the agent.
pub(crate) struct Witnesses {
    /// `true` if the configuration trusts the system clock unconditionally.
    believes_system: bool,
    last_trusted: Option<Wall>,
    /// `true` after a witness reported a clock set by a time server. No further questions are asked
    /// then.
    synchronised: bool,
    /// `true` if the chip's time and the wall clock, read together, were enough to trust the clock.
    trusts_chip: bool,
    asked_at: Option<Mono>,
    question: Option<BoxFuture<'static, bool>>,
    /// Pending answer of the chip. A chip that does not answer is not asked again, because the
    /// thread that asked waits for ever.
    chip: Option<oneshot::Receiver<(Wall, Wall)>>,
}

impl Witnesses {
    /// Creates witnesses without evidence; none are asked if `believes_system`. `last_trusted` is
    /// the last trusted time in the store.
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

    /// Returns the trust in the wall clock by the evidence so far, without waiting.
    pub(crate) fn assess_trust(&mut self) -> ClockTrust {
        if self.believes_system {
            return self.judge_clock(wall(), true, None);
        }
        self.synchronised |= Path::new(SYNCHRONISED).exists();
        self.read_chip_answer();
        let is_due = self.asked_at.is_none_or(|at| mono().since(at) >= ASK_EVERY);
        if !self.synchronised && !self.trusts_chip && is_due && self.question.is_none() {
            self.asked_at = Some(mono());
            self.question = Some(Box::pin(ask_systemd()));
            self.chip = self.chip.take().or_else(ask_chip);
        }
        let now = wall();
        self.judge_clock(now, self.synchronised, self.trusts_chip.then_some(now))
    }

    /// Waits for the answer to the pending question; for ever if none is pending.
    pub(crate) async fn wait_for_answer(&mut self) {
        let Some(question) = &mut self.question else { return std::future::pending().await };
        self.synchronised |= question.await;
        self.question = None;
    }

    fn read_chip_answer(&mut self) {
        let Some(chip) = &mut self.chip else { return };
        match chip.try_recv() {
            Ok((chip, wall)) => {
                self.trusts_chip = self.judge_clock(wall, false, Some(chip)) == ClockTrust::Trusted;
                self.chip = None;
            }
            Err(oneshot::error::TryRecvError::Closed) => self.chip = None,
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
    }

    fn judge_clock(&self, wall: Wall, synchronised: bool, chip: Option<Wall>) -> ClockTrust {
        let last_trusted = self.last_trusted;
        judge_clock(&ClockEvidence { wall, synchronised, chip, made: MADE, last_trusted })
    }
}

/// Returns the build's time in seconds if later than the time of this version, else the latter.
const fn build_time(told: Option<&str>) -> i64 {
    let Some(told) = told else { return VERSION_TIME };
    match i64::from_str_radix(told, 10) {
        Ok(told) if told > VERSION_TIME => told,
        Ok(_) | Err(_) => VERSION_TIME,
    }
}

/// Asks systemd about the kernel's clock; returns `true` if the clock is synchronised.
async fn ask_systemd() -> bool {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    match tokio::time::timeout(ASK_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output.stdout.starts_with(b"yes"),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Reads the clock chip on its own thread. The answer is the chip's time and the wall-clock time of
/// the same moment.
fn ask_chip() -> Option<oneshot::Receiver<(Wall, Wall)>> {
    let (answer, answered) = oneshot::channel();
    let ask = move || {
        let told = std::fs::read_to_string(CHIP_TIME).ok();
        if let Some(seconds) = told.and_then(|text| text.trim().parse::<i64>().ok()) {
            // The receiver is gone if the agent has ended.
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
        assert_eq!(build_time(None), VERSION_TIME);
        assert_eq!(build_time(Some("1900000000")), 1_900_000_000);
        for not_later in ["0", "-5", "", "soon", "1793491199"] {
            assert_eq!(build_time(Some(not_later)), VERSION_TIME, "{not_later}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_twice_in_a_minute_and_looking_waits_for_nobody() {
        let mut witnesses = Witnesses::new(false, None);

        let trust = witnesses.assess_trust();

        // A clock already set needs no witness.
        assert_eq!(witnesses.question.take().is_some(), trust == ClockTrust::Unset);
        witnesses.assess_trust();
        assert!(witnesses.question.is_none(), "not again so soon");
    }
}
