//! Runs scenarios, each on a device of its own that begins where the package has just been installed,
//! and reports.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;

use crate::device::Device;
use crate::image::Image;
use crate::machine::{Saved, Start};
use crate::rig::{BELT, Rig};
use crate::scenario::Scenario;
use crate::scenarios;

/// A scenario that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(900);
/// As long may a power cut take, with the boot after it.
const LIMIT_OF_A_CUT: Duration = Duration::from_secs(300);

/// What all scenarios of one run share.
#[derive(Debug)]
pub struct Runner {
    image: Image,
    package: PathBuf,
    /// Logs and disks of this run.
    dir: PathBuf,
    seed: u64,
}

/// What came of one scenario.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    seconds: f64,
    passed: bool,
}

impl Runner {
    /// Prepares a run whose logs go to `dir`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(image: Image, package: PathBuf, dir: PathBuf, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make `{}`", dir.display()))?;
        Ok(Self { image, package, dir, seed })
    }

    /// Runs them one after the other; returns whether all passed.
    ///
    /// # Errors
    /// There is no device to run them on.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub async fn run(&self, scenarios: &[&Scenario]) -> Result<bool> {
        let began = now();
        let installed = self.installed().await?;
        println!("device: {:.1} s to have it with the package on it", seconds_since(began));
        let mut outcomes = Vec::new();
        for scenario in scenarios {
            outcomes.push(self.run_one(scenario, &installed).await);
        }
        let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
        println!("\n{passed} of {} passed in {:.0} s", outcomes.len(), seconds_since(began));
        for outcome in &outcomes {
            let verdict = if outcome.passed { "passed" } else { "FAILED" };
            println!("{:7.1} s  {verdict}  {}", outcome.seconds, outcome.name);
        }
        Ok(passed == outcomes.len())
    }

    /// Cuts the power of one device so many times; returns whether nothing was lost.
    ///
    /// # Errors
    /// There is no device.
    pub async fn cut_power(&self, times: u32) -> Result<bool> {
        let began = now();
        let mut rig = self.rig("power-cuts", &self.installed().await?).await?;
        let result = self
            .conclude(LIMIT + LIMIT_OF_A_CUT * times, scenarios::power_cut(&mut rig, times))
            .await;
        self.report(&mut rig, &result).await;
        say(&format!("{:.1} s", seconds_since(began)));
        Ok(result.is_ok())
    }

    /// Runs lines of shell on a configured device.
    ///
    /// # Errors
    /// There is no device, or a line fails.
    pub async fn look(&self, lines: &[String]) -> Result<bool> {
        let mut rig = self.rig("look", &self.installed().await?).await?;
        rig.tell_time().await?;
        rig.configure(BELT).await?;
        for line in lines {
            let output = rig.device.machine().guest.try_sh(line).await?;
            say(&format!("{}{}({})", output.out, output.err, output.status));
        }
        Ok(true)
    }

    async fn rig(&self, name: &str, installed: &Saved) -> Result<Rig> {
        let dir = self.new_dir(name)?;
        let device = Device::start(&self.image, Start::From(installed), &dir).await?;
        Rig::new(device, &self.package, self.seed).await
    }

    /// An error, a panic and a hang are the same to the report.
    async fn conclude(
        &self,
        limit: Duration,
        running: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        match tokio::time::timeout(limit, AssertUnwindSafe(running).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(anyhow!("{}", panic_text(&*panic))),
            Err(_) => Err(anyhow!("it takes longer than {limit:?}")),
        }
    }

    async fn report(&self, rig: &mut Rig, result: &Result<()>) {
        for line in rig.seen() {
            say(&format!("     {line}"));
        }
        if let Err(error) = result {
            say(&rig.device.last_words().await);
            say(&format!("---- logs: {}\n     FAILED: {error:#}", self.dir.display()));
        }
    }

    /// A booted device, from the cache if it is there; and the package on it.
    async fn installed(&self) -> Result<Saved> {
        let booted = match Saved::in_dir(&self.image.saved()?) {
            Some(booted) => booted,
            None => self.boot().await?,
        };
        say(&format!("package: {}", self.package.display()));
        let dir = self.new_dir("install")?;
        let mut device = Device::start(&self.image, Start::From(&booted), &dir).await?;
        device.install(&self.package).await?;
        device.save(&self.dir.join("installed")).await
    }

    async fn boot(&self) -> Result<Saved> {
        let began = now();
        let dir = self.new_dir("boot")?;
        let mut device = Device::start(&self.image, Start::Cold, &dir).await?;
        device
            .wait_sh("it has booted", "systemctl is-system-running --wait || test $? = 1")
            .await?;
        let saved = device.save(&self.image.saved()?).await?;
        say(&format!("device: {:.1} s to boot it and save it", seconds_since(began)));
        Ok(saved)
    }

    async fn run_one(&self, scenario: &Scenario, installed: &Saved) -> Outcome {
        let began = now();
        say(&format!("\n==== {}: {}", scenario.name, scenario.about));
        let passed = match self.rig(scenario.name, installed).await {
            Ok(mut rig) => {
                let result = self.conclude(LIMIT, (scenario.run)(&mut rig)).await;
                self.report(&mut rig, &result).await;
                result.is_ok()
            }
            Err(error) => {
                say(&format!("     FAILED: {error:#}"));
                false
            }
        };
        let seconds = seconds_since(began);
        say(&format!("==== {}: {seconds:.1} s", scenario.name));
        Outcome { name: scenario.name, seconds, passed }
    }

    fn new_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

#[expect(clippy::disallowed_methods, reason = "how long things take")]
fn now() -> Instant {
    Instant::now()
}

fn seconds_since(began: Instant) -> f64 {
    now().duration_since(began).as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "the report")]
fn say(text: &str) {
    println!("{text}");
}
