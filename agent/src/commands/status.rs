//! `pulsegate status`: prints the status of the running agent, read from its socket.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::Value;

use super::{exit_with_error, peek_config, print_text};
use crate::status::{
    CameraStatus, DiskStatus, LinkStatus, OutputStatus, PicturesStatus, Refusal, SourceStatus,
    Status,
};

/// Time for the answer. The agent answers from memory and a single query.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer at most: far more than the status of a thousand sources.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
const SENSELESS: &str = "the agent's answer makes no sense";

/// Prints the status. Fails when no agent answers.
pub(crate) fn run(path: &Path, json: bool) -> ExitCode {
    let config = match peek_config(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let socket = &config.status.socket;
    let text = match json {
        // The answer is passed on as it is, with keys unknown to this version.
        true => ask_for_json(socket).map(|answer| format!("{answer:#}")),
        false => ask_status(socket).map(|status| render_status(&status).trim_end().to_owned()),
    };
    text.map_or_else(|error| exit_with_error(&error), |text| print_text(&text))
}

/// Asks the agent behind `socket` for its status.
pub(crate) fn ask_status(socket: &Path) -> anyhow::Result<Status> {
    Status::deserialize(ask_for_json(socket)?).context(SENSELESS)
}

/// Asks the agent behind `socket`, and returns the JSON without interpreting keys.
fn ask_for_json(socket: &Path) -> anyhow::Result<Value> {
    let no_agent = || format!("no agent answers on `{}`", socket.display());
    let stream = UnixStream::connect(socket).with_context(no_agent)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(no_agent)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).with_context(no_agent)?;
    let answer: Value = serde_json::from_str(&answer).context(SENSELESS)?;
    if let Ok(Refusal { error }) = Refusal::deserialize(&answer) {
        anyhow::bail!("the agent does not answer on `{}`: {error}; ask again", socket.display());
    }
    Ok(answer)
}

/// Returns the status as text for people: the troubles first, then the numbers.
fn render_status(status: &Status) -> String {
    let start = match status.start.as_str() {
        "" => status.boot.to_string(),
        start => start.to_owned(),
    };
    let (thing, version) = (word_or_dash(&status.thing), word_or_dash(&status.version));
    let mut text =
        format!("{thing} · pulsegate {version} · start {start} · up {} s\n", status.uptime_s);
    for trouble in &status.degraded {
        push_line(&mut text, &format!("  ! {trouble}"));
    }
    push_line(&mut text, &format!("\nlink   {}", link_text(&status.link)));
    let clock = if status.clock.set { "set" } else { "not set" };
    push_line(&mut text, &format!("clock  {clock}, {}", word_or_dash(&status.clock.time)));
    push_line(&mut text, &format!("disk   {}", disk_text(&status.disk)));
    push_line(&mut text, "\nlane        recorded   delivered     pending     dropped    filtered");
    for (lane, account) in status.lanes.lane_accounts() {
        let number = |count: Option<u64>| count.map_or("-".into(), |count| count.to_string());
        push_line(
            &mut text,
            &format!(
                "{:<9}{:>11} {:>11} {:>11} {:>11} {:>11}",
                lane.as_str(),
                number(account.recorded),
                number(account.delivered),
                number(account.pending),
                number(account.dropped),
                number(account.filtered)
            ),
        );
    }
    push_line(&mut text, "\nsource           kind          readings  last");
    for source in &status.sources {
        push_line(&mut text, &source_line(source));
    }
    if !status.outputs.is_empty() {
        push_line(&mut text, "\noutput           switched  value");
        status.outputs.iter().for_each(|output| push_line(&mut text, &output_line(output)));
    }
    if !status.cameras.is_empty() {
        push_line(&mut text, "\ncamera           taken  failed  skipped");
        status.cameras.iter().for_each(|camera| push_line(&mut text, &camera_line(camera)));
        push_line(&mut text, &format!("pictures         {}", pictures_text(&status.pictures)));
    }
    text
}

fn camera_line(camera: &CameraStatus) -> String {
    let CameraStatus { camera: name, taken, failed, skipped, .. } = camera;
    format!("{:<17}{taken:<7}{failed:<8}{skipped}", word_or_dash(name))
}

fn pictures_text(pictures: &PicturesStatus) -> String {
    let PicturesStatus { kept, evicted, bytes, max_bytes } = pictures;
    let (used, most) = (to_mebibytes(*bytes), to_mebibytes(*max_bytes));
    format!("{kept} kept, {used:.1} of {most:.0} MiB, {evicted} given up")
}

fn source_line(source: &SourceStatus) -> String {
    let last = match (&source.no_reading, source.age_s) {
        (Some(reason), _) => format!("no reading: {reason}"),
        (None, None) => "nothing yet".into(),
        (None, Some(age)) => {
            format!("{} ({age:.1} s ago)", source.value.as_deref().unwrap_or("-"))
        }
    };
    let (name, kind) = (word_or_dash(&source.source), word_or_dash(&source.kind));
    format!("{name:<17}{kind:<12}{:>10}  {last}", source.readings)
}

fn output_line(output: &OutputStatus) -> String {
    let value = match (output.value, &output.last_error) {
        (_, Some(reason)) => reason.clone(),
        (None, None) => "null".to_owned(),
        (Some(0), None) => "off".to_owned(),
        (Some(value), None) => value.to_string(),
    };
    format!("{:<17}{:<10}{value}", word_or_dash(&output.output), output.switched)
}

fn link_text(link: &LinkStatus) -> String {
    match link {
        LinkStatus::Up(up) => format!("up for {} s on port {}", up.for_s, up.port),
        LinkStatus::Down(down) => {
            let reason = down.last_error.as_deref().unwrap_or("not tried yet");
            let retry = down.retry_in_s;
            let retry =
                retry.map_or_else(String::new, |seconds| format!(", again in {seconds:.0} s"));
            format!("down for {} s: {reason}{retry}", down.for_s)
        }
        LinkStatus::Unknown => "in a state that this version does not know".to_owned(),
    }
}

fn disk_text(disk: &DiskStatus) -> String {
    let (used, most) = (to_mebibytes(disk.used_bytes), to_mebibytes(disk.max_bytes));
    let mut text = format!("{used:.1} of {most:.0} MiB used");
    if let Some(a_day) = disk.written_bytes_a_day {
        text.push_str(&format!(", {:.0} MiB written a day", to_mebibytes(a_day)));
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal at most")]
fn to_mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Returns `word`, or a dash if the key is missing in the answer.
fn word_or_dash(word: &str) -> &str {
    if word.is_empty() { "-" } else { word }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
