//! Checks one value against its schema.

use serde_json::Value;
use toml::de::{DeInteger, DeValue};

use super::{choices, quantity, sort, words};
use crate::config::findings::{Finding, NOWHERE};
use crate::config::nearest::suggest;
use crate::config::placeholder;
use crate::config::units::Quantity;

/// Returns the fault of the value of the key `name`, if any. `place` is the schema in which the key
/// is declared, `schema` the schema of its type.
pub(super) fn check_value(
    place: &Value,
    schema: &Value,
    value: &DeValue<'_>,
    name: &str,
) -> Option<Finding> {
    let name = name.rsplit('.').next().unwrap_or(name);
    match (sort(schema), value) {
        ("string", DeValue::String(text)) => match quantity(schema) {
            Some(wanted) => amount(schema, wanted, text, name),
            None => word(place, schema, text, name),
        },
        ("string", DeValue::Integer(_) | DeValue::Float(_)) if quantity(schema).is_some() => {
            let wanted = quantity(schema)?;
            Some(fault(format!("`{name}` is a number without a unit")).label(wanted.example()))
        }
        ("scalar", DeValue::String(text)) => word(place, schema, text, name),
        ("integer" | "number" | "scalar", DeValue::Integer(number)) => match whole(number) {
            Some(number) => number_range(schema, number.to_string().parse().ok()?, name),
            None => Some(fault(format!("`{name}` is too large a number"))),
        },
        ("number" | "scalar", DeValue::Float(number)) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => number_range(schema, number, name),
            _ => Some(fault(format!("`{name}` must be a finite number"))),
        },
        ("boolean", DeValue::Boolean(_)) => None,
        (_, found) => {
            let wanted = in_words(schema);
            Some(fault(format!("`{name}` must be {wanted}, not {}", article(found.type_str()))))
        }
    }
}

/// Creates a fault; the caller sets its place.
fn fault(message: String) -> Finding {
    Finding::fault(NOWHERE, message)
}

fn amount(schema: &Value, wanted: Quantity, text: &str, name: &str) -> Option<Finding> {
    let Some(amount) = wanted.parse(text) else {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let what = wanted.name();
        return Some(if bare {
            fault(format!("`{name}` is a number without a unit")).label(wanted.example())
        } else {
            fault(format!("`{name}` is not a {what}: `{text}`")).label(wanted.example())
        });
    };
    let mut limits = words(schema, "x-range");
    let (low, high) = (limits.next()?, limits.next()?);
    let (least, most) = (wanted.parse(low)?, wanted.parse(high)?);
    (!(least..=most).contains(&amount))
        .then(|| fault(format!("`{name}` must be {low} to {high}, not {text}")))
}

fn word(place: &Value, schema: &Value, text: &str, name: &str) -> Option<Finding> {
    let choices = choices(schema);
    if choices.is_empty() {
        if place["minLength"] == 1 && text.trim().is_empty() {
            return Some(fault(format!("`{name}` is empty")));
        }
        return placeholder::reason(text)
            .map(|reason| fault(format!("`{name}` still holds a placeholder: {reason}")));
    }
    (!choices.contains(&text))
        .then(|| suggest(fault(format!("`{name}` cannot be `{text}`")), text, &choices, "values"))
}

fn number_range(schema: &Value, number: f64, name: &str) -> Option<Finding> {
    let low = schema["minimum"].as_f64().unwrap_or(f64::NEG_INFINITY);
    let high = schema["maximum"].as_f64().unwrap_or(f64::INFINITY);
    (!(low..=high).contains(&number)).then(|| {
        let wanted =
            if high.is_finite() { format!("{low} to {high}") } else { format!("{low} or more") };
        fault(format!("`{name}` must be {wanted}, not {number}"))
    })
}

fn whole(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn in_words(schema: &Value) -> &str {
    match (sort(schema), quantity(schema)) {
        ("object", _) => "a table",
        ("array", _) => "an array",
        ("boolean", _) => "`true` or `false`",
        ("integer", _) => "a whole number",
        ("number", _) => "a number",
        ("scalar", _) => "a string or a number",
        (_, Some(Quantity::Duration)) => "a duration in quotes",
        (_, Some(Quantity::Size)) => "a size in quotes",
        (_, None) => "a string in quotes",
    }
}

fn article(noun: &str) -> String {
    match noun {
        "integer" | "array" => format!("an {noun}"),
        _ => format!("a {noun}"),
    }
}
