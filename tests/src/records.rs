//! Records out of payloads, and what can be asked of them.

use std::collections::HashSet;

use serde_json::Value;

use crate::columns::decode_columns;
use crate::subscriber::Message;

/// The records of every message whose topic ends in `topic_end`, in order.
///
/// # Panics
/// As [`parse`].
#[must_use]
pub fn of(messages: &[Message], topic_end: &str) -> Vec<Value> {
    let matching = messages.iter().filter(|message| message.topic.ends_with(topic_end));
    matching.flat_map(|message| parse(&message.payload)).collect()
}

/// The records of one payload: a JSON array, a line of JSON for each, or columns.
///
/// # Panics
/// When it is neither.
#[must_use]
pub fn parse(payload: &[u8]) -> Vec<Value> {
    let values = serde_json::Deserializer::from_slice(payload).into_iter::<Value>();
    let mut records = Vec::new();
    for value in values {
        match value {
            Ok(Value::Array(elements)) => records.extend(elements),
            Ok(object) => match decode_columns(&object) {
                Some(readings) => records.extend(readings),
                None => records.push(object),
            },
            Err(error) => {
                panic!("not JSON: {error} in `{}`", String::from_utf8_lossy(payload))
            }
        }
    }
    records
}

/// The different `seq` of records.
///
/// # Panics
/// When a record has none.
#[must_use]
pub fn sequences<'a>(records: &'a [Value]) -> HashSet<&'a str> {
    let sequence = |record: &'a Value| {
        record["seq"].as_str().unwrap_or_else(|| panic!("no `seq` in {record}"))
    };
    records.iter().map(sequence).collect()
}

/// The place of a record id, such as `12k3f9x2ab-345`: the counter of the start of the agent, and the
/// number in the store.
#[must_use]
pub fn place(id: &str) -> Option<(u64, u64)> {
    let (start, number) = id.split_once('-')?;
    let suffix = start.trim_start_matches(|character: char| character.is_ascii_digit());
    let counter = start.strip_suffix(suffix)?;
    Some((counter.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_hold_the_same_records() {
        let array = parse(br#"[{"seq":"1-1"},{"seq":"1-2"}]"#);
        let lines = parse(b"{\"seq\":\"1-1\"}\n{\"seq\":\"1-2\"}\n");

        assert_eq!(array, lines);
        assert_eq!(sequences(&array).len(), 2);
    }

    #[test]
    fn the_place_of_a_record_is_told_with_a_suffix_and_without_one() {
        assert_eq!(place("12k3f9x2ab-345"), Some((12, 345)));
        assert_eq!(place("12-345"), Some((12, 345)));
        assert_eq!(place("345"), None);
    }

    #[test]
    #[should_panic(expected = "not JSON")]
    fn half_a_record_is_no_record() {
        drop(parse(br#"{"seq":"1-1"} {"se"#));
    }
}
