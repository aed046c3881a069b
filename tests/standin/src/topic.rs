//! Topics and filters as AWS IoT reads them: `a/#` does not match `a`, a leading wildcard does not
//! reach `$` topics, and the Basic Ingest prefix counts for nothing.

/// Says whether a subscription's filter takes a topic. Both are taken as valid.
pub(crate) fn matches(topic: &str, filter: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", level) => return level.is_some(),
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            (_, _) => return false,
        }
    }
    levels.next().is_none()
}

/// Strips `$aws/rules/<rule>/`, which the service leaves out when it counts levels.
pub(crate) fn without_basic_ingest(topic: &str) -> &str {
    topic
        .strip_prefix("$aws/rules/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(topic, |(_rule, rest)| rest)
}

/// Says whether the service keeps this topic for itself and offers no operation on it.
pub(crate) fn is_closed(topic: &str) -> bool {
    const OPEN: [&str; 4] =
        ["$aws/rules/", "$aws/things/", "$aws/certificates/", "$aws/provisioning-templates/"];
    is_reserved(topic) && !OPEN.iter().any(|prefix| topic.starts_with(prefix))
}

/// Says whether the topic is one of the service's own.
pub(crate) fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_level_wildcard_does_not_match_its_parent() {
        assert!(matches("a/b", "a/#"));
        assert!(matches("a/b/c", "a/#"));
        assert!(!matches("a", "a/#"));
        assert!(matches("a/", "a/#"));
    }

    #[test]
    fn a_single_level_wildcard_takes_exactly_one_level() {
        assert!(matches("a/b/c", "a/+/c"));
        assert!(!matches("a/c", "a/+/c"));
        assert!(!matches("a/b/b/c", "a/+/c"));
        assert!(!matches("a/b", "a"));
    }

    #[test]
    fn a_leading_wildcard_does_not_reach_the_services_own_topics() {
        assert!(!matches("$aws/things/box/shadow", "#"));
        assert!(!matches("$aws/things", "+/things"));
        assert!(matches("$aws/things/box/shadow", "$aws/things/box/#"));
    }

    #[test]
    fn only_known_operations_on_reserved_topics_are_open() {
        assert!(is_closed("$SYS/broker"));
        assert!(is_closed("$aws/events/presence/connected/box"));
        assert!(!is_closed("$aws/rules/ingest/box"));
        assert!(!is_closed("box/readings"));
    }

    #[test]
    fn the_basic_ingest_prefix_is_left_out() {
        assert_eq!(without_basic_ingest("$aws/rules/ingest/a/b"), "a/b");
        assert_eq!(without_basic_ingest("a/b"), "a/b");
    }
}
