//! Readings in columns as the standard records, for tests that look into messages.
//! `agent/decode_columns.py` does the same for users; `tests/tests/columns.rs` compares both.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Returns the standard records of a message in columns; `None` if the message has another form.
#[must_use]
pub fn decode_columns(message: &Value) -> Option<Vec<Value>> {
    (message["columns"] == 1).then_some(())?;
    let (mut energy, mut rr) = (iter_column(message, "energy_kj"), iter_column(message, "rr"));
    let mut numbers: HashMap<usize, (f64, i32)> = HashMap::new();
    let mut records = Vec::new();
    let times = reading_times(message)?;
    for (((id, at), time_ms), value) in record_ids(message)?
        .zip(series_places(message)?)
        .zip(times)
        .zip(message["value"].as_array()?)
    {
        let mut record = message["series"][at].clone();
        let number = numbers.entry(at).or_insert((0.0, 0));
        match value {
            Value::Number(difference) => number.0 += difference.as_f64()?,
            Value::Array(pair) => {
                *number = (pair[0].as_f64()?, i32::try_from(pair[1].as_i64()?).ok()?);
            }
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_) => {}
        }
        record["seq"] = json!(id);
        record["time"] = json!(format_time(time_ms)?);
        let key = if record["kind"] == "heart_rate" { "bpm" } else { "value" };
        match value {
            Value::String(state) => record["state"] = json!(state),
            Value::Null => record[key] = Value::Null,
            Value::Number(_) | Value::Array(_) | Value::Bool(_) | Value::Object(_) => {
                record[key] = plain_number(*number);
            }
        }
        if record.get("energy_kj").is_some() {
            record["energy_kj"] = energy.next()?.clone();
        }
        if record.get("rr_ms").is_some() {
            let raw = rr.next()?.as_array()?.iter().filter_map(Value::as_f64);
            let intervals = raw.map(|raw| format!("{:.2}", raw * 1000.0 / 1024.0));
            record["rr_ms"] = json!(intervals.collect::<Vec<_>>().join(" "));
        }
        records.push(record);
    }
    Some(records)
}

/// Returns the times of the readings of a message in columns, in milliseconds since 1970.
#[must_use]
pub fn reading_times(message: &Value) -> Option<Vec<i64>> {
    let begin = message["time"].as_i64()?;
    let mut last: HashMap<usize, (i64, i64)> = HashMap::new();
    let changes = message["ms"].as_array()?.iter().filter_map(Value::as_i64);
    let times = series_places(message)?.zip(changes).map(|(at, change)| {
        let (time, step) = last.entry(at).or_insert((begin, 0));
        *step += change;
        *time += *step;
        *time
    });
    Some(times.collect())
}

fn iter_column<'a>(message: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    message[key].as_array().into_iter().flatten()
}

fn series_places(message: &Value) -> Option<impl Iterator<Item = usize>> {
    let count = message["ms"].as_array()?.len();
    let places = iter_column(message, "index").filter_map(Value::as_u64);
    let places: Vec<usize> = places.filter_map(|at| usize::try_from(at).ok()).collect();
    Some((0..count).map(move |n| places.get(n).copied().unwrap_or(0)))
}

fn record_ids(message: &Value) -> Option<impl Iterator<Item = String>> {
    let mut ids = Vec::new();
    for start in message["seq"].as_array()? {
        let (start, steps) = start.as_array()?.split_first()?;
        let mut seq = 0;
        for step in steps.iter().filter_map(Value::as_i64) {
            let (count, step) = if step < 0 { (-step, 1) } else { (1, step) };
            for _ in 0..count {
                seq += step;
                ids.push(format!("{}-{seq}", start.as_str()?));
            }
        }
    }
    Some(ids.into_iter())
}

fn plain_number((scaled, decimals): (f64, i32)) -> Value {
    let number = scaled / 10_f64.powi(decimals);
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    match number.fract() == 0.0 && number.abs() < 9e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}

fn format_time(ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}
