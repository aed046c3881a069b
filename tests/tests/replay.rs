//! `pulsegate replay` and `pulsegate export`: what the agent decided is decided again from what it
//! stored, and what it stored comes out whole. P4 for what rules decide.

#![expect(clippy::disallowed_methods, reason = "files for a test need not outlive a power cut")]

use std::process::{Command, Output, Stdio};

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Device, lane_count, program};
use pulsegate_tests::date;
use pulsegate_tests::inbox::{heart_rate, reading};
use pulsegate_tests::site::Site;
use serde_json::{Value, json};

const RULES: &str = r#"
[[rule]]
name = "hot"
on = "temperature"
above = 30

[[rule]]
name = "fast"
on = "heart_rate"
above = 150
window = { tumbling = "30s", take = "mean" }

[[visit]]
source = "door"
gap = "1s"
report = { text = "{openings} times, {source}" }
"#;

/// Five minutes of a heart that is fast in the third and the fourth.
fn heart() -> Vec<String> {
    let rate = |second: i64| if (120..240).contains(&second) { 170.0 } else { 80.0 };
    (0..300).map(|second| heart_rate("7", rate(second), date::ten() + second * 1_000)).collect()
}

fn warm(values: &[f64]) -> Vec<String> {
    values.iter().map(|celsius| reading("room", "temperature", *celsius).to_string()).collect()
}

fn door(states: &[&str]) -> Vec<String> {
    let line = |state| json!({ "source": "door", "kind": "lid", "value": state }).to_string();
    states.iter().map(line).collect()
}

/// A device whose agent lived twice, raised alerts and told a visit, and was stopped.
async fn recorded(site: &Site) -> Device {
    let device = site.device().with(RULES);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    inbox.store(&heart()).await;
    inbox.store(&door(&["open", "closed", "open"])).await;
    inbox.store(&warm(&[20.0, 40.0])).await;
    agent.sigkill().await;
    let mut agent = device.started().await;
    agent.inbox().await.store(&warm(&[41.0, 20.0, 35.0])).await;
    agent
        .wait_status("a visit was told", PATIENCE, |status| {
            lane_count(status, "events", "recorded") >= 1
                && lane_count(status, "alerts", "recorded") >= 5
        })
        .await;
    agent.stop().await;
    device
}

#[tokio::test]
async fn what_was_raised_is_raised_again_and_nothing_else() {
    let site = Site::start().await;
    let device = recorded(&site).await;

    let mut lines = json_lines(&run(&device, &["replay", "--json"]));

    let summary = lines.pop().expect("a summary");
    let told = json!({
        "record": "summary", "readings": 308, "alerts": 5, "visits": 1, "added": 0, "removed": 0,
    });
    assert_eq!(summary, told, "{lines:#?}");
    let alerts = json_lines(&run(&device, &["alerts", "--json"]));
    let replayed = lines.iter().filter(|line| line["record"] == "alert");
    let key =
        |alert: &Value| ["rule", "source", "state", "value", "time"].map(|k| alert[k].to_string());
    let mut replayed: Vec<_> = replayed.map(key).collect();
    let mut alerts: Vec<_> = alerts.iter().map(key).collect();
    replayed.sort();
    alerts.sort();
    assert_eq!(replayed, alerts);
    let text = stdout(&run(&device, &["replay"]));
    assert!(text.lines().rev().skip(1).all(|line| line.starts_with("  ")), "{text}");
}

#[tokio::test]
async fn another_limit_shows_what_it_would_have_changed() {
    let site = Site::start().await;
    let device = recorded(&site).await;
    let other = device.dir().join("new.toml");
    let rules = "[[rule]]\nname = \"hot\"\non = \"temperature\"\nabove = 37\n";
    std::fs::write(&other, rules).expect("a temporary directory can be written");
    let rules = other.to_str().expect("UTF-8");

    let output = run(&device, &["replay", "--rules", rules]);

    assert_eq!(output.status.code(), Some(0), "a difference is no failure");
    let text = stdout(&output);
    let signs = |sign: &str| text.lines().filter(|line| line.starts_with(sign)).count();
    // `fast` is not there any more, and 35 degrees are not hot any more.
    assert_eq!((signs("+ "), signs("- "), signs("  ")), (0, 3, 3), "{text}");
    assert!(text.contains(": 0 added, 3 removed"), "{text}");

    std::fs::write(&other, "[[rule]]\nname = \"hot\"\nabov = 37\n[gpio]\n").expect("a file");
    let output = run(&device, &["replay", "--rules", rules]);
    assert_eq!(output.status.code(), Some(78));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["new.toml:3:1", "abov", "not a rule or a visit"] {
        assert!(errors.contains(word), "`{word}`: {errors}");
    }
}

#[tokio::test]
async fn lines_are_replayed_without_any_store() {
    let device = configured();
    let mut lines = heart();
    lines[10] = "nonsense".into();
    lines.insert(200, r#"{"source":"7","kind":"heart_rate"}"#.into());
    lines.extend(door(&["open", "closed"]));
    let input = lines.join("\n");

    let output = piped(&device, &["replay", "--json", "--from", "-"], &input);

    assert_eq!(output.status.code(), Some(1), "two lines made no sense");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("line 11: ") && errors.contains("line 201: `value`: "), "{errors}");
    let told: Vec<Value> = stdout(&output).lines().map(parse).collect();
    let alerts: Vec<_> = told[..2].iter().map(|one| (&one["state"], &one["time"])).collect();
    let expected = [
        (&json!("raised"), &json!(date::at("10:02:30.000"))),
        (&json!("cleared"), &json!(date::at("10:04:30.000"))),
    ];
    assert_eq!(alerts, expected, "{told:#?}");
    assert_eq!(told[2]["record"], "visit");
    assert_eq!(told[3]["readings"], 301);
    assert_eq!(told.len(), 4);

    let file = device.dir().join("lines");
    std::fs::write(&file, heart().join("\n")).expect("a temporary directory can be written");
    let output = run(&device, &["replay", "--from", file.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).lines().count(), 3, "{}", stdout(&output));

    // A whole configuration needs no other, wherever it is tried.
    let (whole, file) = (device.config_path(), file.to_str().expect("UTF-8"));
    let whole = ["--rules", whole.to_str().expect("UTF-8"), "--config", "/nowhere"];
    let output = device.run(&[&["replay", "--from", file], &whole[..]].concat());
    assert_eq!(stdout(&output).lines().count(), 3, "{output:?}");
}

#[tokio::test]
async fn a_silence_is_told_again_at_the_time_at_which_it_was_told() {
    let site = Site::start().await;
    let rule = "[[rule]]\nname = \"silent\"\non = \"temperature\"\nsilent_for = \"1s\"\n";
    let device = site.device().with(rule);
    let mut agent = device.started().await;
    for count in [1, 3] {
        agent.inbox().await.store(&warm(&[20.0])).await;
        let told = |status: &Value| lane_count(status, "alerts", "recorded") >= count;
        agent.wait_status("the silence is told", PATIENCE, told).await;
    }
    agent.stop().await;

    let mut lines = json_lines(&run(&device, &["replay", "--json"]));

    let summary = lines.pop().expect("a summary");
    assert_eq!((&summary["added"], &summary["removed"]), (&json!(0), &json!(0)), "{lines:#?}");
    let told = |alerts: &[Value]| -> Vec<String> {
        alerts.iter().map(|alert| format!("{} {}", alert["state"], alert["time"])).collect()
    };
    assert_eq!(told(&lines), told(&json_lines(&run(&device, &["alerts", "--json"]))));
}

#[tokio::test]
async fn a_chart_shows_what_a_rule_saw() {
    let device = configured();
    let input = heart().join("\n");

    let output = piped(&device, &["replay", "--from", "-", "--chart", "fast"], &input);

    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("fast: 7\n") && text.ends_with("\n300 readings\n"), "{text}");
    for mark in ["       150 ", "       170 ", "        80 ", "\u{2504}", "\u{25b2}", "\u{25bd}"] {
        assert!(text.contains(mark), "`{mark}`: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no terminal, no colours: {text}");

    let output = piped(&device, &["replay", "--from", "-", "--chart", "slow"], &input);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("there is no rule `slow`: there are `hot`, `fast`"), "{errors}");
}

#[tokio::test]
async fn what_is_told_can_be_narrowed_to_a_source_and_a_time() {
    let device = configured();
    let input = [heart(), door(&["open", "closed"])].concat().join("\n");
    let told = |narrowed: &[&str]| {
        let asked = [&["replay", "--json", "--from", "-"], narrowed].concat();
        let lines = json_lines(&piped(&device, &asked, &input));
        lines.iter().map(|line| line["record"].as_str().expect("a word").to_owned()).collect()
    };
    let all: Vec<String> = told(&[]);
    assert_eq!(all, ["alert", "alert", "visit", "summary"]);

    let narrowed: Vec<String> = told(&["--source", "door"]);
    assert_eq!(narrowed, ["visit", "summary"]);
    let until: Vec<String> = told(&["--until", &date::at("10:04:30")]);
    assert_eq!(until, ["alert", "summary"]);
    let since: Vec<String> = told(&["--since", &date::at("10:04:30")]);
    assert_eq!(since, ["alert", "visit", "summary"]);
    // fixed date: refused by its form
    for no_time in ["2026-11-20T10", "2026-11-20"] {
        let output = run(&device, &["replay", "--since", no_time]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8_lossy(&output.stderr);
        // fixed date: the example in the message
        assert!(told.contains("such as 2026-11-20T10:00:00Z"), "{told}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_a_failure_that_says_why() {
    let device = configured();

    for arguments in [&["replay"][..], &["export", "readings"], &["replay", "--from", "/nowhere"]] {
        let output = run(&device, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains("cannot re"), "{errors}");
    }
}

#[tokio::test]
async fn an_export_holds_every_record_and_can_be_replayed() {
    let site = Site::start().await;
    let device = recorded(&site).await;

    let all = json_lines(&run(&device, &["export", "readings", "--format", "jsonl"]));
    assert_eq!(all.len(), 308);
    assert_eq!(all[0]["bpm"], 80);
    assert_eq!(all[0]["time"], date::at("10:00:00.000"));
    let csv = stdout(&run(&device, &["export", "readings", "--source", "7"]));
    let rows: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(rows[0], "seq,source,kind,time,value,unit,contact,energy_kj,rr_ms,clock");
    assert_eq!(rows.len(), 302, "a header, 300 readings, and what follows the last line end");
    let seq = all[0]["seq"].as_str().expect("a name");
    assert_eq!(rows[1], format!("{seq},7,heart_rate,{},80,,,,,", date::at("10:00:00.000")));

    let file = device.dir().join("alerts.jsonl");
    let path = file.to_str().expect("UTF-8");
    let output = run(&device, &["export", "alerts", "--format", "jsonl", "--output", path]);
    assert!(output.status.success() && output.stdout.is_empty());
    let alerts = std::fs::read_to_string(&file).expect("it was written");
    let listed = json_lines(&run(&device, &["alerts", "--json"]));
    assert_eq!(alerts.lines().map(parse).collect::<Vec<_>>(), listed);
    let visits = stdout(&run(&device, &["export", "visits"]));
    let rows: Vec<&str> = visits.lines().collect();
    assert_eq!(rows[0], "seq,source,start,end,openings,units,unit,seconds,text,time,clock,visit");
    assert_eq!(rows.len(), 2, "{visits}");
    let visit = &json_lines(&run(&device, &["export", "visits", "--format", "jsonl"]))[0];
    assert_eq!((&visit["event"], &visit["text"]), (&json!("visit"), &json!("2 times, door")));
    assert!(visit["time"].as_str() > visit["end"].as_str(), "told after it ended: {visit}");
    let minute = ["--since", &*date::at("10:01:00"), "--until", &*date::at("10:02:00")];
    let minute = [&["export", "readings", "--format", "jsonl"][..], &minute].concat();
    let minute = json_lines(&run(&device, &minute));
    assert_eq!(minute.len(), 60);
    assert_eq!(minute[0]["time"], date::at("10:01:00.000"));
    let recent = stdout(&run(&device, &["export", "readings", "--since", "1s"]));
    assert!(recent.lines().count() < 308);

    let as_lines = all.iter().map(|record| {
        let value = ["bpm", "value", "state"].map(|key| &record[key]);
        let value = value.into_iter().find(|value| !value.is_null());
        let mut line = record.clone();
        line.as_object_mut()
            .expect("an object")
            .retain(|key, _| ["source", "kind", "time"].contains(&key.as_str()));
        line["value"] = value.expect("a value").clone();
        line.to_string()
    });
    let input = as_lines.collect::<Vec<_>>().join("\n");
    let output = piped(&device, &["replay", "--json", "--from", "-"], &input);
    let summary = json_lines(&output).pop().expect("a summary");
    assert_eq!((&summary["alerts"], &summary["visits"]), (&json!(5), &json!(1)));
}

#[tokio::test]
async fn nobody_reading_it_to_its_end_is_nothing_to_speak_of() {
    let site = Site::start().await;
    let device = recorded(&site).await;
    let config = device.config_path();

    for command in [&["export", "readings"][..], &["replay"], &["replay", "--chart", "hot"]] {
        let mut child = Command::new(program())
            .args(command)
            .args(["--config", config.to_str().expect("UTF-8")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_to_its_end_is_a_failure_that_says_so() {
    let site = Site::start().await;
    let device = recorded(&site).await;
    let config = device.config_path();

    for command in [&["export", "readings"][..], &["replay"], &["readings"], &["check"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
        let output = Command::new(program())
            .args(command)
            .args(["--config", config.to_str().expect("UTF-8")])
            .stdout(full)
            .output()
            .expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("No space left on device"), "{command:?}: {told}");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
    }
}

/// A device that never ran.
fn configured() -> Device {
    let certs = pulsegate_tests::certs::Certs::new();
    let device = Device::new("box")
        .identity(&certs.device("box").files)
        .broker(8883, &certs.ca())
        .with(RULES);
    device.write_config();
    device
}

fn run(device: &Device, arguments: &[&str]) -> Output {
    let config = device.config_path();
    device.run(&[arguments, &["--config", config.to_str().expect("UTF-8")]].concat())
}

fn piped(device: &Device, arguments: &[&str], input: &str) -> Output {
    let config = device.config_path();
    device.run_with(&[arguments, &["--config", config.to_str().expect("UTF-8")]].concat(), input)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

fn json_lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stdout(output).lines().map(parse).collect()
}
