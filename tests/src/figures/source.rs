//! Reads the production code of the workspace: every file as tokens and as a syntax tree, without its tests.
//!
//! A file named `tests.rs` or below a folder `tests` is a test, as in `tests/tests/tidy/`; so is every item under
//! `#[cfg(test)]`. The parser leaves out comments; doc comments stay, since they are attributes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The crates whose code counts as production: the name and the meaning of their figure, and their folders.
pub(super) const CRATES: [(&str, &str, &[&str]); 3] = [
    ("lines-agent", "production lines of agent", &["agent/src/"]),
    ("lines-core", "production lines of core", &["agent/core/src/"]),
    ("lines-sensors", "production lines of sensors", &["sensors/src/", "sensors/regex/src/"]),
];

/// The production code of one file.
pub(super) struct Source {
    /// From the root of the workspace, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: TokenStream,
    pub syntax: syn::File,
}

impl Source {
    /// Parses `text`, and leaves out the tests in it.
    pub(super) fn parse(path: &str, text: &str) -> anyhow::Result<Self> {
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("`{path}`: {error}"))?;
        let tokens = remove_tests(tokens);
        let syntax = syn::parse2(tokens.clone())
            .map_err(|error| anyhow!("`{path}:{}`: {error}", error.span().start().line))?;
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tokens, syntax })
    }
}

/// Counts the lines that hold code: neither blank lines, nor comments, nor doc comments.
pub(super) fn count_code_lines(tokens: &TokenStream) -> usize {
    let mut lines = BTreeSet::new();
    collect_code_lines(tokens, &mut lines);
    lines.len()
}

/// Reads every production file of [`CRATES`], sorted by path.
pub(super) fn read_sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut paths = Vec::new();
    for folder in CRATES.iter().flat_map(|(.., folders)| *folders) {
        collect_rust_files(root, folder.trim_end_matches('/'), &mut paths)?;
    }
    paths.sort();
    let read = |path: &String| {
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read `{path}`"))?;
        Source::parse(path, &text)
    };
    paths.iter().map(read).collect()
}

fn collect_rust_files(root: &Path, folder: &str, paths: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        root.join(folder).read_dir().with_context(|| format!("cannot list `{folder}`"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{folder}/{}", name.to_string_lossy());
        if entry.file_type()?.is_dir() {
            if name != "tests" {
                collect_rust_files(root, &path, paths)?;
            }
        } else if path.ends_with(".rs") && !path.ends_with("tests.rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Returns `tokens` without the items, fields and statements under `#[cfg(test)]`.
pub(super) fn remove_tests(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if is_sign(&token, '#') && rest.peek().is_some_and(is_test_condition) {
            skip_item(&mut rest);
        } else if let TokenTree::Group(group) = token {
            let mut inner = Group::new(group.delimiter(), remove_tests(group.stream()));
            inner.set_span(group.span());
            kept.push(TokenTree::Group(inner));
        } else {
            kept.push(token);
        }
    }
    kept.into_iter().collect()
}

/// Consumes tokens to the end of an item, field or statement: its braces, its semicolon or its comma.
fn skip_item(rest: &mut impl Iterator<Item = TokenTree>) {
    let (mut open_angles, mut before) = (0_usize, ' ');
    for token in rest {
        let character = match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(punct) => punct.as_char(),
            TokenTree::Group(_) | TokenTree::Ident(_) | TokenTree::Literal(_) => ' ',
        };
        match character {
            '<' => open_angles += 1,
            // The second half of `->` or `=>` closes nothing.
            '>' if before != '-' && before != '=' => open_angles = open_angles.saturating_sub(1),
            ';' => return,
            ',' if open_angles == 0 => return,
            _ => {}
        }
        before = character;
    }
}

/// Returns true for `[cfg(test)]` and `[cfg(all(test, ...))]`.
fn is_test_condition(token: &TokenTree) -> bool {
    let TokenTree::Group(attribute) = token else { return false };
    let mut tokens = attribute.stream().into_iter();
    let is_cfg = tokens.next().is_some_and(|token| token.to_string() == "cfg");
    let condition = tokens.next();
    is_cfg && matches!(condition, Some(TokenTree::Group(group)) if requires_test(group.stream()))
}

fn requires_test(condition: TokenStream) -> bool {
    let mut tokens = condition.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(word) = token else { continue };
        if word == "test" {
            return true;
        }
        if let Some(TokenTree::Group(group)) = tokens.peek() {
            let group = group.stream();
            tokens.next();
            if word == "all" && requires_test(group) {
                return true;
            }
        }
    }
    false
}

fn collect_code_lines(tokens: &TokenStream, lines: &mut BTreeSet<usize>) {
    let mut rest = tokens.clone().into_iter().peekable();
    while let Some(token) = rest.next() {
        if take_doc(&token, &mut rest).is_some() {
            continue;
        }
        if let TokenTree::Group(group) = &token {
            lines.insert(group.span_open().start().line);
            lines.insert(group.span_close().end().line);
            collect_code_lines(&group.stream(), lines);
        } else {
            lines.extend(token.span().start().line..=token.span().end().line);
        }
    }
}

/// Consumes the rest of a doc comment that begins with `token`, and returns its first line and its text. Of another
/// inner attribute the `!` is consumed.
pub(super) fn take_doc(
    token: &TokenTree,
    rest: &mut std::iter::Peekable<proc_macro2::token_stream::IntoIter>,
) -> Option<(usize, String)> {
    if !is_sign(token, '#') {
        return None;
    }
    let line = token.span().start().line;
    rest.next_if(|token| is_sign(token, '!'));
    let Some(TokenTree::Group(group)) = rest.peek() else { return None };
    let text = parse_doc(group.stream())?;
    rest.next();
    Some((line, text))
}

pub(super) fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == sign)
}

/// Returns the text of `doc = "text"`.
fn parse_doc(attribute: TokenStream) -> Option<String> {
    let mut tokens = attribute.into_iter();
    let (name, sign, text) = (tokens.next()?, tokens.next()?, tokens.next()?);
    let is_doc = name.to_string() == "doc" && is_sign(&sign, '=');
    let text: syn::LitStr = syn::parse2(text.into()).ok().filter(|_| is_doc)?;
    Some(text.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> String {
        remove_tests(text.parse().unwrap()).to_string()
    }

    fn normal(text: &str) -> String {
        text.parse::<TokenStream>().unwrap().to_string()
    }

    #[test]
    fn items_that_only_tests_have_are_left_out() {
        for (text, expected) in [
            ("fn a() {} #[cfg(test)] mod tests { fn b() {} } fn c() {}", "fn a() {} fn c() {}"),
            ("#[cfg(test)] mod tests; fn c() {}", "fn c() {}"),
            (
                "#[cfg(all(test, unix))] #[inline] fn b() -> Option<(u8, A<B, C>)> {} fn c() {}",
                "fn c() {}",
            ),
            ("struct A { #[cfg(test)] b: HashMap<u8, u8>, c: u8 }", "struct A { c: u8 }"),
            ("impl A { #[cfg(test)] fn b() {} fn c() {} }", "impl A { fn c() {} }"),
            ("fn a() { #[cfg(test)] let b = 1; c(); }", "fn a() { c(); }"),
        ] {
            assert_eq!(kept(text), normal(expected), "{text}");
        }
    }

    #[test]
    fn other_conditions_and_texts_are_kept() {
        for text in [
            "#[cfg(not(test))] fn a() {}",
            "#[cfg(any(test, unix))] fn a() {}",
            "#[cfg(feature = \"test\")] fn a() {}",
            "#[test] fn a() {}",
            "const A: &str = \"#[cfg(test)]\"; fn b() {}",
            "const A: &str = r##\"#[cfg(test)] mod a {\"##; fn b() {}",
        ] {
            assert_eq!(kept(text), normal(text));
        }
    }

    #[test]
    fn lines_of_code_hold_more_than_comments_docs_and_blanks() {
        let text = "//! doc\n\nuse a; // why\n/* a\n/* b */\n*/\n/// doc\n#[inline]\nfn f() {\n    \"//\n\n a\";\n\n}\n#[cfg(test)]\nmod tests {\n}\n";
        let source = Source::parse("a.rs", text).unwrap();
        // `use`, the attribute, `fn`, three lines of a string, the brace.
        assert_eq!(count_code_lines(&source.tokens), 7);
    }

    #[test]
    fn a_file_that_is_not_rust_is_refused_with_its_line() {
        let refused = Source::parse("a.rs", "fn a() {}\nfn {}\n").err().unwrap().to_string();
        assert!(refused.starts_with("`a.rs:2`: "), "{refused}");
    }

    #[test]
    fn tests_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["a.rs", "a/b.rs", "a/tests.rs", "a/tests/c.rs", "a/d_tests.rs", "a/e.md"] {
            let path = root.join("agent/src").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(path).unwrap();
        }
        let mut paths = Vec::new();
        collect_rust_files(root, "agent/src", &mut paths).unwrap();
        paths.sort();
        assert_eq!(paths, ["agent/src/a.rs", "agent/src/a/b.rs"]);
    }
}
