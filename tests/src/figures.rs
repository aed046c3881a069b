//! Figures of the production code: sizes, names, prose of doc comments, twins, circles of imports.
//!
//! `make figures` prints them, `figures --list NAME` the places behind one, and [`LIMITS`] keeps them from falling
//! back. Names, sizes and twins come from the syntax tree, which does not see the code that a macro writes; prose,
//! lines and imports come from the tokens, those inside macros included.

mod definitions;
mod measures;
mod names;
mod prose;
mod source;
mod structure;
mod twins;

use std::path::{Path, PathBuf};

/// Lines of the longest function that a reader takes in at once.
const MAX_FUNCTION_LINES: usize = 70;
/// Lines of a file that need not be split.
const MAX_FILE_LINES: usize = 250;

/// The name of a figure, its limit and its target.
///
/// A change lowers a limit: a number in the column `lower to` of `make figures` belongs here.
pub const LIMITS: [(&str, f64, f64); 12] = [
    ("function-median", 8.0, 8.0),
    ("function-p95", 32.0, 32.0),
    ("function-most", 70.0, 70.0),
    ("long-functions", 0.0, 0.0),
    ("file-most", 600.0, 600.0),
    ("one-word", 18.5, 15.0),
    ("overused-names", 3.0, 0.0),
    ("type-homonyms", 3.0, 0.0),
    ("pronouns", 4.0, 3.0),
    ("wh-openings", 3.0, 0.0),
    ("twins", 0.0, 0.0),
    ("rooms-in-circles", 0.0, 0.0),
];

/// A measured figure.
pub struct Figure {
    /// As `--list` takes it, for example `one-word`.
    pub name: &'static str,
    /// One line for people, with the unit.
    pub meaning: &'static str,
    /// A number, or a percentage where `meaning` ends with `%`.
    pub value: f64,
    /// Origins of the value, each as `path:line: text` where it has one place; empty where a list would say nothing.
    pub places: Vec<String>,
}

impl Figure {
    /// Returns the limit and the target, where [`LIMITS`] has them.
    #[must_use]
    pub fn find_limit(&self) -> Option<(f64, f64)> {
        let entry = LIMITS.iter().find(|(name, ..)| *name == self.name);
        entry.map(|(_, limit, target)| (*limit, *target))
    }

    /// Returns the limit that the measured value allows: the value, rounded up to a half.
    #[must_use]
    pub fn suggest_limit(&self) -> f64 {
        (self.value * 2.0).ceil() / 2.0
    }
}

/// Measures the production code of the workspace in files whose path begins with `prefix`, for example
/// `agent/src/platform/clock`; all of it if that is empty.
///
/// # Errors
/// When a file cannot be read or parsed.
pub fn measure_workspace(prefix: &str) -> anyhow::Result<Vec<Figure>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from);
    let mut sources = source::read_sources(&root.expect("the workspace is above its crates"))?;
    sources.retain(|source| source.path.starts_with(prefix));
    Ok(measures::measure(&sources))
}

/// Returns a message for each figure above its limit.
///
/// # Panics
/// When [`LIMITS`] names a figure that does not exist.
#[must_use]
pub fn find_excesses(figures: &[Figure]) -> Vec<String> {
    let excess = |(name, limit, _): &(&str, f64, f64)| {
        let figure = figures.iter().find(|figure| figure.name == *name);
        let value = figure.unwrap_or_else(|| panic!("there is no figure `{name}`")).value;
        (value > *limit).then(|| {
            format!("`{name}` is {value:.1}, its limit {limit}: see `target/debug/figures --list {name}`")
        })
    };
    LIMITS.iter().filter_map(excess).collect()
}

#[cfg(test)]
mod tests {
    use super::source::Source;
    use super::*;

    fn measure(files: &[(&str, &str)]) -> Vec<Figure> {
        let parse = |(path, text): &(&str, &str)| Source::parse(path, text).unwrap();
        measures::measure(&files.iter().map(parse).collect::<Vec<_>>())
    }

    fn find<'a>(figures: &'a [Figure], name: &str) -> &'a Figure {
        figures.iter().find(|figure| figure.name == name).unwrap()
    }

    #[test]
    fn a_small_tree_has_the_figures_that_were_counted_by_hand() {
        let figures = measure(&[
            (
                "agent/src/a.rs",
                "//! What it is.\n\nuse crate::b::B;\n\n/// The one.\npub struct A;\n\n\
                 impl A {\n    fn take(self) {\n        // why\n        f(\"//\");\n    }\n}\n\n\
                 #[cfg(test)]\nmod tests {\n    struct B;\n    fn give() {}\n}\n",
            ),
            (
                "agent/src/b.rs",
                "use crate::a::A;\nenum A { }\ntype B = u8;\nfn take_all() {}\nfn take() {}\n",
            ),
            ("agent/core/src/lib.rs", "/* no /* code */ */\nconst TEXT: &str = r#\"\n// a\n\"#;\n"),
        ]);
        let expected = [
            ("function-median", 1.0),
            ("function-p95", 4.0),
            ("function-most", 4.0),
            ("long-functions", 0.0),
            ("file-median", 5.0),
            ("file-p95", 19.0),
            ("file-most", 19.0),
            ("long-files", 0.0),
            ("one-word", 200.0 / 3.0),
            ("function-homonyms", 200.0 / 3.0),
            ("overused-names", 0.0),
            ("type-homonyms", 200.0 / 3.0),
            ("pronouns", 60.0),
            ("wh-openings", 50.0),
            ("twins", 0.0),
            ("circles", 1.0),
            ("rooms-in-circles", 2.0),
            ("lines-agent", 12.0),
            ("lines-core", 3.0),
            ("lines-sensors", 0.0),
            ("lines", 15.0),
            ("lines-config", 0.0),
        ];
        for (figure, (name, value)) in figures.iter().zip(expected) {
            assert_eq!(figure.name, name);
            assert!((figure.value - value).abs() < 1e-9, "{name} is {}", figure.value);
        }
        assert_eq!(figures.len(), expected.len());
        assert_eq!(
            find(&figures, "one-word").places,
            ["agent/src/a.rs:9: take", "agent/src/b.rs:5: take"]
        );
        assert_eq!(find(&figures, "wh-openings").places, ["agent/src/a.rs:1: What it is."]);
    }

    #[test]
    fn a_long_function_is_counted_from_its_signature_to_its_brace() {
        let long = |lines: usize| {
            format!("/// Doc.\n#[inline]\nfn f() {{\n{}}}\n", "g();\n".repeat(lines - 2))
        };
        for (lines, count) in [(70, 0.0), (71, 1.0)] {
            let figures = measure(&[("agent/src/a.rs", &long(lines))]);
            assert!((find(&figures, "long-functions").value - count).abs() < 1e-9, "{lines}");
        }
        let figures = measure(&[("agent/src/a.rs", &long(78))]);
        assert_eq!(find(&figures, "long-functions").places, ["agent/src/a.rs:3: f has 78 lines"]);
        let (_, limit, _) = LIMITS.into_iter().find(|(name, ..)| *name == "function-most").unwrap();
        let excess = format!(
            "`function-most` is 78.0, its limit {limit}: see `target/debug/figures --list function-most`"
        );
        assert!(find_excesses(&figures).contains(&excess), "{:?}", find_excesses(&figures));
    }

    #[test]
    fn a_suggested_limit_is_the_value_rounded_up_to_a_half() {
        let suggest =
            |value| Figure { name: "", meaning: "", value, places: Vec::new() }.suggest_limit();
        for (value, limit) in [(3.0, 3.0), (3.01, 3.5), (3.5, 3.5), (3.51, 4.0)] {
            assert!((suggest(value) - limit).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn no_limit_is_below_its_target() {
        for (name, limit, target) in LIMITS {
            assert!(limit >= target, "{name}: lower its target too");
        }
    }
}
