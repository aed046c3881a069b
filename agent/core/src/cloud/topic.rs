//! Topics: the spelling, and the limits of MQTT and AWS IoT. No other module knows either.
//!
//! A template is checked once with the configuration, filled with the longest possible names; a
//! topic from a checked template is always valid.

/// AWS IoT Core quotas: a topic is at most 256 bytes of UTF-8.
pub const MAX_TOPIC_BYTES: usize = 256;
/// AWS IoT Core quotas: at most 7 forward slashes.
pub const MAX_SLASHES: usize = 7;
/// The prefix of Basic Ingest. The limits do not count `$aws/rules/<rule>/`.
const BASIC_INGEST: &str = "$aws/rules/";
/// MQTT 3.1.1, section 1.5.3: a string has a length of two bytes.
const MAX_MQTT_BYTES: usize = 65_535;

/// The default topic of readings.
pub const READINGS: &str = "pulsegate/{thing}/readings";
/// The default topic of events and gaps.
pub const EVENTS: &str = "pulsegate/{thing}/events";
/// The default topic of alerts.
pub const ALERTS: &str = "pulsegate/{thing}/alerts";
/// The default topic of the online state, also the topic of the last will.
pub const STATUS: &str = "pulsegate/{thing}/status";

/// A reason for which a text cannot be a topic. The message names the fault, [`TopicFault::suggest_fix`]
/// the correction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// The topic is empty.
    #[error("a topic cannot be empty")]
    Empty,
    /// The topic is longer than the limit.
    #[error("this topic has {bytes} bytes")]
    TooLong {
        /// Length in bytes, without the prefix of Basic Ingest.
        bytes: usize,
        /// Greatest length in bytes.
        limit: usize,
        /// The topic with the longest names.
        topic: String,
    },
    /// The topic has more slashes than AWS IoT allows.
    #[error("this topic has {0} slashes")]
    TooDeep(usize),
    /// The topic has a wildcard, `+` or `#`.
    #[error("`{0}` is for subscriptions")]
    Wildcard(char),
    /// The topic has a control character; MQTT forbids them.
    #[error("a topic has no control characters")]
    Control,
    /// The placeholder does not exist.
    #[error("unknown placeholder `{{{0}}}`")]
    UnknownPlaceholder(String),
    /// The placeholder has no value for some records of the section.
    #[error("`{{{0}}}` is not known here")]
    UnfilledPlaceholder(&'static str),
    /// A brace has no partner.
    #[error("{0}")]
    Unbalanced(&'static str),
    /// The topic begins with `$`, but not with `$aws/rules/`.
    #[error("topics that start with `$` belong to AWS")]
    Reserved,
    /// The topic begins with `$aws/rules/`, but has no rule or nothing after the rule.
    #[error("this topic names no rule, or nothing after it")]
    NoRule,
}

impl TopicFault {
    /// Returns the correction, as text for people.
    #[must_use]
    pub fn suggest_fix(&self) -> String {
        match self {
            Self::Empty => format!("such as \"{READINGS}\""),
            Self::TooLong { limit, topic, .. } => {
                format!("the broker takes {limit}; counted at the longest names: `{topic}`")
            }
            Self::TooDeep(_) => format!("AWS takes {MAX_SLASHES}"),
            Self::Wildcard(_) => "a topic has no wildcards".into(),
            Self::Control => "MQTT 3.1.1, section 1.5.3".into(),
            Self::UnknownPlaceholder(_) => {
                "valid placeholders: `{thing}`, `{source}`, `{kind}`".into()
            }
            Self::UnfilledPlaceholder(word) => {
                format!("not every record of this section has a {word}")
            }
            Self::Unbalanced(_) => "a topic has no braces of its own".into(),
            Self::Reserved => "only `$aws/rules/<rule>/` takes readings".into(),
            Self::NoRule => "such as \"$aws/rules/<rule>/{thing}\"".into(),
        }
    }
}

/// The limits for topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// The limits of AWS IoT Core.
    Aws,
    /// The limits of MQTT.
    Mqtt,
}

/// The placeholders allowed besides `{thing}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Allows `{source}`.
    pub source: bool,
    /// Allows `{kind}`.
    pub kind: bool,
}

/// A parsed topic: `{thing}` is filled in, `{source}` and `{kind}` may still be open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<TemplatePart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum TemplatePart {
    Text(String),
    Source,
    Kind,
}

impl Template {
    /// Parses a template, and fills in the name of `thing`.
    ///
    /// # Errors
    /// Returns the first brace without a partner, or unknown or disallowed placeholder. Does not
    /// check the finished topic; see [`check_topic`].
    pub fn for_thing(text: &str, thing: &str, open: Open) -> Result<Self, TopicFault> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((word, after)) = after.split_once('}') else {
                return Err(TopicFault::Unbalanced("`{` without `}`"));
            };
            literal.push_str(before);
            let part = match word {
                "thing" => None,
                "source" if open.source => Some(TemplatePart::Source),
                "kind" if open.kind => Some(TemplatePart::Kind),
                "source" => return Err(TopicFault::UnfilledPlaceholder("source")),
                "kind" => return Err(TopicFault::UnfilledPlaceholder("kind")),
                other => return Err(TopicFault::UnknownPlaceholder(other.to_owned())),
            };
            match part {
                None => literal.push_str(thing),
                Some(part) => {
                    parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
                    parts.push(part);
                }
            }
            rest = after;
        }
        if rest.contains('}') {
            return Err(TopicFault::Unbalanced("`}` without `{`"));
        }
        literal.push_str(rest);
        parts.push(TemplatePart::Text(literal));
        parts.retain(|part| !matches!(part, TemplatePart::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// Returns the topic for `source` and `kind`.
    #[must_use]
    pub fn fill_in(&self, source: &str, kind: &str) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                TemplatePart::Text(text) => text.as_str(),
                TemplatePart::Source => source,
                TemplatePart::Kind => kind,
            })
            .collect()
    }
}

/// Checks a finished topic.
///
/// # Errors
/// Returns the first fault; the broker would close the connection because of such a topic.
pub fn check_topic(topic: &str, limits: Limits) -> Result<(), TopicFault> {
    if topic.is_empty() {
        return Err(TopicFault::Empty);
    }
    if let Some(wildcard) = topic.chars().find(|c| matches!(c, '+' | '#')) {
        return Err(TopicFault::Wildcard(wildcard));
    }
    if topic.contains(char::is_control) {
        return Err(TopicFault::Control);
    }
    let too_long = |bytes: usize, limit: usize| {
        let topic = topic.to_owned();
        if bytes > limit { Err(TopicFault::TooLong { bytes, limit, topic }) } else { Ok(()) }
    };
    if limits == Limits::Mqtt {
        return too_long(topic.len(), MAX_MQTT_BYTES);
    }
    let counted = match topic.strip_prefix(BASIC_INGEST).map(|rest| rest.split_once('/')) {
        Some(Some((rule, rest))) if !rule.is_empty() && !rest.is_empty() => rest,
        Some(_) => return Err(TopicFault::NoRule),
        None if topic.starts_with('$') => return Err(TopicFault::Reserved),
        None => topic,
    };
    too_long(counted.len(), MAX_TOPIC_BYTES)?;
    match counted.matches('/').count() {
        0..=MAX_SLASHES => Ok(()),
        slashes => Err(TopicFault::TooDeep(slashes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Open = Open { source: true, kind: true };

    fn checked(text: &str) -> Result<(), TopicFault> {
        let topic = Template::for_thing(text, "pi-1", ALL)?.fill_in("7", "heart_rate");
        check_topic(&topic, Limits::Aws)
    }

    #[test]
    fn fills_in_thing_source_and_kind() {
        let template = Template::for_thing("a/{thing}/{kind}/{source}", "pi-1", ALL).unwrap();

        assert_eq!(template.fill_in("7", "heart_rate"), "a/pi-1/heart_rate/7");
    }

    #[test]
    fn refuses_what_the_service_would_close_the_connection_for() {
        assert_eq!(checked(""), Err(TopicFault::Empty));
        assert_eq!(checked("a/+/b"), Err(TopicFault::Wildcard('+')));
        assert_eq!(checked("a/#"), Err(TopicFault::Wildcard('#')));
        assert_eq!(checked("a\u{0}b"), Err(TopicFault::Control));
        assert_eq!(checked("a/b/c/d/e/f/g/h"), Ok(()));
        assert_eq!(checked("a/b/c/d/e/f/g/h/i"), Err(TopicFault::TooDeep(8)));
        assert!(matches!(
            checked(&"x".repeat(257)),
            Err(TopicFault::TooLong { bytes: 257, limit: 256, .. })
        ));
        assert_eq!(checked("{person}"), Err(TopicFault::UnknownPlaceholder("person".into())));
        assert_eq!(checked("a}b"), Err(TopicFault::Unbalanced("`}` without `{`")));
        assert_eq!(checked("$SYS/x"), Err(TopicFault::Reserved));
        assert_eq!(checked("$aws/rules/only"), Err(TopicFault::NoRule));
    }

    #[test]
    fn a_basic_ingest_prefix_does_not_count() {
        assert_eq!(checked("$aws/rules/r/a/b/c/d/e/f/g/h"), Ok(()));
        assert_eq!(checked("$aws/rules/r/a/b/c/d/e/f/g/h/i"), Err(TopicFault::TooDeep(8)));
    }

    #[test]
    fn another_broker_takes_what_mqtt_takes() {
        assert_eq!(check_topic("$SYS/a/b/c/d/e/f/g/h/i", Limits::Mqtt), Ok(()));
        assert!(check_topic(&"x".repeat(65_536), Limits::Mqtt).is_err());
    }
}
