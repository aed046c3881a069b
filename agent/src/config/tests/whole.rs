//! The file as a whole: every key, every default, every fault at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use pulsegate_core::cloud::record_text::Framing;
use pulsegate_core::rules::Action;
use pulsegate_sensors::heart_rate::{Address, MonitorIdentity};
use serde_json::Value;

use super::{FULL, path, with};
use crate::config::schema;
use crate::config::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

#[test]
fn the_full_example_passes() {
    let (config, warnings) =
        Config::from_str_at(FULL, path()).unwrap_or_else(|faults| panic!("{faults}"));

    let ports: Vec<Port> = config.link.list_ports().collect();
    assert_eq!(ports[0], Port { number: 8883, alpn: false });
    assert_eq!(ports[1], Port { number: 443, alpn: true });
    assert_eq!(
        config.sensors.heart_rates[0].identity(),
        Some(MonitorIdentity::Address(Address::new([0xA0, 0x9E, 0x1A, 1, 2, 3])))
    );
    assert_eq!(config.sensors.numbers[0].kind, "temperature");
    let step = config.sensors.simulated[0].steps[1];
    assert_eq!((step.at, step.mean), (Duration::from_secs(20), 70.0));
    assert_eq!(config.rules[1].then, [Action::Alert]);
    assert_eq!(
        config.publish.readings.format.topic.fill_in("s", "k"),
        "pulsegate/pi-nestbox-3/k/s"
    );
    assert_eq!(config.buffer.max_bytes, 500_000_000);
    assert_eq!(config.visits.len(), 4);
    assert_eq!(&*config.visits[1].spec.opening, "active");
    assert_eq!(warnings.len(), 2, "uploads, every: {warnings:?}");
}

#[test]
fn the_example_file_passes_but_for_its_files() {
    let (config, warnings) =
        Config::from_str_at(EXAMPLE, path()).unwrap_or_else(|faults| panic!("{faults}"));

    assert_eq!(config.rules.len(), 1);
    assert_eq!(warnings, []);
}

#[test]
fn every_comment_of_the_example_that_is_a_key_is_valid() {
    let starts = |line: &str| {
        let word = line.trim_start_matches("# ");
        line.starts_with("# ")
            && (word.starts_with('[')
                || word.split_once(" = ").is_some_and(|(key, _)| {
                    key.trim_end().bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                }))
    };
    let lines = EXAMPLE.lines().map(|line| if starts(line) { &line[2..] } else { line });
    let text: Vec<&str> = lines.collect();

    let (config, warnings) =
        Config::from_str_at(&text.join("\n"), path()).unwrap_or_else(|faults| panic!("{faults}"));

    assert_eq!(config.sensors.simulated.len(), 1);
    let messages: Vec<&str> = warnings.iter().map(|warning| &*warning.message).collect();
    assert_eq!(messages, ["pictures stay on this device: this version uploads none"]);
}

#[test]
fn the_least_file_has_every_default() {
    let (config, warnings) = with("");

    let Link { ports, keep_alive, window, messages_per_second, bytes_per_second, .. } = config.link;
    assert_eq!(ports, [443, 8883]);
    assert_eq!((keep_alive, window), (Duration::from_secs(30), 16));
    assert_eq!((messages_per_second, bytes_per_second), (50, 384 << 10));
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/pulsegate"));
    assert_eq!(config.buffer.commit_interval, Duration::from_secs(1));
    assert_eq!(config.buffer.history, Duration::from_secs(7 * 86_400));
    assert_eq!(config.publish.readings.format.topic.fill_in("s", "k"), "pulsegate/pi-1/readings");
    let readings = &config.publish.readings;
    assert_eq!((readings.limit_bytes, readings.delay), (20 << 10, Duration::from_secs(5)));
    assert_eq!(config.publish.alerts.delay, Duration::ZERO);
    assert_eq!(warnings, []);
}

#[test]
fn what_a_kind_leaves_out_is_as_for_all_readings() {
    let (config, _) = with(
        "lid = [{ id = \"a\", pin = 1 }]\n[publish.readings]\nformat = \"lines\"\n\
         batch = { delay = \"1s\" }\n[publish.lid]\nbatch = { bytes = \"5KiB\" }",
    );

    let lid = &config.publish.kinds["lid"];
    assert_eq!(lid.format.framing, Framing::Lines);
    assert_eq!((lid.limit_bytes, lid.delay), (5 << 10, Duration::from_secs(1)));
}

#[test]
fn a_reload_sees_which_section_changed() {
    let (old, _) = with("");
    let (new, _) = with("log.level = \"debug\"");

    assert_ne!(old.log, new.log);
    assert_eq!(old.link, new.link);
}

#[test]
fn twelve_faults_are_shown_at_once() {
    let text = FULL
        .replace("thing = \"pi-nestbox-3\"", "thing = \"pi nestbox\"")
        .replace("keep_alive = \"60s\"", "keep_alive = 60")
        .replace("trust = \"system\"", "trust = \"systm\"")
        .replace("silence = \"30s\"", "silense = \"30s\"")
        .replace("A0:9E:1A:01:02:03", "A0:9E:1A:01:02")
        .replace("id = \"garden\"", "id = \"feeder\"")
        .replace("pin = 22", "pin = 17")
        .replace("unit = \"celsius\"", "unit = \"TODO\"")
        .replace("below = 40", "below = 400")
        .replace("capture:nest", "capture:nets")
        .replace("topic = \"iot/heartrate\"", "topic = \"iot/+\"")
        .replace("max_bytes = \"500MB\"", "max_bytes = \"5MB\"");

    let faults = Config::from_str_at(&text, path()).unwrap_err();

    assert_eq!(faults.report().faults(), 12, "{faults}");
}

#[test]
fn the_schema_lists_every_key_and_describes_it() {
    let schema = schema().to_value();
    let document: Value = toml::from_str::<toml::Value>(FULL).unwrap().try_into().unwrap();
    let mut listed = BTreeSet::new();
    list_keys(&schema, &schema, "", &mut listed);
    let mut used = BTreeSet::new();
    use_keys(&document, "", &mut used);

    // The kinds of [publish.<kind>] and the keys of its fields and additions are the operator's own words.
    let own = [".fields.", ".add."];
    used.retain(|key| {
        !key.starts_with("publish.heart_rate") && !own.iter().any(|o| key.contains(o))
    });
    let is_kind_of_publish =
        |key: &String| key.starts_with("publish.") && key.split('.').count() > 2;
    assert_eq!(
        listed.iter().filter(|key| !is_kind_of_publish(key)).collect::<Vec<_>>(),
        used.iter().filter(|key| !is_kind_of_publish(key)).collect::<Vec<_>>()
    );
    for key in used.iter().filter(|key| is_kind_of_publish(key)) {
        assert!(listed.contains(key), "{key}");
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => root.pointer(&path[1..]).expect("a definition"),
        None => schema,
    }
}

fn list_keys(root: &Value, schema: &Value, place: &str, listed: &mut BTreeSet<String>) {
    let schema = resolve(root, schema);
    let elements = resolve(root, &schema["items"]);
    for table in [schema, elements] {
        for (key, value) in table["properties"].as_object().into_iter().flatten() {
            let key = format!("{place}.{key}").trim_start_matches('.').to_owned();
            let described =
                value["description"].is_string() || resolve(root, value)["description"].is_string();
            assert!(described, "`{key}` has no description");
            assert!(!value.to_string().contains("null"), "`{key}` may be null, which TOML has not");
            list_keys(root, value, &key, listed);
            listed.insert(key);
        }
    }
}

fn use_keys(value: &Value, place: &str, used: &mut BTreeSet<String>) {
    for element in value.as_array().into_iter().flatten() {
        use_keys(element, place, used);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let key = format!("{place}.{key}").trim_start_matches('.').to_owned();
        use_keys(value, &key, used);
        used.insert(key);
    }
}

#[test]
fn the_schema_gives_durations_and_sizes_a_pattern() {
    let schema = schema().to_value();

    let buffer = &schema["$defs"]["Buffer"]["properties"];
    assert_eq!(buffer["ttl"]["pattern"], "^[0-9]+(ms|s|m|h|d)$");
    assert_eq!(buffer["max_bytes"]["pattern"], "^[0-9]+(B|KB|KiB|MB|MiB|GB|GiB)$");
    assert_eq!(buffer["commit_interval"]["default"], "1s");
}
