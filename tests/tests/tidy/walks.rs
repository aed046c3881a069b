//! The walks of ARCHITECTURE name functions that exist, so that a rename or a move changes the tables as well.

use super::read;

/// The fewest rows of the three walks together; fewer means that the tables were not found.
const MIN_ROWS: usize = 30;

#[test]
fn each_function_of_the_walks_exists_in_its_file() {
    let architecture = read("ARCHITECTURE.md");
    let rows: Vec<_> = architecture.lines().filter_map(parse_row).collect();

    assert!(rows.len() >= MIN_ROWS, "only {} rows", rows.len());
    for (path, function) in rows {
        let source = read(path);
        assert!(defines_function(&source, function), "`{path}` has no `{function}`");
    }
}

/// Returns the file and the function of a row of a walk, such as `` | `a/b.rs` | `Type::function` | effect | ``.
fn parse_row(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| `")?.split("` | `");
    let path = cells.next().filter(|path| path.ends_with(".rs"))?;
    let (function, _effect) = cells.next()?.split_once("` |")?;
    Some((path, function))
}

/// Returns true if `source` defines `function`, in an `impl` or a trait if a type stands before the name.
fn defines_function(source: &str, function: &str) -> bool {
    let (owner, name) = match function.split_once("::") {
        Some((owner, name)) => (Some(owner), name),
        None => (None, function),
    };
    let mut block = None;
    source.lines().any(|line| {
        let is_at_margin = !line.starts_with(' ');
        if is_at_margin && (line.starts_with("impl") || line.contains("trait ")) {
            block = Some(line);
        } else if line == "}" {
            block = None;
        }
        let is_named = line
            .split_once("fn ")
            .and_then(|(_, rest)| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(['(', '<']));
        let is_owned = match owner {
            Some(owner) => block.is_some_and(|block| has_word(block, owner)),
            None => is_at_margin,
        };
        is_named && is_owned
    })
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|part| part == word)
}

#[test]
fn a_function_of_another_type_or_file_does_not_count() {
    let source = "impl<T> Queue<T> {\n    fn take(&mut self) {}\n}\nfn add() {}\n";

    assert!(defines_function(source, "Queue::take"));
    assert!(defines_function(source, "add"));
    for absent in ["Queue::add", "Other::take", "take", "Queue::tak"] {
        assert!(!defines_function(source, absent), "{absent}");
    }
    assert_eq!(parse_row("| `a/b.rs` | `Queue::take` | takes |"), Some(("a/b.rs", "Queue::take")));
    assert_eq!(parse_row("| file | function | effect |"), None);
}
