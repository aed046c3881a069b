//! The place of each value in the file, found by its path.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::findings::{NOWHERE, Span};

/// A place in the file. In a path such as `rule[1].clear.below`, an index counts from 0 the elements
/// of an array, or the members of a table in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// A range of bytes.
    Bytes(Span),
    /// The value at this path.
    Value(String),
    /// The key of the value at this path.
    Key(String),
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
        Self(Node { inner: Node::of_members(file.get_ref()), ..Node::default() })
    }

    /// Returns the range of bytes of `place`. A value that is not in the file, such as a default,
    /// has the place of the innermost table that would hold the value.
    pub(super) fn find(&self, place: &Place) -> Span {
        match place {
            Place::Bytes(span) => span.clone(),
            Place::Value(path) => self.0.find(path).value.clone(),
            Place::Key(path) => self.0.find(path).key.clone(),
        }
    }
}

/// A value with the values in it.
#[derive(Debug)]
struct Node {
    /// The name of a member of a table; empty for an element of an array.
    name: String,
    key: Span,
    value: Span,
    /// The elements of an array, or the members of a table in the order of the file.
    inner: Vec<Node>,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: String::new(), key: NOWHERE, value: NOWHERE, inner: Vec::new() }
    }
}

impl Node {
    fn of(value: &Spanned<DeValue<'_>>) -> Self {
        let inner = match value.get_ref() {
            DeValue::Table(table) => Self::of_members(table),
            DeValue::Array(elements) => elements.iter().map(Self::of).collect(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Vec::new(),
        };
        Self { value: value.span(), inner, ..Self::default() }
    }

    fn of_members(table: &DeTable<'_>) -> Vec<Self> {
        let member = |(key, value): (&Spanned<DeString<'_>>, _)| Self {
            name: key.get_ref().to_string(),
            key: key.span(),
            ..Self::of(value)
        };
        let mut members: Vec<Self> = table.iter().map(member).collect();
        members.sort_by_key(|member| member.key.start);
        members
    }

    /// Returns the node at `path`, or the innermost existing node on the way.
    fn find(&self, path: &str) -> &Self {
        let (is_index, path) = (path.starts_with('['), path.trim_start_matches(['.', '[']));
        if path.is_empty() {
            return self;
        }
        let (step, rest) = path.split_at(path.find(['.', '[', ']']).unwrap_or(path.len()));
        let next = match is_index {
            true => step.parse().ok().and_then(|index: usize| self.inner.get(index)),
            false => self.inner.iter().find(|member| member.name == step),
        };
        next.map_or(self, |node| node.find(rest.trim_start_matches(']')))
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
    fn an_index_leads_to_a_member_in_the_order_of_the_file() {
        let member = |index: usize| format!("rule[1].clear[{index}]");

        assert_eq!([shown(member(0)), shown(member(1))], ["20", "3"]);
        assert_eq!(shown(Place::Key(member(1))), "\"x.y\"");
        assert_eq!(shown("[1][1][0][1]"), "3");
    }

    #[test]
    fn what_is_not_in_the_file_has_the_place_of_what_would_hold_it() {
        assert_eq!(shown("rule[1].clear.above"), "{ below = 20, \"x.y\" = 3 }");
        assert_eq!(shown("rule[1].for"), "[[rule]]");
        assert_eq!(shown("rule[1].clear.x.y"), "{ below = 20, \"x.y\" = 3 }");
        assert_eq!(shown("b"), "nowhere");
    }
}
