//! Topics: the only place that knows their spelling and the limits that AWS IoT sets to them.
//!
//! A template is checked once, when the configuration is read, at the longest names it can meet;
//! after that a topic cannot be wrong.

/// AWS IoT Core quotas: a topic is at most 256 bytes of UTF-8.
pub const MAX_TOPIC_BYTES: usize = 256;
/// AWS IoT Core quotas: at most 7 forward slashes.
pub const MAX_SLASHES: usize = 7;
/// Basic Ingest: `$aws/rules/<rule>/` does not count towards the slashes.
const BASIC_INGEST: &str = "$aws/rules/";

/// Where readings go unless configured otherwise.
pub const READINGS: &str = "pulsegate/{thing}/readings";
/// Where events and gaps go unless configured otherwise.
pub const EVENTS: &str = "pulsegate/{thing}/events";
/// Where alerts go unless configured otherwise.
pub const ALERTS: &str = "pulsegate/{thing}/alerts";
/// Where the thing says whether it is online; also the topic of its last will.
pub const STATUS: &str = "pulsegate/{thing}/status";

/// Why a text cannot be a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// Nothing in it.
    #[error("a topic cannot be empty")]
    Empty,
    /// Longer than AWS IoT takes.
    #[error("{0} bytes long, and AWS IoT takes {MAX_TOPIC_BYTES}")]
    TooLong(usize),
    /// Deeper than AWS IoT takes.
    #[error("{0} slashes, and AWS IoT takes {MAX_SLASHES}")]
    TooDeep(usize),
    /// A character that a publish may not have.
    #[error("`{0}` cannot be in a topic that is published to")]
    Forbidden(char),
    /// A placeholder that does not exist here.
    #[error("unknown placeholder `{{{0}}}`")]
    UnknownPlaceholder(String),
    /// A brace without its partner.
    #[error("a `{{` without its `}}`, or the other way round")]
    Unbalanced,
    /// Under `$aws/`, but not one of the rules that take messages.
    #[error("only `$aws/rules/<rule>/...` may be published to below `$`")]
    Reserved,
}

/// A topic with `{thing}` filled in and perhaps `{source}` and `{kind}` still open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Source,
    Kind,
}

impl Template {
    /// Reads a template for `thing`. With `per_source`, `{source}` and `{kind}` may be used.
    ///
    /// # Errors
    /// A [`TopicFault`]; length and depth are checked by [`Template::check`].
    pub fn parse(text: &str, thing: &str, per_source: bool) -> Result<Self, TopicFault> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let after = rest[at..].strip_prefix('{').ok_or(TopicFault::Unbalanced)?;
            let end = after.find('}').ok_or(TopicFault::Unbalanced)?;
            let part = match &after[..end] {
                "thing" => None,
                "source" if per_source => Some(Part::Source),
                "kind" if per_source => Some(Part::Kind),
                other => return Err(TopicFault::UnknownPlaceholder(other.to_owned())),
            };
            match part {
                None => literal.push_str(thing),
                Some(part) => {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(part);
                }
            }
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// Fills in what is open.
    #[must_use]
    pub fn render(&self, source: &str, kind: &str) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Source => source,
                Part::Kind => kind,
            })
            .collect()
    }

    /// Checks the topic that this template gives for `source` and `kind`.
    ///
    /// # Errors
    /// What AWS IoT would close the connection for.
    pub fn check(&self, source: &str, kind: &str) -> Result<(), TopicFault> {
        check(&self.render(source, kind))
    }

    /// Whether the topic depends on the source.
    #[must_use]
    pub fn is_per_source(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Text(_)))
    }
}

/// Checks a finished topic against the limits of AWS IoT.
///
/// # Errors
/// What AWS IoT would close the connection for.
pub fn check(topic: &str) -> Result<(), TopicFault> {
    if topic.is_empty() {
        return Err(TopicFault::Empty);
    }
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(TopicFault::TooLong(topic.len()));
    }
    if let Some(c) = topic.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        return Err(TopicFault::Forbidden(c));
    }
    let counted = match topic.strip_prefix(BASIC_INGEST) {
        Some(rest) => rest.split_once('/').ok_or(TopicFault::Reserved)?.1,
        None if topic.starts_with('$') => return Err(TopicFault::Reserved),
        None => topic,
    };
    let slashes = counted.matches('/').count();
    if slashes > MAX_SLASHES {
        return Err(TopicFault::TooDeep(slashes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), TopicFault> {
        Template::parse(text, "pi-1", true)?.check("7", "heart_rate")
    }

    #[test]
    fn fills_in_thing_source_and_kind() {
        let template = Template::parse("a/{thing}/{kind}/{source}", "pi-1", true).unwrap();

        assert_eq!(template.render("7", "heart_rate"), "a/pi-1/heart_rate/7");
        assert!(template.is_per_source());
    }

    #[test]
    fn refuses_what_the_service_would_close_the_connection_for() {
        assert_eq!(checked(""), Err(TopicFault::Empty));
        assert_eq!(checked("a/+/b"), Err(TopicFault::Forbidden('+')));
        assert_eq!(checked("a/#"), Err(TopicFault::Forbidden('#')));
        assert_eq!(checked("a/b/c/d/e/f/g/h"), Ok(()));
        assert_eq!(checked("a/b/c/d/e/f/g/h/i"), Err(TopicFault::TooDeep(8)));
        assert_eq!(checked(&"x".repeat(257)), Err(TopicFault::TooLong(257)));
        assert_eq!(checked("{person}"), Err(TopicFault::UnknownPlaceholder("person".into())));
        assert_eq!(checked("a}b"), Err(TopicFault::Unbalanced));
        assert_eq!(checked("$SYS/x"), Err(TopicFault::Reserved));
    }

    #[test]
    fn a_basic_ingest_prefix_does_not_count_towards_the_depth() {
        assert_eq!(checked("$aws/rules/r/a/b/c/d/e/f/g/h"), Ok(()));
        assert_eq!(checked("$aws/rules/r/a/b/c/d/e/f/g/h/i"), Err(TopicFault::TooDeep(8)));
    }
}
