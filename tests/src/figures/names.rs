//! Names of functions and types: of one word, and defined in several modules.

use std::collections::{BTreeMap, BTreeSet};

use super::definitions::{Function, Type};

/// Function names that Rust's own library and its runtimes chose.
const COMMON_NAMES: [&str; 12] = [
    "as_str", "default", "from", "into", "is_empty", "iter", "len", "main", "new", "next", "poll",
    "run",
];

/// Modules that may define functions of one name.
const MAX_MODULES: usize = 3;

/// Returns the functions whose name has no second word. A method that implements a trait cannot choose.
pub(super) fn find_one_word(functions: &[Function]) -> Vec<&Function> {
    let is_one_word =
        |function: &&Function| !function.is_named_by_trait && !function.name.contains('_');
    functions.iter().filter(is_one_word).collect()
}

/// Returns true for a name that is the same in every Rust program.
pub(super) fn is_common(name: &str) -> bool {
    COMMON_NAMES.contains(&name)
}

/// Definitions by name, each with its module and its place.
pub(super) type Homonyms<'a> = BTreeMap<&'a str, Vec<(&'a str, String)>>;

/// Groups the functions by name. Names that every Rust program has are left out.
pub(super) fn group_functions(functions: &[Function]) -> Homonyms<'_> {
    let mut named = Homonyms::new();
    for function in functions.iter().filter(|function| !function.is_named_by_trait) {
        if !is_common(&function.name) {
            named.entry(&function.name).or_default().push((&function.module, function.place()));
        }
    }
    named
}

/// Groups the types by name.
pub(super) fn group_types(types: &[Type]) -> Homonyms<'_> {
    let mut named = Homonyms::new();
    for found in types {
        let place = format!("{}:{}", found.path, found.line);
        named.entry(&found.name).or_default().push((&found.module, place));
    }
    named
}

/// Keeps the names that several modules define.
pub(super) fn keep_shared(mut named: Homonyms<'_>) -> Homonyms<'_> {
    named.retain(|_, definitions| count_modules(definitions) > 1);
    named
}

/// Keeps the names that more than [`MAX_MODULES`] modules define.
pub(super) fn keep_overused(mut named: Homonyms<'_>) -> Homonyms<'_> {
    named.retain(|_, definitions| count_modules(definitions) > MAX_MODULES);
    named
}

fn count_modules(definitions: &[(&str, String)]) -> usize {
    definitions.iter().map(|(module, _)| module).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{Definitions, collect_definitions};
    use super::super::source::Source;
    use super::*;

    fn definitions(files: &[(&str, &str)]) -> Definitions {
        let parse = |(path, text): &(&str, &str)| Source::parse(path, text).unwrap();
        collect_definitions(&files.iter().map(parse).collect::<Vec<_>>())
    }

    #[test]
    fn names_without_a_second_word_are_found_where_no_trait_chose_them() {
        let found = definitions(&[(
            "a.rs",
            "fn take() {} fn take_all() {} trait T { fn give(&self); } struct S;\n\
             impl T for S { fn give(&self) { fn inner() {} } }\n\
             impl S { fn drop(self) {} } // fn comment() {}\n\
             const TEXT: &str = r#\"fn text() {} \"fn\"\"#;\n\
             macro_rules! make { () => { fn made() {} } }\n\
             #[cfg(test)] mod tests { fn test() {} }",
        )]);
        let names: Vec<&str> =
            find_one_word(&found.functions).iter().map(|function| &function.name[..]).collect();
        assert_eq!(names, ["take", "give", "inner", "drop"]);
    }

    #[test]
    fn a_name_is_shared_by_modules_and_not_by_types_of_one_module() {
        let found = definitions(&[
            (
                "a.rs",
                "struct A; impl A { fn take() {} fn put() {} } struct B; impl B { fn put() {} }",
            ),
            ("b.rs", "enum A {} fn take() {} fn new() {} mod inner { type C = u8; fn take() {} }"),
            ("c.rs", "trait C { fn take(); } fn new() {} union D { a: u8 }"),
        ]);
        let names = |named: Homonyms| named.into_keys().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(keep_shared(group_functions(&found.functions))), ["take"]);
        assert_eq!(names(keep_overused(group_functions(&found.functions))), ["take"]);
        assert_eq!(names(keep_shared(group_types(&found.types))), ["A", "C"]);
        assert_eq!(names(keep_overused(group_types(&found.types))), [""; 0]);
        assert_eq!(names(group_types(&found.types)), ["A", "B", "C", "D"]);
    }
}
