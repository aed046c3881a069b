//! Circles of imports between rooms, the top-level modules of a crate.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::source::{Source, is_sign};

/// The folders whose top-level modules are rooms.
const HOUSES: [&str; 2] = ["agent/core/src", "agent/src"];

/// An import: the room imported, the file and the line.
type Import = (String, String, usize);

/// Rooms that import each other, directly or through others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// The folder of the crate.
    pub house: &'static str,
    /// Sorted; at least two.
    pub rooms: Vec<String>,
    /// Each import between two of the rooms, `agent/src/a/b.rs:3: a -> c`, first those where both import each
    /// other: `a <-> c`.
    pub imports: Vec<String>,
}

/// Finds the circles of all houses: one for each set of rooms of which each reaches each other.
pub(super) fn find_circles(sources: &[Source]) -> Vec<Circle> {
    HOUSES.iter().flat_map(|house| find_house_circles(house, sources)).collect()
}

fn find_house_circles(house: &'static str, sources: &[Source]) -> Vec<Circle> {
    let inside = sources.iter().filter_map(|source| {
        let place = source.path.strip_prefix(house)?.strip_prefix('/')?;
        Some((source, split_module_path(place)))
    });
    let inside: Vec<(&Source, Vec<&str>)> = inside.collect();
    let rooms: BTreeSet<&str> =
        inside.iter().filter_map(|(_, module)| module.first().copied()).collect();
    let root = inside.iter().filter(|(_, module)| module.is_empty());
    let exports: BTreeMap<String, String> =
        root.flat_map(|(source, _)| collect_exports(&source.tokens, &rooms)).collect();

    let mut imports: BTreeMap<&str, Vec<Import>> = BTreeMap::new();
    for (source, module) in &inside {
        let Some(room) = module.first() else { continue };
        let mut found = Vec::new();
        collect_imports(&source.tokens, module.len(), &mut found);
        for (name, line) in found {
            let target = exports.get(&name).unwrap_or(&name);
            if rooms.contains(target.as_str()) && target != room {
                let import = (target.clone(), source.path.clone(), line);
                imports.entry(room).or_default().push(import);
            }
        }
    }
    group_circles(house, &rooms, &imports)
}

/// Returns the modules of a file below `src`: `a/b.rs` and `a/b/mod.rs` are `["a", "b"]`, `main.rs` is `[]`.
fn split_module_path(file: &str) -> Vec<&str> {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "main" || path == "lib" { Vec::new() } else { path.split('/').collect() }
}

/// Returns the names that the root re-exports, each with its room.
fn collect_exports(root: &TokenStream, rooms: &BTreeSet<&str>) -> Vec<(String, String)> {
    let mut exports = Vec::new();
    let mut rest = root.clone().into_iter();
    while let Some(token) = rest.next() {
        if !is_word(&token, "use") {
            continue;
        }
        let item: Vec<TokenTree> = rest.by_ref().take_while(|token| !is_sign(token, ';')).collect();
        let words = collect_words(item.into_iter().collect());
        let is_root = |word: &&String| ["crate", "self"].contains(&word.as_str());
        let mut words = words.iter().skip_while(is_root);
        if let Some(room) = words.next().filter(|room| rooms.contains(room.as_str())) {
            exports.extend(words.map(|name| (name.clone(), room.clone())));
        }
    }
    exports
}

fn collect_words(tokens: TokenStream) -> Vec<String> {
    let words = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(word) => vec![word.to_string()],
        TokenTree::Group(group) => collect_words(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    });
    words.collect()
}

/// Collects what paths name in the root of the crate: `a` of `crate::a::b`, of `super::a` one module below the
/// root, and both of `crate::{a, b::c}`. `depth` is the number of modules above the code.
fn collect_imports(tokens: &TokenStream, depth: usize, found: &mut Vec<(String, usize)>) {
    let mut above = None;
    let mut is_module = false;
    let mut rest = tokens.clone().into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            TokenTree::Ident(word) => {
                let is_path = rest.peek().is_some_and(|next| is_sign(next, ':'));
                let levels: Option<usize> = above.take();
                match word.to_string().as_str() {
                    "mod" => is_module = true,
                    "crate" if is_path => above = Some(depth),
                    "super" if is_path => above = Some(levels.unwrap_or_default() + 1),
                    name if levels == Some(depth) => {
                        found.push((name.to_owned(), word.span().start().line));
                    }
                    _ => {}
                }
            }
            TokenTree::Group(group) => {
                let is_brace = group.delimiter() == Delimiter::Brace;
                if is_brace && above == Some(depth) {
                    collect_branches(group.stream(), found);
                }
                let inner = depth + usize::from(is_brace && is_module);
                collect_imports(&group.stream(), inner, found);
                (above, is_module) = (None, false);
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' => {}
            TokenTree::Punct(_) | TokenTree::Literal(_) => (above, is_module) = (None, false),
        }
    }
}

/// Collects the first word of each branch of `{a, b::c, d as e}`.
fn collect_branches(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut is_first = true;
    for token in tokens {
        if let TokenTree::Ident(word) = &token
            && is_first
        {
            found.push((word.to_string(), word.span().start().line));
        }
        is_first = is_sign(&token, ',');
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(found) if found == word)
}

fn group_circles(
    house: &'static str,
    rooms: &BTreeSet<&str>,
    imports: &BTreeMap<&str, Vec<Import>>,
) -> Vec<Circle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        rooms.iter().map(|room| (*room, find_reachable(room, imports))).collect();
    let mut circles: Vec<Circle> = Vec::new();
    for room in rooms {
        let is_mutual =
            |other: &&&str| reached[*room].contains(**other) && reached[**other].contains(room);
        let members: Vec<&str> = rooms.iter().filter(is_mutual).copied().collect();
        // A room in a circle reaches itself; only the first of a circle reports it.
        if members.first() != Some(room) {
            continue;
        }
        circles.push(Circle {
            house,
            imports: list_imports(&members, imports),
            rooms: members.iter().map(|room| (*room).to_owned()).collect(),
        });
    }
    circles
}

fn list_imports(rooms: &[&str], imports: &BTreeMap<&str, Vec<Import>>) -> Vec<String> {
    let is_import = |from: &str, to: &str| imports[from].iter().any(|(room, ..)| room == to);
    let (mut mutual, mut one_way) = (Vec::new(), Vec::new());
    for from in rooms {
        for (to, path, line) in &imports[from] {
            if !rooms.contains(&to.as_str()) {
                continue;
            }
            if is_import(to, from) {
                mutual.push(format!("{path}:{line}: {from} <-> {to}"));
            } else {
                one_way.push(format!("{path}:{line}: {from} -> {to}"));
            }
        }
    }
    mutual.append(&mut one_way);
    mutual
}

/// Returns every room that `room` imports, directly or through others; itself only if it is in a circle.
fn find_reachable<'a>(room: &str, imports: &'a BTreeMap<&str, Vec<Import>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![room];
    while let Some(room) = next.pop() {
        for (target, ..) in imports.get(room).into_iter().flatten() {
            if reached.insert(target.as_str()) {
                next.push(target);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Circle> {
        let parse = |(path, text): &(&str, &str)| Source::parse(path, text).unwrap();
        find_circles(&files.iter().map(parse).collect::<Vec<_>>())
    }

    fn imports(text: &str, depth: usize) -> Vec<String> {
        let mut found = Vec::new();
        collect_imports(&text.parse().unwrap(), depth, &mut found);
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn paths_to_the_root_of_the_crate_are_imports() {
        assert_eq!(
            imports("use crate::a::b; fn f() { crate::c::d(g!(crate::e::h)) }", 1),
            ["a", "c", "e"]
        );
        assert_eq!(imports("use crate::{a::{self, x}, b, c as d};", 1), ["a", "b", "c"]);
        assert_eq!(
            imports("use super::a; use super::super::b; use super::{c, d::e};", 1),
            ["a", "c", "d"]
        );
        assert_eq!(
            imports("use super::a; use super::super::b; use self::super::super::c;", 2),
            ["b", "c"]
        );
        assert_eq!(
            imports("mod inner { use super::a; use super::super::b; } use super::c;", 1),
            ["b", "c"]
        );
        assert_eq!(
            imports("pub(crate) fn f(x: crate::Z) { \"crate::a\"; /* crate::b */ } // crate::c", 1),
            ["Z"]
        );
        assert_eq!(imports("pub(crate) struct A; pub(super) struct B(pub(super) C);", 1), [""; 0]);
    }

    #[test]
    fn rooms_that_import_each_other_are_one_circle() {
        let found = circles(&[
            ("agent/src/main.rs", "mod a; mod b; mod c; mod d; use crate::a::A;"),
            ("agent/src/a.rs", "use crate::b::B;"),
            ("agent/src/b/inner.rs", "fn f() {}\nuse super::super::c;"),
            ("agent/src/c.rs", "fn f() { crate::a::g() }"),
            ("agent/src/d.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rooms, ["a", "b", "c"]);
        assert_eq!(
            found[0].imports,
            [
                "agent/src/a.rs:1: a -> b",
                "agent/src/b/inner.rs:2: b -> c",
                "agent/src/c.rs:1: c -> a"
            ]
        );
    }

    #[test]
    fn an_import_of_a_name_that_the_root_exports_is_one_of_its_room() {
        let found = circles(&[
            ("agent/core/src/lib.rs", "mod a;\nmod b;\npub use a::{A, x::Y};\n"),
            ("agent/core/src/a.rs", "use crate::b::B;"),
            ("agent/core/src/b.rs", "use crate::Y;"),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].house, &found[0].rooms[..]),
            ("agent/core/src", &["a", "b"].map(str::to_owned)[..])
        );
    }

    #[test]
    fn imports_downwards_of_tests_and_within_a_room_are_no_circle() {
        let found = circles(&[
            ("agent/src/a.rs", "use crate::b::B; use crate::a::inner::X;"),
            ("agent/src/a/inner.rs", "use super::A; use crate::a::B; use std::a;"),
            (
                "agent/src/b.rs",
                "#[cfg(test)]\nuse crate::a::A;\n#[cfg(test)]\nmod tests { use crate::a::A; }",
            ),
            ("agent/core/src/b.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found, []);
    }
}
