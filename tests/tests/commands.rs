//! What the commands tell of an agent and its store: `status`, `readings` and `alerts`, for people
//! and for scripts.

use std::process::Output;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Device, lane_count};
use pulsegate_tests::date;
use pulsegate_tests::inbox::{heart_rate, reading};
use pulsegate_tests::site::Site;
use serde_json::{Value, json};

const RULES: &str =
    "[[rule]]\nname = \"hot\"\non = \"temperature\"\nabove = 30\nseverity = \"critical\"\n";

/// P3, P10: the accounts of every lane, and every limit beside its use.
#[tokio::test]
async fn status_balances_the_accounts_of_every_lane() {
    let mut site = Site::start().await;
    let device = site
        .device()
        .with(RULES)
        .with("[[number]]\nid = \"gone\"\nfile = \"{dir}/nothing\"\nevery = \"100ms\"\n");
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let warm: Vec<String> = [20.0, 40.0, 20.0]
        .map(|celsius| reading("room", "temperature", celsius).to_string())
        .into();
    inbox.store(&warm).await;
    let all = |status: &Value| {
        ["readings", "alerts", "events"].iter().all(|lane| {
            lane_count(status, lane, "delivered") > 0 && lane_count(status, lane, "pending") == 0
        })
    };
    agent.wait_status("all lanes are delivered", PATIENCE, all).await;
    site.broker.stop().await;
    inbox.store(&warm).await;

    let status = agent
        .wait_status("the link is down", PATIENCE, |status| status["link"]["state"] == "down")
        .await;

    for lane in ["readings", "alerts", "events"] {
        let count = |name: &str| lane_count(&status, lane, name);
        let sum = count("delivered") + count("pending") + count("dropped");
        assert_eq!(count("recorded"), sum, "{lane}: {status:#}");
        assert_eq!(status["lanes"][lane]["balanced"], true);
    }
    assert_eq!(lane_count(&status, "readings", "recorded"), 6);
    assert_eq!(lane_count(&status, "alerts", "recorded"), 4, "raised and cleared, twice");
    assert_eq!(lane_count(&status, "events", "recorded"), 1, "the file that is not there");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("link: ") && degraded.contains("source `gone`"), "{degraded}");
    for limit in ["used_bytes", "file_bytes", "max_bytes", "written_bytes"] {
        assert!(status["disk"][limit].as_u64() > Some(0), "{limit}: {}", status["disk"]);
    }
    assert!(status["memory_bytes"].as_u64() > Some(0));
    let inbox = status["drivers"].as_array().expect("a list").iter();
    let inbox: Vec<&Value> = inbox.filter(|driver| driver["driver"] == "inbox").collect();
    assert_eq!((&inbox[0]["stored"], &inbox[0]["refused"]), (&json!(6), &json!(0)));
}

#[tokio::test]
async fn status_for_people_says_what_is_wrong_first() {
    let mut site = Site::start().await;
    let device = site.device();
    site.broker.stop().await;
    let mut agent = device.started().await;
    agent
        .wait_status("it has tried", PATIENCE, |status| status["link"]["last_error"].is_string())
        .await;

    let output = run(&device, &["status"]);

    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let second = text.lines().nth(1).expect("two lines");
    assert!(second.contains("! link: nothing listens at the broker's port"), "{text}");
    for word in ["box", "recorded", "pending", "clock", "disk"] {
        assert!(text.contains(word), "`{word}`: {text}");
    }
}

/// Beside a running agent, and without one.
#[tokio::test]
async fn readings_and_alerts_list_what_the_store_holds() {
    let site = Site::start().await;
    let device = site.device().with(RULES);
    let mut agent = device.started().await;
    let mut lines: Vec<String> =
        (0..30).map(|at| heart_rate("7", 60.0 + f64::from(at), date::ten())).collect();
    lines.push(reading("room", "temperature", 40.0).to_string());
    let ids = agent.inbox().await.store(&lines).await;

    for _ in 0..2 {
        let all = json_lines(&run(&device, &["readings", "--json", "-n", "100"]));
        assert_eq!(all.len(), 31);
        let listed: Vec<&str> = all.iter().filter_map(|one| one["seq"].as_str()).collect();
        assert_eq!(listed, ids, "in order, under the ids that the inbox gave");
        let last = json_lines(&run(&device, &["readings", "--json", "--source", "7", "-n", "2"]));
        let values: Vec<&Value> = last.iter().map(|one| &one["value"]).collect();
        assert_eq!(values, [88.0, 89.0]);
        assert_eq!(last[0]["time"], date::at("10:00:00.000"));

        let alerts = json_lines(&run(&device, &["alerts", "--json"]));
        assert_eq!(alerts.len(), 1);
        assert_eq!(
            (&alerts[0]["rule"], &alerts[0]["state"], &alerts[0]["severity"], &alerts[0]["value"]),
            (&json!("hot"), &json!("raised"), &json!("critical"), &json!(40.0))
        );
        let text = stdout(&run(&device, &["alerts"]));
        assert!(text.contains("hot") && text.contains("raised"), "{text}");
        assert_eq!(stdout(&run(&device, &["readings"])).lines().count(), 20, "the default");

        agent.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_was_asked_to_stop_ends_with_success() {
    let site = Site::start().await;
    let device = site.device();
    let mut agent = device.started().await;

    agent.sigterm();

    let status = agent.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(run(&device, &["status"]).status.code(), Some(1), "nobody answers any more");
}

/// What a person would type, with the configuration of a device.
fn run(device: &Device, arguments: &[&str]) -> Output {
    let config = device.config_path();
    device.run(&[arguments, &["--config", config.to_str().expect("UTF-8")]].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parse = |line: &str| serde_json::from_str(line).expect("JSON");
    stdout(output).lines().map(parse).collect()
}
