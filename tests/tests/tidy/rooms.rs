//! The order of rooms, the top-level modules of core and of the agent: a room imports only rooms below it.

use super::{Source, assert_none, production, sources};

/// The rooms of core, from the top down.
const CORE: [&str; 7] = ["act", "visits", "rules", "derive", "cloud", "record", "time"];

/// The rooms of the agent, from the top down; `main.rs` is above them.
const AGENT: [&str; 13] = [
    "cli", "commands", "agent", "status", "sources", "actions", "cloud", "context", "replay",
    "store", "db", "config", "platform",
];

/// A room, a room above it that it imports nevertheless, and the reason.
const UPWARD: [(&str, &str, &str); 0] = [];

#[test]
fn rooms_import_only_rooms_below_them() {
    let mut used = [false; UPWARD.len()];
    let mut offences = Vec::new();
    for (folder, order) in [("agent/core/src/", &CORE[..]), ("agent/src/", &AGENT[..])] {
        for file in sources(folder) {
            let Some(room) = room_of(&file.path, folder) else { continue };
            assert!(order.contains(&room), "`{}` is in a room without a place", file.path);
            for (line, imported) in imports(&file, folder, order) {
                let listed =
                    UPWARD.iter().position(|(from, to, _)| *from == room && *to == imported);
                match listed {
                    _ if is_below(order, imported, room) => {}
                    Some(listed) => used[listed] = true,
                    None => offences.push(format!("{}:{line}: imports {imported}", file.path)),
                }
            }
        }
    }
    assert_none(
        &offences,
        "a room imports only rooms below it: core's and the agent's orders above",
    );
    for ((from, to, _), used) in UPWARD.iter().zip(used) {
        assert!(used, "UPWARD lists `{from}`, which does not import `{to}` any more");
    }
}

#[test]
fn imports_of_every_form_are_found() {
    let found = |path: &str, text: &str| -> Vec<&str> {
        let file = Source { path: path.to_owned(), lines: production(text) };
        imports(&file, "agent/src/", &AGENT).into_iter().map(|(_, room)| room).collect()
    };
    assert_eq!(found("agent/src/db/a.rs", "use crate::store::Store;"), ["store"]);
    assert_eq!(found("agent/src/db/a.rs", "    crate::agent::run();"), ["agent"]);
    assert_eq!(
        found("agent/src/db/a.rs", "use crate::{\n    cli,\n    store::{db, x},\n};"),
        ["cli", "store"]
    );
    assert_eq!(found("agent/src/db/a.rs", "use super::super::store::Store;"), ["store"]);
    assert_eq!(found("agent/src/db.rs", "use super::store::Store;"), ["store"]);
    assert_eq!(found("agent/src/db/a.rs", "use super::store::Store; // crate::cli"), [""; 0]);
    assert_eq!(found("agent/src/db/a.rs", "use crate::db::disk; use other::store;"), [""; 0]);
}

/// Returns the room of a file below `folder`; none for the root of the crate.
fn room_of<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let room = path.strip_prefix(folder)?.split(['/', '.']).next()?;
    (!["main", "lib"].contains(&room)).then_some(room)
}

/// Whether `imported` comes after `room` in the order of rooms.
fn is_below(order: &[&str], imported: &str, room: &str) -> bool {
    let place = |name: &str| order.iter().position(|known| *known == name);
    place(imported) > place(room)
}

/// Returns the other rooms that the production code of a file names, each with its line.
fn imports(file: &Source, folder: &str, order: &[&'static str]) -> Vec<(usize, &'static str)> {
    let below = file.path.strip_prefix(folder).unwrap_or_default();
    let root = "super::".repeat(below.split('/').count());
    let own = room_of(&file.path, folder);
    let room = |name: &str| order.iter().copied().find(|room| *room == name && Some(*room) != own);
    let mut found = Vec::new();
    let mut lines = file.lines.iter();
    while let Some((number, line)) = lines.next() {
        let after = line.split("crate::").skip(1).chain(line.split(&root).skip(1));
        for rest in after.map(str::to_owned).collect::<Vec<_>>() {
            let Some(branches) = rest.strip_prefix('{') else {
                found.extend(room(first_word(&rest)).map(|room| (*number, room)));
                continue;
            };
            let mut tree = branches.to_owned();
            while !tree.contains(';') {
                let Some((_, next)) = lines.next() else { break };
                tree.push_str(next.trim());
            }
            let names = branches_of(&tree);
            found.extend(names.iter().filter_map(|name| room(name)).map(|room| (*number, room)));
        }
    }
    found
}

/// Returns the first word of each branch of `a, b::{c, d}};`.
fn branches_of(tree: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let split = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    tree.split(split).map(first_word).collect()
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}
