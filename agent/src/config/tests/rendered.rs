//! The exact output for people.

use super::{LEAST, path};
use crate::config::Config;

fn drawn(lines: &str) -> String {
    let text = format!("{LEAST}\n{lines}");
    Config::from_str_at(&text, path()).expect_err("it has a fault").to_string()
}

#[test]
fn a_misspelt_key_has_its_line_a_caret_and_the_right_name() {
    let drawn = drawn("[[lid]]\nid = \"feeder\"\npin = 17\ndebouce = \"20ms\"");

    let expected = r#"error: unknown key `debouce` in `lid`
 --> pulsegate.toml:9:1
  |
9 | debouce = "20ms"
  | ^^^^^^^ did you mean `debounce`?

pulsegate.toml: 1 fault"#;
    assert_eq!(drawn, expected);
}

#[test]
fn a_name_given_twice_shows_both_places() {
    let drawn =
        drawn("[[lid]]\nid = \"feeder\"\npin = 17\n\n[[number]]\nfile = \"f\"\nid = \"feeder\"");

    let expected = r#"error: id `feeder` is given twice
  --> pulsegate.toml:12:6
   |
 7 | id = "feeder"
   |      -------- first here
...
12 | id = "feeder"
   |      ^^^^^^^^

pulsegate.toml: 1 fault"#;
    assert_eq!(drawn, expected);
}

#[test]
fn a_limit_of_aws_says_when_it_may_be_exceeded() {
    let drawn = drawn("[link]\nwindow = 200");

    let expected = r#"error: `window` must be 1 to 100, not 200
 --> pulsegate.toml:7:10
  |
7 | window = 200
  |          ^^^
  |
  = help: another broker than AWS IoT Core may take it: `limits = "none"` in `[link]`

pulsegate.toml: 1 fault"#;
    assert_eq!(drawn, expected);
}

#[test]
fn a_text_that_is_not_toml_has_its_line_and_a_caret() {
    let drawn = drawn("state_dir = \"/var");

    let expected = r#"error: invalid basic string, expected `"`
 --> pulsegate.toml:6:18
  |
6 | state_dir = "/var
  |                  ^

pulsegate.toml: 1 fault"#;
    assert_eq!(drawn, expected);
}

#[test]
fn a_warning_beside_a_fault_is_told_apart() {
    let drawn = drawn("[log]\nlevel = \"loud\"\n[publish.readings]\nfields = { v = \"value\" }");

    let expected = r#"error: `level` cannot be `loud`
 --> pulsegate.toml:7:9
  |
7 | level = "loud"
  |         ^^^^^^
  |
  = help: valid values: `debug`, `info`, `warn`, `error`, `trace`

warning: without `seq` the cloud cannot remove duplicates
 --> pulsegate.toml:9:10
  |
9 | fields = { v = "value" }
  |          ^^^^^^^^^^^^^^^
  |
  = help: add a key for it, such as `seq = "seq"`

pulsegate.toml: 1 fault, 1 warning"#;
    assert_eq!(drawn, expected);
}

#[test]
fn a_script_gets_the_same_as_json() {
    let text =
        format!("{LEAST}\nlog.level = \"inf\"\npublish.readings.fields = {{ v = \"value\" }}");

    let faults = Config::from_str_at(&text, path()).unwrap_err();

    let expected = serde_json::json!({
        "file": "pulsegate.toml",
        "faults": [{
            "line": 6,
            "column": 13,
            "message": "`level` cannot be `inf`",
            "help": "did you mean `info`?",
        }],
        "warnings": [{
            "line": 7,
            "column": 27,
            "message": "without `seq` the cloud cannot remove duplicates",
            "help": "add a key for it, such as `seq = \"seq\"`",
        }],
    });
    assert_eq!(faults.report().to_json(), expected);
}
