//! Any content of the file gives faults or a configuration within bounded time, and never a panic.

use std::fs;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use toml::de::DeTable;

use super::{FULL, path};
use crate::config::findings::Findings;
use crate::config::{Config, examine, tables};

/// What breaks things: words of the grammar, ends of ranges, other sorts of values.
const NASTY: &[&str] = &[
    "",
    "\"",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{1F9A8}",
    "#",
    "'''",
    "\"\"\"",
    "nan",
    "-inf",
    "-1",
    "1e999",
    "99999999999999999999",
    "0x7f",
    "1979-05-27T07:32:00Z",
    "true",
    "\"1s\"",
    "{}",
    "[]",
    "[[]]",
    "a.b.c = 1\n",
    "[[rule]]\n",
    "[rule.limits]\n",
    "[publish]\n",
    "lid = 1\n",
];

/// Reads a text, and draws what is wrong with it. What is TOML can be mended and read as a whole.
fn survive(text: &str) {
    if DeTable::parse(text).is_ok() {
        let mut findings = Findings::default();
        assert!(tables(text, &mut findings).is_some(), "{findings:?}");
    }
    match Config::from_str_at(text, path()) {
        Ok((_, warnings)) => warnings.iter().for_each(|warning| assert!(warning.line > 0)),
        Err(faults) => {
            assert!(faults.report().faults() > 0);
            assert!(
                faults.to_string().starts_with("error: ") || !faults.report().warnings().is_empty()
            );
            assert!(faults.report().to_json()["faults"].is_array());
            assert!(!faults.report().render(true).is_empty());
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();

        let report = examine(file.path(), |_| Vec::new());

        prop_assert!(report.faults() > 0);
        prop_assert!(!report.render(false).is_empty());
    }

    #[test]
    fn a_good_file_with_bad_parts_is_survived(
        edits in prop::collection::vec((any::<Index>(), 0..12_usize, select(NASTY)), 1..6),
    ) {
        let mut text: Vec<char> = FULL.chars().collect();
        for (place, length, with) in edits {
            let start = place.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, with.chars());
        }

        survive(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_good_file_with_another_value_is_survived(line in any::<Index>(), value in select(NASTY)) {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        let place = line.index(lines.len());
        if let Some((key, _)) = lines[place].clone().split_once(" = ") {
            lines[place] = format!("{key} = {value}");
        }

        survive(&lines.join("\n"));
    }
}

#[test]
fn nesting_without_end_is_a_fault() {
    survive(&format!("{}b = 1", "a.".repeat(200_000)));
    survive(&format!("x = {}", "[".repeat(300_000)));
    survive(&format!("x = {}", "{a=".repeat(100_000)));
}

#[test]
fn a_hopeless_file_is_not_drawn_without_end() {
    let faults = Config::from_str_at(&"[[rule]]\n".repeat(20_000), path()).unwrap_err();

    assert_eq!(faults.report().faults(), 1_000);
}

#[test]
fn a_file_larger_than_any_configuration_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "# squirrel\n".repeat(100_000)).unwrap();

    assert!(examine(file.path(), |_| Vec::new()).render(false).contains("larger than 1 MiB"));
}
