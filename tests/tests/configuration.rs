//! Configurations that are refused, and the commands that tell of them: NC-2 and KA-1 of the
//! acceptance scenarios, and the exit codes that systemd and scripts go by.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use pulsegate_tests::agent_process::Device;
use pulsegate_tests::certs::{Certs, Issued};
use pulsegate_tests::site::THING;
use serde_json::Value;

/// systemd does not start a service again that ends with it.
const BAD_CONFIGURATION: Option<i32> = Some(78);

/// NC-2.
#[test]
fn a_key_that_others_can_read_is_refused_with_the_cure() {
    for mode in [0o640, 0o604, 0o660, 0o666] {
        let desk = Desk::new();
        let key = &desk.identity.files.private_key;
        std::fs::set_permissions(key, Permissions::from_mode(mode)).expect("it is ours");

        let output = desk.run_agent(&desk.device());

        assert_eq!(output.status.code(), BAD_CONFIGURATION, "mode {mode:o}");
        let told = told(&output);
        assert!(told.contains("others can use the private key"), "{told}");
        assert!(told.contains(&format!("mode {mode:04o}")), "{told}");
        assert!(told.contains("chmod 0600"), "{told}");
    }
}

/// NC-2.
#[test]
fn a_placeholder_is_refused_where_it_stands() {
    let desk = Desk::new();
    for (key, left, mark) in [
        ("endpoint", "\"<prefix>-ats.iot.eu-west-1.amazonaws.com\"", "<prefix>"),
        ("thing", "\"your-thing\"", "your-thing"),
        ("endpoint", "\"broker.example.com\"", "example.com"),
    ] {
        let output = desk.run_agent(&desk.device().set("", key, left));

        assert_eq!(output.status.code(), BAD_CONFIGURATION, "{key} = {left}");
        let told = told(&output);
        assert!(told.contains("placeholder") && told.contains(mark), "{told}");
        assert!(told.contains("pulsegate.toml:"), "no place: {told}");
        assert!(told.contains(&format!("{key} = {left}")) && told.contains('^'), "{told}");
    }
}

/// NC-2: a key file that was never filled in.
#[test]
fn a_key_file_with_a_placeholder_is_refused() {
    let desk = Desk::new();
    let device = desk.device();
    let path = device.dir().join("key.pem");
    std::fs::copy(&desk.identity.files.private_key, &path).expect("a copy, with its mode");
    overwrite(&path, "REPLACE_ME with the key of this device\n");
    let device = device.set("identity", "private_key", &format!("{path:?}"));

    let output = desk.run_agent(&device);

    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    assert!(told(&output).contains("holds no private key"), "{}", told(&output));
    assert!(told(&output).contains("placeholder"), "{}", told(&output));
}

/// KA-1.
#[test]
fn a_rule_that_names_what_is_not_there_is_told_the_nearest_that_is() {
    const CAMERA: &str =
        "[[camera]]\nid = \"nest\"\ncapture = { command = [\"true\", \"{path}\"] }\n";
    const OUTPUT: &str = "[[output]]\nid = \"lamp\"\npin = 22\n";
    const NUMBER: &str = "[[number]]\nid = \"greenhouse\"\nfile = \"/proc/loadavg\"\n";
    for (rule, unknown, nearest) in [
        ("source = \"grenhouse\"\nabove = 1", "grenhouse", "greenhouse"),
        ("on = \"nmber\"\nabove = 1", "nmber", "number"),
        ("source = \"greenhouse\"\nabove = 1\nthen = [\"capture:nets\"]", "nets", "nest"),
        ("source = \"greenhouse\"\nabove = 1\nthen = [\"output:lmap\"]", "lmap", "lamp"),
        (
            "on = \"number\"\nabove = 1\nlimits = [{ source = \"greenhose\", above = 2 }]",
            "greenhose",
            "greenhouse",
        ),
    ] {
        let desk = Desk::new();
        let rule = format!("[[rule]]\nname = \"r\"\n{rule}\n");
        // An inbox for any source would make any name a possible one.
        let device = desk.device().inbox_only(&[]).with(&format!("{NUMBER}{CAMERA}{OUTPUT}{rule}"));

        let output = desk.run_agent(&device);

        assert_eq!(output.status.code(), BAD_CONFIGURATION, "{rule}");
        let told = told(&output);
        assert!(told.contains(unknown), "{told}");
        assert!(told.contains(&format!("`{nearest}`")), "{nearest}: {told}");
    }
}

#[test]
fn check_tells_every_fault_at_once_and_in_json() {
    let desk = Desk::new();
    let device = desk.device().set("", "thing", "\"a thing\"").set("link", "keep_alive", "30").set(
        "buffer",
        "comit_interval",
        "\"1s\"",
    );
    device.write_config();
    let config = device.config_path();
    let config = config.to_str().expect("UTF-8");

    let text = device.run(&["check", "--config", config]);
    let json = device.run(&["check", "--json", "--config", config]);

    assert_eq!((text.status.code(), json.status.code()), (BAD_CONFIGURATION, BAD_CONFIGURATION));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let faults = json["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 3, "{json:#}");
    for fault in faults {
        assert!(text.contains(fault["message"].as_str().expect("a string")), "{fault} in {text}");
        assert!(fault["line"].as_u64() >= Some(1) && fault["column"].as_u64() >= Some(1));
    }
    assert!(text.contains("commit_interval"), "the nearest valid key: {text}");
}

#[test]
fn check_passes_what_run_would_take() {
    let desk = Desk::new();
    let device = desk.device();
    device.write_config();

    let output = device.run(&["check", "--config", device.config_path().to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[test]
fn schema_is_a_json_schema_that_knows_every_table_of_the_example() {
    let desk = Desk::new();

    let output = desk.device().run(&["schema"]);

    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|id| id.contains("json-schema.org")));
    for table in ["identity", "link", "heart_rate", "lid", "number", "inbox", "rule", "publish"] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
}

#[test]
fn version_names_the_program_and_its_version() {
    let output = Desk::new().device().run(&["version"]);

    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = told.trim().strip_prefix("pulsegate ").expect("its name");
    assert_eq!(version.split('.').count(), 3, "{told}");
}

#[test]
fn a_configuration_that_is_not_there_is_a_bad_one() {
    let output = Desk::new().device().run(&["run", "--config", "/nonexistent/pulsegate.toml"]);

    assert_eq!(output.status.code(), BAD_CONFIGURATION);
    assert!(told(&output).contains("/nonexistent/pulsegate.toml"), "{}", told(&output));
}

#[test]
fn status_without_an_agent_fails_and_says_so() {
    let desk = Desk::new();
    let device = desk.device();
    device.write_config();

    let output = device.run(&["status", "--config", device.config_path().to_str().unwrap()]);

    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("no agent answers"), "{}", told(&output));
}

/// What a configuration needs to be complete, without a broker.
struct Desk {
    certs: Certs,
    identity: Issued,
}

impl Desk {
    fn new() -> Self {
        let certs = Certs::new();
        let identity = certs.device(THING);
        Self { certs, identity }
    }

    fn device(&self) -> Device {
        Device::new(THING).identity(&self.identity.files).broker(1, &self.certs.ca())
    }

    /// Runs an agent that has to end by itself.
    fn run_agent(&self, device: &Device) -> Output {
        device.write_config();
        device.run(&["run", "--config", device.config_path().to_str().expect("UTF-8")])
    }
}

/// All that a command said.
fn told(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
fn overwrite(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("a file of ours");
}
