#![expect(clippy::disallowed_methods, reason = "a test may write files that a power cut can have")]

mod faults;
mod files;
mod hostile;
mod outputs;
mod privacy;
mod published;
mod rendered;
mod rules;
mod running;
mod visits;
mod vocabulary;
mod whole;

use std::path::Path;

use super::{Config, Warning};

/// Every key, none with its default.
const FULL: &str = include_str!("tests/full.toml");

/// As little as there can be.
const LEAST: &str = r#"
thing = "pi-1"
endpoint = "abc-ats.iot.eu-west-1.amazonaws.com"
identity = { certificate = "c.pem", private_key = "k.pem" }
"#;

/// Where the configurations of these tests claim to stand.
fn path() -> &'static Path {
    Path::new("pulsegate.toml")
}

/// Reads the least configuration with `lines` after it.
fn with(lines: &str) -> (Config, Vec<Warning>) {
    let text = format!("{LEAST}\n{lines}");
    Config::from_str_at(&text, path()).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Says that the least configuration with `lines` has this one fault, at `caret`.
#[track_caller]
fn expect_fault(lines: &str, message: &str, caret: &str) {
    expect_fault_in(&format!("{LEAST}\n{lines}"), message, caret);
}

#[track_caller]
fn expect_fault_in(text: &str, message: &str, caret: &str) {
    let faults = Config::from_str_at(text, path()).expect_err("it has a fault");
    let drawn = faults.to_string();
    let json = faults.report().to_json();
    let found = json["faults"].as_array().expect("a list");

    assert_eq!(found.len(), 1, "{drawn}");
    assert_eq!(found[0]["message"], message, "{drawn}");
    let number = |key: &str| usize::try_from(found[0][key].as_u64().unwrap()).unwrap();
    let line = text.lines().nth(number("line") - 1).unwrap_or_default();
    let rest: String = line.chars().skip(number("column") - 1).collect();
    assert!(rest.starts_with(caret), "the caret is at `{rest}`:\n{drawn}");
}

/// Says what the fix of the only fault is.
fn fix_of(lines: &str) -> String {
    let text = format!("{LEAST}\n{lines}");
    let faults = Config::from_str_at(&text, path()).expect_err("it has a fault");
    let json = faults.report().to_json();
    json["faults"][0]["help"].as_str().unwrap_or_else(|| panic!("no help: {faults}")).to_owned()
}
