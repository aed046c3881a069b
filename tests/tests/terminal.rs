//! Nothing that a store, a status answer, a configuration, an argument or a file holds makes a terminal do
//! anything: commands show it as text.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Device, program};
use pulsegate_tests::certs::Certs;
use pulsegate_tests::inbox::reading;
use pulsegate_tests::site::THING;
use serde_json::{Value, json};

/// Clears the screen in two ways, renames the window, colours, goes back, and turns the text around.
const HOSTILE: &str = "calm\u{1b}[2J\u{9b}2J\u{1b}]0;x\u{7}\u{1b}[31m\u{8}\r\u{7f}\u{85}\u{61c}\
    \u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}end";
/// [`HOSTILE`] in a string of TOML or JSON.
const ESCAPED: &str = r"calm\u001b[2J\u009b2J\u001b]0;x\u0007\u001b[31m\u0008\u000d\u007f\u0085\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069end";
const RULES: &str = "[[rule]]\nname = \"hot\"\non = \"temperature\"\nabove = 30\n";

#[tokio::test]
async fn what_a_crafted_store_holds_is_shown_as_text() {
    let (_certs, device) = recorded().await;
    craft(&device, "UPDATE readings SET value = ?1");
    craft(&device, "UPDATE alerts SET rule = ?1, severity = ?1, value = ?1");
    let members = format!(
        r#""source":"{ESCAPED}","start_ms":1,"end_ms":2,"openings":1,"units":1,"unit":"{ESCAPED}""#
    );
    store(&device)
        .execute(
            "INSERT INTO events
             SELECT (SELECT max(max(readings.seq), (SELECT max(seq) FROM alerts)) FROM readings) + 100,
                 'visit', (SELECT max(epoch) FROM boots), 1, ?1",
            [members],
        )
        .expect("an event");
    for arguments in [&["replay"][..], &["replay", "--json"]] {
        assert_shown(arguments, &run(&device, arguments));
    }
    craft(&device, "UPDATE sources SET name = ?1, kind = ?1");

    for command in ["readings", "alerts", "visits"] {
        assert_shown(&[command], &run(&device, &[command]));
        let output = run(&device, &[command, "--json"]);
        assert_shown(&[command, "--json"], &output);
        let records: Vec<Value> = text(&output.stdout).lines().map(parse).collect();
        let key = if command == "visits" { "unit" } else { "value" };
        assert!(records.iter().any(|record| record[key] == HOSTILE), "{command}: {records:#?}");
    }
}

#[tokio::test]
async fn an_export_is_data_in_a_file_and_text_on_a_terminal() {
    let (_certs, device) = recorded().await;
    craft(&device, "UPDATE readings SET value = ?1");
    craft(&device, "UPDATE alerts SET rule = ?1, severity = ?1");

    for what in ["readings", "alerts"] {
        let csv = run(&device, &["export", what]);
        assert!(text(&csv.stdout).contains(HOSTILE), "{what}: data stay as they are");
        let lines = run(&device, &["export", what, "--format", "jsonl"]);
        let key = if what == "alerts" { "rule" } else { "state" };
        let records: Vec<Value> = text(&lines.stdout).lines().map(parse).collect();
        assert!(records.iter().any(|record| record[key] == HOSTILE), "{what}: {records:#?}");
        for format in ["csv", "jsonl"] {
            let arguments = ["export", what, "--format", format];
            assert_shown(&arguments, &run_on_terminal(&device, &arguments));
        }
    }
}

/// Rules and sources with such names are refused before anything is drawn.
#[tokio::test]
async fn a_chart_of_a_crafted_store_has_no_crafted_text() {
    let (_certs, device) = recorded().await;
    craft(&device, "UPDATE readings SET value = ?1 WHERE seq = (SELECT max(seq) FROM readings)");
    craft(&device, "UPDATE alerts SET severity = ?1");
    let chart = run(&device, &["replay", "--chart", "hot"]);
    assert_eq!(chart.status.code(), Some(0), "{chart:?}");
    assert_harmless(&["replay", "--chart", "hot"], &chart);
    assert!(text(&chart.stdout).contains("hot: room"), "{}", text(&chart.stdout));

    let unknown = run(&device, &["replay", "--chart", HOSTILE]);
    assert_eq!(unknown.status.code(), Some(1), "there is no such rule");
    assert_shown(&["replay", "--chart", "unknown"], &unknown);
    assert!(text(&unknown.stderr).contains("`hot`"), "{}", text(&unknown.stderr));

    let rules = device.dir().join("crafted.toml");
    write(&rules, &RULES.replace("hot", ESCAPED));
    let rules = rules.to_str().expect("UTF-8");
    let refused = run(&device, &["replay", "--rules", rules, "--chart", HOSTILE]);
    assert_eq!(refused.status.code(), Some(78), "no name of a rule: {refused:?}");
    assert_shown(&["replay", "--rules", "--chart"], &refused);

    craft(&device, "UPDATE sources SET name = ?1");
    let refused = run(&device, &["replay", "--chart", "hot"]);
    assert_eq!(refused.status.code(), Some(1), "no name of a source: {refused:?}");
    assert_harmless(&["replay", "--chart", "source"], &refused);
    assert!(text(&refused.stderr).contains("cannot replay the store"), "{refused:?}");
}

#[test]
fn what_a_crafted_status_answer_holds_is_shown_as_text() {
    let (_certs, device) = configured("");
    let answer = json!({
        "thing": HOSTILE, "version": HOSTILE, "start": HOSTILE, "degraded": [HOSTILE],
        "link": { "state": "down", "last_error": HOSTILE, "for_s": 1 },
        "clock": { "set": true, "time": HOSTILE }, "lanes": { HOSTILE: { "recorded": 1 } },
        "sources": [
            { "source": HOSTILE, "kind": HOSTILE, "no_reading": HOSTILE, "readings": 1 },
            { "source": "belt", "kind": "lid", "value": HOSTILE, "age_s": 1 },
        ],
        "outputs": [{ "output": HOSTILE, "last_error": HOSTILE, "switched": 1 }],
        "cameras": [{ "camera": HOSTILE, "taken": 1, "failed": 0, "skipped": 0 }],
        "pictures": { "kept": 1 },
    });
    let senseless = json!({ "thing": HOSTILE, "uptime_s": HOSTILE, "link": { "state": HOSTILE } });
    let error = json!({ "error": HOSTILE });
    let answering = answer_status(&device, &[&answer, &answer, &error, &senseless, &senseless]);

    let people = run(&device, &["status"]);
    let programs = run(&device, &["status", "--json"]);
    let refused = run(&device, &["status"]);
    let not_understood = run(&device, &["status"]);
    let passed_on = run(&device, &["status", "--json"]);

    answering.join().expect("all were answered");
    assert_eq!(people.status.code(), Some(0), "{people:?}");
    assert_shown(&["status"], &people);
    assert!(text(&people.stdout).matches("calm").count() >= 13, "{}", text(&people.stdout));
    assert_shown(&["status", "--json"], &programs);
    assert_eq!(parse(&text(&programs.stdout)), answer, "JSON says the same");
    assert_eq!(refused.status.code(), Some(1));
    assert_shown(&["status", "refused"], &refused);
    assert_eq!(not_understood.status.code(), Some(1), "no number of seconds: {not_understood:?}");
    assert_harmless(&["status", "not understood"], &not_understood);
    assert!(all(&not_understood).contains("makes no sense"), "{not_understood:?}");
    assert_eq!(parse(&text(&passed_on.stdout)), senseless, "a script has it as it is");
    assert_shown(&["status", "--json", "not understood"], &passed_on);
}

#[test]
fn what_a_configuration_holds_is_shown_as_text_in_its_faults() {
    // Between quotes TOML takes no C0 but takes all others as they are; outside of them a fault is drawn.
    let raw: String = HOSTILE.chars().filter(|c| !c.is_ascii_control()).collect();
    for wrong in [
        format!("[[rule]]\nname = \"{ESCAPED}\"\non = \"{ESCAPED}\"\nabove = \"{ESCAPED}\"\n"),
        format!("[[rule]]\nname = \"{raw}\"\non = \"{raw}\"\nabov = 1 # {raw}\n"),
        format!("[[number]]\nid = \"{ESCAPED}\"\nfile = \"{ESCAPED}\"\n"),
        format!("[[number]]\n\"{ESCAPED}\" = 1\n"),
        format!("[[number]]\nid = \"{HOSTILE}\"\n"),
        format!("[\"{ESCAPED}\"]\n"),
        format!("calm {HOSTILE}\n"),
    ] {
        let (_certs, device) = configured(&wrong);
        for arguments in [&["check"][..], &["run"], &["check", "--json"]] {
            let output = run(&device, arguments);
            assert_eq!(output.status.code(), Some(78), "{arguments:?}: {output:?}");
            assert_harmless(arguments, &output);
            // Programs have the place, not the line.
            let draws = !arguments.contains(&"--json");
            assert!(!draws || all(&output).contains("calm"), "{arguments:?}: {}", all(&output));
        }
        // Here the colours of the drawing stand; those of the configuration do not.
        let coloured = all(&run_on_terminal(&device, &["check"]));
        assert!(!coloured.contains("\u{1b}[31m\\u0008"), "{coloured:?}");
        assert_eq!(obeyed(&without_colours(&coloured)), None, "{coloured:?}");
        assert!(coloured.contains("\u{1b}["), "in colour: {coloured:?}");
    }
}

/// Paths, files and arguments that others made, as `*` in a shell may give them.
#[test]
fn a_crafted_path_or_argument_is_shown_as_text_in_the_error() {
    let (_certs, device) = configured("");
    let here = device.dir().join(HOSTILE);
    let here = here.to_str().expect("UTF-8");
    for arguments in [
        &["check", "--config", here][..],
        &["run", "--config", here],
        &["readings", "--config", here],
        &["status", "--config", here],
        &["replay", "--rules", here],
        &["replay", "--from", here],
        &["export", "readings", "-o", "/nonexistent/\u{1b}[2J/calm\u{202e}end"],
        &["readings", HOSTILE],
        &["readings", "-n", HOSTILE],
        &["export", HOSTILE],
        &["replay", "--since", HOSTILE],
        &[HOSTILE],
    ] {
        let output = match arguments.contains(&"--config") || arguments == [HOSTILE] {
            true => device.run(arguments),
            false => run(&device, arguments),
        };
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert_harmless(arguments, &output);
        let is_store = arguments[0] == "export" && arguments.contains(&"-o");
        assert!(is_store || all(&output).contains("calm"), "{arguments:?}: {}", all(&output));
        assert_harmless_on_terminal(&device, arguments);
    }
}

#[tokio::test]
async fn what_a_file_holds_is_shown_as_text_in_the_log_and_the_status() {
    let (_certs, device) = configured(&format!(
        "[[number]]\nid = \"odd\"\nfile = \"{{dir}}/odd\"\nevery = \"100ms\"\n
         [[number]]\nid = \"gone\"\nfile = \"{{dir}}/{ESCAPED}\"\nevery = \"100ms\"\n"
    ));
    write(&device.dir().join("odd"), HOSTILE);
    let mut agent = device.started().await;
    let told = |status: &Value| status["degraded"].to_string().matches("source `").count() >= 2;
    agent.wait_status("both files are told", PATIENCE, told).await;

    let status = run(&device, &["status"]);
    agent.stop().await;

    assert_shown(&["status"], &status);
    let log = device.log();
    assert!(log.contains("calm"), "{log}");
    assert_eq!(obeyed(&log), None, "{log:?}");
}

/// A device without a broker: its agent keeps all that it records.
fn configured(more: &str) -> (Certs, Device) {
    let certs = Certs::new();
    let identity = certs.device(THING);
    let device = Device::new(THING).identity(&identity.files).broker(1, &certs.ca()).with(more);
    device.write_config();
    (certs, device)
}

/// A device whose store has readings of one source and alerts of the rule `hot`.
async fn recorded() -> (Certs, Device) {
    let (certs, device) = configured(RULES);
    let mut agent = device.started().await;
    let warm = [20.0, 40.0, 20.0, 41.0].map(|c| reading("room", "temperature", c).to_string());
    agent.inbox().await.store(&warm).await;
    let alerts = |status: &Value| status.pointer("/lanes/alerts/recorded") == Some(&json!(3));
    agent.wait_status("the alerts are stored", PATIENCE, alerts).await;
    agent.stop().await;
    (certs, device)
}

fn store(device: &Device) -> rusqlite::Connection {
    rusqlite::Connection::open(device.state_dir().join("pulsegate.db")).expect("a store")
}

/// Changes rows of the store of a stopped agent, with [`HOSTILE`] for `?1`.
fn craft(device: &Device, update: &str) {
    let changed = store(device).execute(update, [HOSTILE]).expect("a statement that makes sense");
    assert!(changed > 0, "{update} changes something");
}

/// Answers on the socket of a device whose agent does not run, once with each of `answers`.
fn answer_status(device: &Device, answers: &[&Value]) -> JoinHandle<()> {
    let listener = UnixListener::bind(device.dir().join("status.sock")).expect("a socket");
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            stream.write_all(answer.as_bytes()).expect("who asks reads");
        }
    })
}

fn run(device: &Device, arguments: &[&str]) -> Output {
    let config = device.config_path();
    device.run(&[arguments, &["--config", config.to_str().expect("UTF-8")]].concat())
}

/// As [`run`], with a terminal for all three streams.
fn run_on_terminal(device: &Device, arguments: &[&str]) -> Output {
    let program = program();
    let words = [&[program.to_str().expect("UTF-8")][..], arguments].concat();
    let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let command = format!("{words} --config pulsegate.toml");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(device.dir());
    script.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdin(Stdio::null());
    script.output().expect("`script` of bsdutils is on every Debian")
}

fn assert_harmless_on_terminal(device: &Device, arguments: &[&str]) {
    if !arguments.contains(&"--config") {
        assert_harmless(arguments, &run_on_terminal(device, arguments));
    }
}

/// Panics unless nothing of the output is obeyed by a terminal, and the harmless rest of [`HOSTILE`] is there.
fn assert_shown(arguments: &[&str], output: &Output) {
    assert_harmless(arguments, output);
    let text = all(output);
    for shown in ["calm", "\\u001b[2J", "\\u009b2J", "\\u202e", "end"] {
        assert!(text.contains(shown), "{arguments:?} shows `{shown}`: {text}");
    }
}

fn assert_harmless(arguments: &[&str], output: &Output) {
    let text = all(output);
    assert_eq!(obeyed(&text), None, "{arguments:?}: {text:?}");
}

/// The first character that a terminal obeys instead of showing it, other than ends of lines and tabs.
fn obeyed(text: &str) -> Option<char> {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Lines of CSV end in CR and LF, and a terminal puts a CR of its own before each LF.
    let text = text.replace("\r\r\n", "\n").replace("\r\n", "\n");
    text.chars().find(|c| turns(*c) || (c.is_control() && *c != '\n' && *c != '\t'))
}

/// `text` without the sequences that only set colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(part.len());
        match part[end..].strip_prefix('m') {
            Some(rest) => plain.push_str(rest),
            None => plain.extend(["\u{1b}[", part]),
        }
    }
    plain
}

/// All that was printed.
///
/// # Panics
/// When it is not UTF-8: a lone byte of C1 is obeyed by some terminals.
fn all(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

#[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("a file of ours");
}
