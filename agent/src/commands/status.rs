//! `pulsegate status`: asks the running agent over its socket.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{fail, peek, print};

/// The agent answers from memory and one query.
const PATIENCE: Duration = Duration::from_secs(10);
/// Far more than an agent with a thousand sources says.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Prints how the agent is. Fails when no agent answers.
pub(crate) fn run(path: &Path, json: bool) -> ExitCode {
    let config = match peek(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match ask(&config.status.socket) {
        Ok(status) if json => print(&format!("{status:#}")),
        Ok(status) => print(render(&status).trim_end()),
        Err(error) => fail(&error),
    }
}

/// Asks the agent that listens on `socket`.
pub(crate) fn ask(socket: &Path) -> anyhow::Result<Value> {
    let no_agent = || format!("no agent answers on `{}`", socket.display());
    let stream = UnixStream::connect(socket).with_context(no_agent)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(no_agent)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).with_context(no_agent)?;
    let answer: Value =
        serde_json::from_str(&answer).context("the agent's answer makes no sense")?;
    if let Some(error) = answer["error"].as_str() {
        anyhow::bail!("the agent does not answer on `{}`: {error}; ask again", socket.display());
    }
    Ok(answer)
}

/// For people: what is wrong first, then the numbers.
fn render(status: &Value) -> String {
    let mut text = format!(
        "{} · pulsegate {} · start {} · up {} s\n",
        word(&status["thing"]),
        word(&status["version"]),
        status["start"].as_str().map_or_else(|| status["boot"].to_string(), str::to_owned),
        status["uptime_s"]
    );
    for trouble in status["degraded"].as_array().into_iter().flatten() {
        line(&mut text, &format!("  ! {}", word(trouble)));
    }
    line(&mut text, &format!("\nlink   {}", link(&status["link"])));
    let clock = if status["clock"]["set"] == true { "set" } else { "not set" };
    line(&mut text, &format!("clock  {clock}, {}", word(&status["clock"]["time"])));
    line(&mut text, &format!("disk   {}", disk(&status["disk"])));
    line(&mut text, "\nlane        recorded   delivered     pending     dropped    filtered");
    for (lane, numbers) in status["lanes"].as_object().into_iter().flatten() {
        if !numbers.is_object() {
            // Why there are no numbers is told as a trouble.
            continue;
        }
        let number = |key: &str| numbers[key].as_u64().map_or("-".into(), |n| n.to_string());
        line(
            &mut text,
            &format!(
                "{lane:<9}{:>11} {:>11} {:>11} {:>11} {:>11}",
                number("recorded"),
                number("delivered"),
                number("pending"),
                number("dropped"),
                number("filtered")
            ),
        );
    }
    line(&mut text, "\nsource           kind          readings  last");
    for source in status["sources"].as_array().into_iter().flatten() {
        line(&mut text, &source_line(source));
    }
    let outputs = status["outputs"].as_array().filter(|outputs| !outputs.is_empty());
    if let Some(outputs) = outputs {
        line(&mut text, "\noutput           switched  value");
        outputs.iter().for_each(|output| line(&mut text, &output_line(output)));
    }
    let cameras = status["cameras"].as_array().filter(|cameras| !cameras.is_empty());
    if let Some(cameras) = cameras {
        line(&mut text, "\ncamera           taken  failed  skipped");
        cameras.iter().for_each(|camera| line(&mut text, &camera_line(camera)));
        line(&mut text, &format!("pictures         {}", pictures(&status["pictures"])));
    }
    text
}

fn camera_line(camera: &Value) -> String {
    let number = |key: &str| camera[key].to_string();
    let (taken, failed, skipped) = (number("taken"), number("failed"), number("skipped"));
    format!("{:<17}{taken:<7}{failed:<8}{skipped}", word(&camera["camera"]))
}

fn pictures(pictures: &Value) -> String {
    let mebibytes = |key: &str| pictures[key].as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    let (used, most) = (mebibytes("bytes"), mebibytes("max_bytes"));
    let (kept, evicted) = (&pictures["kept"], &pictures["evicted"]);
    format!("{kept} kept, {used:.1} of {most:.0} MiB, {evicted} given up")
}

fn source_line(source: &Value) -> String {
    let last = match (&source["no_reading"], &source["age_s"]) {
        (Value::String(reason), _) => format!("no reading: {reason}"),
        (_, Value::Null) => "nothing yet".into(),
        (_, age) => {
            format!("{} ({:.1} s ago)", word(&source["value"]), age.as_f64().unwrap_or(0.0))
        }
    };
    let (name, kind) = (word(&source["source"]), word(&source["kind"]));
    format!("{name:<17}{kind:<12}{:>10}  {last}", source["readings"].to_string())
}

fn output_line(output: &Value) -> String {
    let value = match (&output["value"], &output["last_error"]) {
        (_, Value::String(reason)) => reason.clone(),
        (Value::Number(number), _) if *number == 0.into() => "off".to_owned(),
        (value, _) => value.to_string(),
    };
    let switched = output["switched"].to_string();
    format!("{:<17}{switched:<10}{value}", word(&output["output"]))
}

fn link(link: &Value) -> String {
    if link["state"] == "up" {
        return format!("up for {} s on port {}", link["for_s"], link["port"]);
    }
    let reason = link["last_error"].as_str().unwrap_or("not tried yet");
    let retry = link["retry_in_s"].as_f64();
    let retry = retry.map_or_else(String::new, |seconds| format!(", again in {seconds:.0} s"));
    format!("down for {} s: {reason}{retry}", link["for_s"])
}

fn disk(disk: &Value) -> String {
    let mebibytes = |key: &str| Some(disk[key].as_f64()? / f64::from(1 << 20));
    let used = mebibytes("used_bytes").unwrap_or(0.0);
    let mut text = format!("{used:.1} of {:.0} MiB used", mebibytes("max_bytes").unwrap_or(0.0));
    if let Some(a_day) = mebibytes("written_bytes_a_day") {
        text.push_str(&format!(", {a_day:.0} MiB written a day"));
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
