//! Functions with the same body.

use std::collections::BTreeMap;

use proc_macro2::{Group, TokenStream, TokenTree};

use super::definitions::Function;
use super::source::{count_code_lines, remove_tests, take_doc};

/// Shorter bodies are alike by chance: one call, one literal.
const MIN_LINES: usize = 5;

/// Returns the groups of functions whose bodies are the same code, whatever their comments and layout.
pub(super) fn find_twins(functions: &[Function]) -> Vec<Vec<&Function>> {
    let mut groups: BTreeMap<String, Vec<&Function>> = BTreeMap::new();
    for function in functions {
        // Parsing takes longest: most bodies are too short even with their comments.
        if function.body.lines().count() < MIN_LINES {
            continue;
        }
        let tokens = function.body.parse().expect("a part of what was parsed before");
        let code = remove_tests(tokens);
        if count_code_lines(&code) >= MIN_LINES {
            groups.entry(remove_docs(code).to_string()).or_default().push(function);
        }
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

fn remove_docs(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if take_doc(&token, &mut rest).is_some() {
            continue;
        }
        let TokenTree::Group(group) = token else {
            kept.push(token);
            continue;
        };
        kept.push(Group::new(group.delimiter(), remove_docs(group.stream())).into());
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::definitions::collect_definitions;
    use super::super::source::Source;
    use super::*;

    fn twins(text: &str) -> Vec<Vec<String>> {
        let source = Source::parse("a.rs", text).unwrap();
        let found = collect_definitions(&[source]);
        let names = |group: &Vec<&Function>| group.iter().map(|f| f.name.clone()).collect();
        find_twins(&found.functions).iter().map(names).collect()
    }

    #[test]
    fn bodies_that_differ_in_comments_and_layout_are_twins() {
        let text = "fn a(x: u8) {\n    one();\n    two(\"// a\");\n    three();\n    four();\n    five();\n}\n\
             fn b() {\n    one(); // why\n\n    two(\n        \"// a\",\n    );\n    three();\n    four();\n    five();\n}\n\
             fn c(y: u8) {\n    one( );\n    /* why /* so */ */ two(\"// a\");\n    three();\n\n    /// doc\n    four();\n    five();\n}\n";
        // The comma that a call over several lines ends with is code.
        assert_eq!(twins(text), [["a", "c"]]);
    }

    #[test]
    fn other_strings_and_short_bodies_are_no_twins() {
        let body = |text: &str| {
            format!(
                "{{\n    one();\n    two({text});\n    three();\n    four();\n    five();\n}}\n"
            )
        };
        let text = format!("fn a() {}fn b() {}", body("\"// a\""), body("\"// b\""));
        assert_eq!(twins(&text), [[""; 0]; 0]);
        let short = "{\n    one();\n    // two\n    // three\n\n    four();\n}\n";
        assert_eq!(twins(&format!("fn a() {short}fn b() {short}")), [[""; 0]; 0]);
        let test = format!("fn a() {}#[cfg(test)]\nfn b() {}", body("1"), body("1"));
        assert_eq!(twins(&test), [[""; 0]; 0]);
    }
}
