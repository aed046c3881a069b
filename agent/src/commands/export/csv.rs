//! Comma-separated values (RFC 4180): a header, and a line for each record.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// A column: its name, and the keys of a record that may stand in it.
pub(super) type Column = (&'static str, &'static [&'static str]);

pub(super) fn header(columns: &[Column], out: &mut impl Write) -> io::Result<()> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    write!(out, "{}\r\n", names.join(","))
}

/// Writes a record, which is a flat JSON object.
pub(super) fn row(columns: &[Column], json: &str, out: &mut impl Write) -> io::Result<()> {
    let record: Map<String, Value> = serde_json::from_str(json)?;
    for (at, (_, keys)) in columns.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match keys.iter().find_map(|key| record.get(*key)) {
            Some(Value::String(text)) => field(text, out)?,
            Some(value) => write!(out, "{value}")?,
            None => {}
        }
    }
    out.write_all(b"\r\n")
}

/// Quoted if it would not be read back as it is.
fn field(text: &str, out: &mut impl Write) -> io::Result<()> {
    let is_plain = !text.contains(['"', ',', '\r', '\n']) && text.trim() == text;
    if is_plain {
        return out.write_all(text.as_bytes());
    }
    write!(out, "\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_would_take_apart_is_quoted() {
        let columns: [Column; 4] =
            [("seq", &["seq"]), ("value", &["bpm", "state"]), ("unit", &["unit"]), ("x", &["x"])];
        let mut out = Vec::new();

        header(&columns, &mut out).unwrap();
        row(&columns, r#"{"seq":"1-2","bpm":72.5}"#, &mut out).unwrap();
        row(&columns, r#"{"state":"a \"b\", c","unit":" m","x":"é\n"}"#, &mut out).unwrap();

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "seq,value,unit,x\r\n1-2,72.5,,\r\n,\"a \"\"b\"\", c\",\" m\",\"é\n\"\r\n"
        );
    }
}
