//! `rig`: the virtual device, and what happens to it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use pulsegate_rig::image::{Arch, Image, NoImage, unavailable};
use pulsegate_rig::runner::Runner;
use pulsegate_rig::scenario::Scenario;
use pulsegate_rig::{namespace, package, radio, scenarios};

/// Scenarios on a virtual device: Debian under QEMU, real systemd, BlueZ and GPIO.
///
/// Exit status: 0 all passed, 1 one failed, 77 this machine cannot run it.
#[derive(Debug, Parser)]
struct Cli {
    /// The device's processor
    #[arg(long, value_enum, default_value = "amd64", global = true)]
    arch: Arch,
    /// The package to install, instead of the newest in target/packages
    #[arg(long, global = true)]
    package: Option<PathBuf>,
    /// Repeat the randomness of another run
    #[arg(long, global = true)]
    seed: Option<u64>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which scenarios there are
    List,
    /// Run lines of shell on a device that is configured and knows the time, to look around
    Sh {
        /// The lines
        #[arg(required = true)]
        lines: Vec<String>,
    },
    /// Run scenarios, all of them unless named
    Run {
        /// Their names
        names: Vec<String>,
    },
    /// Cut the power while readings pour in, boot from what is left, again and again, and reckon up
    PowerCuts {
        /// How often
        #[arg(long, default_value = "20")]
        times: u32,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::List = cli.command {
        return list();
    }
    let Some(dir) = namespace::inside() else { return go_inside(cli.arch) };
    match run(Image { arch: cli.arch, dir }, cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

fn go_inside(arch: Arch) -> ExitCode {
    match Image::build(arch) {
        Ok(image) => {
            if let Err(error) = radio::python() {
                return complain(&format!("{error:#}"), unavailable());
            }
            let error = namespace::enter(&image.dir);
            complain(&format!("no namespaces here: {error}"), unavailable())
        }
        Err(NoImage::Unavailable) => complain("the rig cannot run here", unavailable()),
        Err(NoImage::Failed(error)) => complain(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

fn run(image: Image, cli: Cli) -> Result<bool> {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    say(&format!("seed: {seed}"));
    let newest = || package::newest(image.arch);
    let Some(package) = cli.package.or_else(newest) else {
        bail!("there is no package to install: `cross/build {}`", image.arch.name());
    };
    let dir = package::repository().join("target/rig").join(image.arch.name());
    let runner = Runner::new(image, package, dir, seed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::List => Ok(true),
            Command::Sh { lines } => runner.look(&lines).await,
            Command::Run { names } => runner.run(&choose(&names)?).await,
            Command::PowerCuts { times } => runner.cut_power(times).await,
        }
    })
}

fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(scenarios::ALL.iter().collect());
    }
    let find =
        |name: &String| scenarios::ALL.iter().find(|scenario| scenario.name == name.as_str());
    let mut chosen = Vec::new();
    for name in names {
        match find(name) {
            Some(scenario) => chosen.push(scenario),
            None => bail!("there is no scenario `{name}`: see `rig list`"),
        }
    }
    Ok(chosen)
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn list() -> ExitCode {
    for scenario in scenarios::ALL {
        println!("{:<24} {}", scenario.name, scenario.about);
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the report")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "what went wrong")]
fn complain(text: &str, code: ExitCode) -> ExitCode {
    eprintln!("rig: {text}");
    code
}
