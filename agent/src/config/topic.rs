//! Topic templates: what they may hold, and that each topic made of them fits the broker.

use super::model::Limits;

/// Topics of a configuration that names none.
pub(super) mod default {
    pub(in crate::config) const READINGS: &str = "pulsegate/{thing}/readings";
    pub(in crate::config) const EVENTS: &str = "pulsegate/{thing}/events";
    pub(in crate::config) const ALERTS: &str = "pulsegate/{thing}/alerts";
}

/// Basic Ingest: what follows the rule's name is the topic, and only that is limited.
const BASIC_INGEST: &str = "$aws/rules/";
/// AWS IoT Core message broker limits: "Topic size".
const MAX_BYTES: usize = 256;
/// AWS IoT Core message broker limits: "Maximum number of slashes in topic and topic filter".
const MAX_SLASHES: usize = 7;
/// MQTT 3.1.1, section 1.5.3.
const MAX_MQTT_BYTES: usize = 65_535;

/// The longest names that can stand for the placeholders of a template.
pub(super) struct Longest<'a> {
    /// For `{thing}`.
    pub(super) thing: &'a str,
    /// For `{source}`; absent where there is no source.
    pub(super) source: Option<&'a str>,
    /// For `{kind}`; absent where there is no kind.
    pub(super) kind: Option<&'a str>,
}

/// Says what is wrong with `template`, and the fix.
pub(super) fn check(
    template: &str,
    longest: &Longest<'_>,
    limits: Limits,
) -> Result<(), (String, String)> {
    let topic = fill(template, longest)?;
    let no = |message: &str, fix: &str| Err((message.to_owned(), fix.to_owned()));
    if topic.is_empty() {
        return no("a topic cannot be empty", "such as \"pulsegate/{thing}/readings\"");
    }
    if let Some(wildcard) = topic.chars().find(|c| ['+', '#'].contains(c)) {
        return no(&format!("`{wildcard}` is for subscriptions"), "a topic has no wildcards");
    }
    if topic.contains(char::is_control) {
        return no("a topic has no control characters", "MQTT 3.1.1, section 1.5.3");
    }
    match limits {
        Limits::None if topic.len() > MAX_MQTT_BYTES => {
            no(&format!("this topic has {} bytes", topic.len()), "at most 65535")
        }
        Limits::None => Ok(()),
        Limits::Aws => aws(&topic),
    }
}

fn aws(topic: &str) -> Result<(), (String, String)> {
    let no = |message: String, fix: String| Err((message, fix));
    let limited = match topic.strip_prefix(BASIC_INGEST).map(|rest| rest.split_once('/')) {
        Some(Some((rule, rest))) if !rule.is_empty() && !rest.is_empty() => rest,
        Some(_) => {
            let fix = "such as \"$aws/rules/<rule>/{thing}\"".to_owned();
            return no("this topic names no rule, or nothing after it".to_owned(), fix);
        }
        None if topic.starts_with('$') => {
            let fix = "only `$aws/rules/<rule>/` takes readings".to_owned();
            return no("topics that start with `$` belong to AWS".to_owned(), fix);
        }
        None => topic,
    };
    if limited.len() > MAX_BYTES {
        let fix = format!("AWS takes {MAX_BYTES}; counted at the longest names: `{topic}`");
        return no(format!("this topic has {} bytes", limited.len()), fix);
    }
    match limited.matches('/').count() {
        0..=MAX_SLASHES => Ok(()),
        slashes => {
            no(format!("this topic has {slashes} slashes"), format!("AWS takes {MAX_SLASHES}"))
        }
    }
}

fn fill(template: &str, longest: &Longest<'_>) -> Result<String, (String, String)> {
    let mut topic = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((word, after)) = after.split_once('}') else {
            return Err((
                "`{` without `}`".to_owned(),
                "a topic has no braces of its own".to_owned(),
            ));
        };
        topic += before;
        topic += match word {
            "thing" => longest.thing,
            "source" => longest.source.ok_or_else(|| absent("source"))?,
            "kind" => longest.kind.ok_or_else(|| absent("kind"))?,
            _ => {
                let fix = "valid placeholders: `{thing}`, `{source}`, `{kind}`".to_owned();
                return Err((format!("unknown placeholder `{{{word}}}`"), fix));
            }
        };
        rest = after;
    }
    if rest.contains('}') {
        return Err(("`}` without `{`".to_owned(), "a topic has no braces of its own".to_owned()));
    }
    Ok(topic + rest)
}

fn absent(word: &str) -> (String, String) {
    (
        format!("`{{{word}}}` is not known here"),
        format!("not every record of this section has a {word}"),
    )
}
