//! Runs scenarios, each on a device of its own that begins where the package has just been installed,
//! and reports.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;

use crate::device::Device;
use crate::image::Image;
use crate::machine::{Saved, Start};
use crate::package;
use crate::rig::Rig;
use crate::scenario::Scenario;

/// A scenario that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(900);

/// What all scenarios of one run share.
#[derive(Debug)]
pub struct Runner {
    image: Image,
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
    pub fn new(image: Image, dir: PathBuf, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make `{}`", dir.display()))?;
        Ok(Self { image, dir, seed })
    }

    /// Runs them one after the other; returns whether all passed.
    ///
    /// # Errors
    /// There is no device to run them on.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub async fn run(&self, scenarios: &[&Scenario], package: Option<&Path>) -> Result<bool> {
        let began = now();
        let installed = self.installed(package).await?;
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

    /// A booted device, from the cache if it is there; and the package on it.
    async fn installed(&self, package: Option<&Path>) -> Result<Saved> {
        let booted = match Saved::in_dir(&self.image.saved()?) {
            Some(booted) => booted,
            None => self.boot().await?,
        };
        let package = match package.map(Path::to_owned).or_else(|| package::newest(self.image.arch))
        {
            Some(package) => package,
            None => package::stand_in(self.image.arch, &self.dir)?,
        };
        say(&format!("package: {}", package.display()));
        let dir = self.new_dir("install")?;
        let mut device = Device::start(&self.image, Start::From(&booted), &dir).await?;
        device.install(&package).await?;
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

    #[expect(clippy::print_stdout, reason = "the report")]
    async fn run_one(&self, scenario: &Scenario, installed: &Saved) -> Outcome {
        let began = now();
        println!("\n==== {}: {}", scenario.name, scenario.about);
        let result = self.attempt(scenario, installed).await;
        let seconds = seconds_since(began);
        if let Err(error) = &result {
            println!("     FAILED: {error:#}");
        }
        println!("==== {}: {seconds:.1} s", scenario.name);
        Outcome { name: scenario.name, seconds, passed: result.is_ok() }
    }

    #[expect(clippy::print_stdout, reason = "the report")]
    async fn attempt(&self, scenario: &Scenario, installed: &Saved) -> Result<()> {
        let dir = self.new_dir(scenario.name)?;
        let device = Device::start(&self.image, Start::From(installed), &dir).await?;
        let mut rig = Rig::new(device, self.seed).await?;
        let running = AssertUnwindSafe((scenario.run)(&mut rig)).catch_unwind();
        let result = match tokio::time::timeout(LIMIT, running).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(anyhow!("{}", panic_text(&*panic))),
            Err(_) => Err(anyhow!("it takes longer than {LIMIT:?}")),
        };
        for line in rig.seen() {
            println!("     {line}");
        }
        if result.is_err() {
            println!("{}\n---- logs: {}", rig.device.last_words().await, dir.display());
        }
        result
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
