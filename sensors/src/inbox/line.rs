//! A line of the inbox: its fields and its faults.

use std::borrow::Cow;
use std::str;

use super::fault::{Code, LineFault};
use super::{json, scan};

/// A well-formed line; its names and its time are not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InboxLine<'a> {
    pub(super) source: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    pub(super) value: LineValue<'a>,
    pub(super) time: Option<LineTime<'a>>,
}

/// A value as written in the line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LineValue<'a> {
    Number(f64),
    State(Cow<'a, str>),
}

/// A time as written in the line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LineTime<'a> {
    Text(Cow<'a, str>),
    Milliseconds(i64),
}

/// Parses a line. The scanner handles the usual notation; any other line, right or wrong, goes to
/// the JSON parser.
pub(super) fn parse_line(line: &[u8]) -> Result<InboxLine<'_>, LineFault> {
    let text = str::from_utf8(line).map_err(|_| LineFault::from_code(Code::NotUtf8))?;
    scan::scan_line(text).map_or_else(|| json::parse_json(text), Ok)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANONICAL: &str =
        r#"{"source":"7","kind":"heart_rate","value":72,"time":"2026-11-20T10:00:00.000Z"}"#;

    fn parsed(text: &str) -> Result<InboxLine<'_>, LineFault> {
        parse_line(text.as_bytes())
    }

    fn faulty_field(text: &str) -> Option<String> {
        parsed(text).expect_err("a fault").field_name().map(str::to_owned)
    }

    #[test]
    fn reads_the_canonical_line_without_the_json_parser() {
        let line = scan::scan_line(CANONICAL).expect("scanned");

        assert_eq!(line.source, "7");
        assert_eq!(line.kind, "heart_rate");
        assert_eq!(line.value, LineValue::Number(72.0));
        assert_eq!(line.time, Some(LineTime::Text("2026-11-20T10:00:00.000Z".into())));
    }

    #[test]
    fn scans_what_usual_encoders_write() {
        for usual in [
            r#"{"source": "7", "kind": "lid", "value": "open", "time": 1795168800000}"#,
            r#"{"value":-0.125,"kind":"air","source":"out:1"}"#,
            "{ \"source\" :\t\"7\", \"kind\": \"lid\", \"value\": 12345.678 }\r",
            r#"{"source":"7","kind":"lid","value":"déjà"}"#,
        ] {
            assert_eq!(scan::scan_line(usual), json::parse_json(usual).ok(), "{usual}");
            assert!(scan::scan_line(usual).is_some(), "{usual}");
        }
    }

    #[test]
    fn understands_escapes_and_exponents() {
        let line = parsed(r#"{"sou\u0072ce":"7","kind":"air","value":1.5e3}"#).expect("a line");

        assert_eq!(line.source, "7");
        assert_eq!(line.value, LineValue::Number(1500.0));
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        assert_eq!(faulty_field(r#"{"kind":"a","value":1}"#).as_deref(), Some("source"));
        assert_eq!(faulty_field(r#"{"source":"7","value":1}"#).as_deref(), Some("kind"));
        assert_eq!(faulty_field(r#"{"source":"7","kind":"a"}"#).as_deref(), Some("value"));
        for (wrong, field) in [
            (r#"{"source":7,"kind":"a","value":1}"#, "source"),
            (r#"{"source":"7","kind":null,"value":1}"#, "kind"),
            (r#"{"source":"7","kind":"a","value":true}"#, "value"),
            (r#"{"source":"7","kind":"a","value":[1,{"b":2}]}"#, "value"),
            (r#"{"source":"7","kind":"a","value":1,"time":1.5}"#, "time"),
            (r#"{"source":"7","kind":"a","value":1,"time":null}"#, "time"),
            (r#"{"source":"7","kind":"a","value":1,"unit":"m"}"#, "unit"),
            (r#"{"source":"7","kind":"a","value":1,"value":2}"#, "value"),
        ] {
            assert_eq!(faulty_field(wrong).as_deref(), Some(field), "{wrong}");
        }
    }

    #[test]
    fn refuses_what_is_not_one_json_object() {
        let deep = "[".repeat(3000);
        for wrong in [
            "{",
            "[]",
            "7",
            "\"x\"",
            "nonsense",
            "{}{}",
            "\0",
            &deep,
            r#"{"source":"7","kind":"a","value":01}"#,
            r#"{"source":"7","kind":"a","value":1e999}"#,
            r#"{"source":"7","kind":"a","value":NaN}"#,
            r#"{"source":"7","kind":"a","value":1,}"#,
            "{\"source\":\"7\u{1}\",\"kind\":\"a\",\"value\":1}",
        ] {
            assert_eq!(parsed(wrong).expect_err("a fault").field_name(), None, "{wrong}");
        }
        assert_eq!(parse_line(b"{\"source\":\"\xff\"}"), Err(LineFault::from_code(Code::NotUtf8)));
    }

    fn token() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::sample::select(vec![
                "{",
                "}",
                ",",
                ":",
                " ",
                "\t",
                "\"source\"",
                "\"kind\"",
                "\"value\"",
                "\"time\"",
                "\"7\"",
                "\"open\"",
                "72",
                "-0",
                "0",
                "00",
                "1.",
                ".5",
                "-",
                "1e5",
                "9007199254740993",
                "123456789012345678",
                "true",
                "null",
                "[]",
                "\"\\n\"",
                "\"\\u00e9\"",
                "\"é\"",
            ])
            .prop_map(str::to_owned),
            any::<f64>().prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            "\\PC{0,8}".prop_map(|text| format!("\"{text}\"")),
        ]
    }

    /// An object of up to five members, most of them legal.
    fn object() -> impl Strategy<Value = String> {
        let key = proptest::sample::select(vec!["source", "kind", "value", "time", "unit"]);
        let space = proptest::sample::select(vec!["", "", " ", "\t "]);
        proptest::collection::vec((key, token(), space), 0..6).prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    /// Lines that programs write, and lines that went wrong once.
    const CORPUS: &str = include_str!("corpus/lines.jsonl");

    fn kept() -> Vec<&'static str> {
        CORPUS.lines().collect()
    }

    #[test]
    fn every_line_of_the_corpus_is_taken() {
        kept().iter().for_each(|line| assert!(parsed(line).is_ok(), "{line}"));
    }

    /// A line as programs write them, with some bytes changed, put in or taken out.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let with = prop_oneof![
            2 => proptest::sample::select(vec!["\"", "\\", "\\u", "{", "}", ",", ":", "e", "-", "0", " "])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..3),
        ];
        let edit = (any::<proptest::sample::Index>(), 0..4_usize, with);
        let edits = proptest::collection::vec(edit, 1..4);
        (proptest::sample::select(kept()), edits).prop_map(|(line, edits)| {
            let mut line = line.as_bytes().to_vec();
            for (place, length, with) in edits {
                let start = place.index(line.len() + 1);
                let end = (start + length).min(line.len());
                line.splice(start..end, with);
            }
            line
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_line_with_edits_is_read_as_the_json_parser_reads_it(line in nearly()) {
            match str::from_utf8(&line) {
                Ok(text) => prop_assert_eq!(parse_line(&line), json::parse_json(text)),
                Err(_) => prop_assert_eq!(parse_line(&line), Err(LineFault::from_code(Code::NotUtf8))),
            }
        }
    }

    proptest! {
        #[test]
        fn the_scanner_never_says_anything_else_than_the_json_parser(
            text in prop_oneof![
                object(),
                proptest::collection::vec(token(), 0..24).prop_map(|tokens| tokens.concat()),
            ]
        ) {
            if let Some(line) = scan::scan_line(&text) {
                prop_assert_eq!(Ok(line), json::parse_json(&text));
            }
        }

        #[test]
        fn numbers_arrive_as_they_were_written(number in any::<f64>()) {
            prop_assume!(number.is_finite());
            let text = format!(r#"{{"source":"7","kind":"a","value":{number}}}"#);

            let line = parsed(&text).expect("a line");

            prop_assert_eq!(line.value, LineValue::Number(number));
        }

        #[test]
        fn decimals_as_sensors_print_them_are_scanned(
            whole in -99_999_i32..100_000, fraction in 0_u32..10_000,
        ) {
            let text = format!(r#"{{"source":"7","kind":"a","value":{whole}.{fraction:04}}}"#);

            prop_assert_eq!(scan::scan_line(&text), json::parse_json(&text).ok());
            prop_assert!(scan::scan_line(&text).is_some());
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _line = parse_line(&bytes);
        }
    }
}
