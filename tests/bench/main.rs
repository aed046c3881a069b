//! The benchmark: the agent beside others on this machine, one after the other, each over mutual
//! TLS to a mosquitto that stands for the cloud. BENCHMARKS.md says what is measured and how.
//!
//! `bench [--quick] [--json] [--only PART]`, with a part of `agent`, `peers`, `queue`, `rules`,
//! `idle` and `wear`.
//!
//! It measures, and judges nothing: a slow machine makes large numbers, not a failure.

mod cloud;
mod decisions;
mod feed;
mod loop_disk;
mod measure;
mod passes;
mod subject;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use cloud::Cloud;
use decisions::decisions;
use passes::{flow, idle, memory, queue, wear};
use subject::{GATEWAY, RecordForm, Subject, THINGS};
use table::Report;

const FEW: u32 = 20_000;
const MANY: u32 = 1_000_000;
/// Peers that need minutes for a million show the same with fewer.
const MANY_FOR_PEERS: u32 = 100_000;
/// Passes of [`FEW`] readings, of which the one in the middle counts.
const REPEAT: u32 = 5;
const WEAR: Duration = Duration::from_secs(120);
const IDLE: Duration = Duration::from_secs(60);

/// What is asked for.
struct Asked {
    quick: bool,
    json: bool,
    only: Option<String>,
}

impl Asked {
    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(asked) = asked() else {
        eprint("bench [--quick] [--json] [--only agent|peers|queue|rules|idle|wear]");
        return ExitCode::FAILURE;
    };
    if asked.wants("wear") && !asked.quick {
        loop_disk::enter_namespace();
    }
    let report = measure(&asked).await;
    if asked.json {
        table::json(&report)
    } else {
        table::text(&report)
    }
    ExitCode::SUCCESS
}

fn asked() -> Option<Asked> {
    let mut asked = Asked { quick: false, json: false, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => asked.quick = true,
            "--json" => asked.json = true,
            "--only" => asked.only = Some(arguments.next()?),
            _ => return None,
        }
    }
    Some(asked)
}

async fn measure(asked: &Asked) -> Report {
    let wanted = |part: &str| asked.wants(part);
    let mut report = Report { machine: measure::machine(), ..Report::default() };
    let cloud = Cloud::start(&THINGS).await;
    let repeat = if asked.quick { 1 } else { REPEAT };
    let mut subjects = Vec::new();
    if wanted("agent") {
        let forms = [RecordForm::Short, RecordForm::Standard, RecordForm::Columns];
        subjects.extend(forms.map(|form| Subject::Agent { form }));
    }
    if wanted("peers") {
        subjects.push(Subject::Bridge);
        match subject::interpreter() {
            Ok(python) => subjects.push(Subject::Python(python)),
            Err(why) => report.not_run.push(format!("Python + SQLite: {why}")),
        }
    }
    let few = subjects.iter().map(|subject| (subject, FEW, repeat));
    let many = subjects.iter().map(|subject| match subject {
        Subject::Agent { .. } => (subject, MANY, 1),
        Subject::Bridge | Subject::Python(_) => (subject, MANY_FOR_PEERS, 1),
    });
    for (subject, count, repeat) in few.chain(many.filter(|_| !asked.quick)) {
        eprint(&format!("{}: {count} readings", subject.name()));
        report.flows.push(flow(subject, &cloud, count, repeat).await);
    }
    if wanted("queue") {
        let count = if asked.quick { FEW } else { MANY };
        eprint(&format!("a queue of {count} readings"));
        report.queue = Some(queue(&cloud, count).await);
    }
    if wanted("rules") {
        let count = if asked.quick { FEW } else { MANY };
        eprint(&format!("rules and filters, {count} readings"));
        report.decisions = Some(decisions(&cloud, count).await);
    }
    if wanted("idle") && !asked.quick {
        eprint(&format!("one reading a second for {IDLE:?}"));
        report.idle = Some(idle(&cloud, IDLE).await);
    }
    if wanted("wear") && !asked.quick {
        eprint(&format!("ten readings a second for {WEAR:?}"));
        report.memory = Some(memory(&cloud).await);
        let (fast, slow) =
            tokio::join!(wear(&cloud, GATEWAY, "1s", WEAR), wear(&cloud, THINGS[3], "10s", WEAR));
        report.wear = vec![fast, slow];
    }
    report
}

/// What is going on, beside the report.
#[expect(clippy::print_stderr, reason = "progress of a command")]
fn eprint(line: &str) {
    eprintln!("{line}");
}
