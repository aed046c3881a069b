//! The place of each value in the file, found by its path.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{NOWHERE, Span};

/// A place in the file. A path such as `rule[1].clear.below` counts elements from 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// A range of bytes.
    Bytes(Span),
    /// The value at this path.
    Value(String),
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self::Bytes(span)
    }
}

impl From<&str> for Place {
    fn from(path: &str) -> Self {
        Self::Value(path.to_owned())
    }
}

impl From<String> for Place {
    fn from(path: String) -> Self {
        Self::Value(path)
    }
}

/// The places of all values of one file.
#[derive(Debug, Default)]
pub(super) struct Places(Node);

impl Places {
    /// Records the places of all values of `file`.
    pub(super) fn of(file: &Spanned<DeTable<'_>>) -> Self {
        Self(Node { value: NOWHERE, inner: Inner::of_table(file.get_ref()) })
    }

    /// Returns the range of bytes of `place`. A value that is not in the file, such as a default,
    /// has the place of the innermost table that would hold the value.
    pub(super) fn find(&self, place: &Place) -> Span {
        match place {
            Place::Bytes(span) => span.clone(),
            Place::Value(path) => self.0.find(path).value.clone(),
        }
    }
}

#[derive(Debug)]
struct Node {
    value: Span,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Scalar,
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
}

impl Default for Node {
    fn default() -> Self {
        Self { value: NOWHERE, inner: Inner::Scalar }
    }
}

impl Node {
    fn of(value: &Spanned<DeValue<'_>>) -> Self {
        let inner = match value.get_ref() {
            DeValue::Table(table) => Inner::of_table(table),
            DeValue::Array(elements) => Inner::Array(elements.iter().map(Self::of).collect()),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Inner::Scalar,
        };
        Self { value: value.span(), inner }
    }

    /// Returns the node at `path`, or the innermost existing node on the way.
    fn find(&self, path: &str) -> &Self {
        let path = path.trim_start_matches(['.', '[']);
        if path.is_empty() {
            return self;
        }
        let (step, rest) = path.split_at(path.find(['.', '[', ']']).unwrap_or(path.len()));
        let next = match &self.inner {
            Inner::Table(nodes) => nodes.get(step),
            Inner::Array(nodes) => step.parse().ok().and_then(|index: usize| nodes.get(index)),
            Inner::Scalar => None,
        };
        next.map_or(self, |node| node.find(rest.trim_start_matches(']')))
    }
}

impl Inner {
    fn of_table(table: &DeTable<'_>) -> Self {
        let nodes = table.iter();
        Self::Table(
            nodes.map(|(key, value)| (key.get_ref().to_string(), Node::of(value))).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[[rule]]\n[[rule]]\nclear = { below = 20, \"x.y\" = 3 }\n";

    fn shown(place: impl Into<Place>) -> &'static str {
        let span = Places::of(&DeTable::parse(TEXT).unwrap()).find(&place.into());
        TEXT.get(span).unwrap_or("nowhere")
    }

    #[test]
    fn a_path_leads_to_a_value() {
        assert_eq!(shown("a"), "1");
        assert_eq!(shown("rule[1].clear.below"), "20");
    }

    #[test]
    fn what_is_not_in_the_file_has_the_place_of_what_would_hold_it() {
        assert_eq!(shown("rule[1].clear.above"), "{ below = 20, \"x.y\" = 3 }");
        assert_eq!(shown("rule[1].for"), "[[rule]]");
        assert_eq!(shown("rule[1].clear.x.y"), "{ below = 20, \"x.y\" = 3 }");
        assert_eq!(shown("b"), "nowhere");
    }
}
