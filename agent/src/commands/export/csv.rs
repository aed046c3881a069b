//! Comma-separated values (RFC 4180): a header, and a line for each record.
//!
//! A text starting like a formula gets an apostrophe in front, so no spreadsheet runs the text:
//! states come from other programs. JSON Lines keep every text unchanged.

use std::io::{self, Write};

use serde_json::Value;

/// A column: its name, and the keys of a record whose value belongs in the column.
pub(super) type CsvColumn = (&'static str, &'static [&'static str]);

/// First characters of a formula in a spreadsheet.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

pub(super) fn write_header(columns: &[CsvColumn], out: &mut impl Write) -> io::Result<()> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    write!(out, "{}\r\n", names.join(","))
}

/// Writes a record given as a flat JSON object.
pub(super) fn write_row(
    columns: &[CsvColumn],
    record: &Value,
    out: &mut impl Write,
) -> io::Result<()> {
    for (at, (_, keys)) in columns.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match keys.iter().find_map(|key| record.get(*key)) {
            Some(Value::String(text)) => write_field(text, out)?,
            Some(value) => write!(out, "{value}")?,
            None => {}
        }
    }
    out.write_all(b"\r\n")
}

/// Writes a text, quoted where a reader would otherwise split or trim the text.
pub(super) fn write_field(text: &str, out: &mut impl Write) -> io::Result<()> {
    let guard = if text.starts_with(FORMULA) { "'" } else { "" };
    let is_plain = !text.contains(['"', ',', '\r', '\n']) && text.trim() == text;
    if is_plain {
        return write!(out, "{guard}{text}");
    }
    write!(out, "\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_reader_would_take_apart_is_quoted() {
        let columns: [CsvColumn; 4] =
            [("seq", &["seq"]), ("value", &["bpm", "state"]), ("unit", &["unit"]), ("x", &["x"])];
        let mut out = Vec::new();

        write_header(&columns, &mut out).unwrap();
        write_row(&columns, &json!({ "seq": "1-2", "bpm": 72.5 }), &mut out).unwrap();
        let quoted = json!({ "state": "a \"b\", c", "unit": " m", "x": "é\n" });
        write_row(&columns, &quoted, &mut out).unwrap();

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "seq,value,unit,x\r\n1-2,72.5,,\r\n,\"a \"\"b\"\", c\",\" m\",\"é\n\"\r\n"
        );
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_a_text_and_a_number_stays_one() {
        let columns: [CsvColumn; 2] = [("value", &["value", "state"]), ("rule", &["rule"])];
        let mut out = Vec::new();

        write_row(&columns, &json!({ "value": -3.5, "rule": "=1+1" }), &mut out).unwrap();
        write_row(&columns, &json!({ "state": "@a,b", "rule": "a=b" }), &mut out).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), "-3.5,'=1+1\r\n\"'@a,b\",a=b\r\n");
    }
}
