//! Prints the figures of the source beside their limits and targets, or the places behind one.
//!
//! `figures [PATH]` measures the files whose path begins with `PATH`; by default, every file. `figures --list NAME
//! [PATH]` measures every file and lists the places of one figure; with `PATH`, only the lines that contain `PATH`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, bail};
use pulsegate_tests::figures::{Figure, measure_workspace};

const USAGE: &str = "usage: figures [PATH] | figures --list NAME [PATH]";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let text = match arguments[..] {
        [] => draw_table(&measure_workspace("")?, true),
        ["--list", name] => list_places(&measure_workspace("")?, name, "")?,
        ["--list", name, path] => list_places(&measure_workspace("")?, name, path)?,
        [path] if !path.starts_with('-') => draw_table(&measure_workspace(path)?, false),
        _ => bail!(USAGE),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // `head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print the figures"),
    }
}

/// Draws a row for each figure; limits only where the whole source was measured.
fn draw_table(figures: &[Figure], has_limits: bool) -> String {
    let mut table =
        format!("{:>9} {:>6} {:>8} {:>7}  figure\n", "lower to", "limit", "measured", "target");
    for figure in figures {
        let limit = figure.find_limit();
        let (mut limit_text, mut lower_text) = (String::new(), String::new());
        if let Some((limit, _)) = limit.filter(|_| has_limits) {
            limit_text = limit.to_string();
            let lower = figure.suggest_limit();
            if lower < limit {
                lower_text = lower.to_string();
            }
        }
        let target = limit.map(|(_, target)| target.to_string()).unwrap_or_default();
        let value = format_value(figure);
        let (name, meaning) = (figure.name, figure.meaning);
        let row =
            format!("{lower_text:>9} {limit_text:>6} {value:>8} {target:>7}  {name:<18} {meaning}");
        writeln!(table, "{row}").expect("a string takes every text");
    }
    table
}

fn format_value(figure: &Figure) -> String {
    let decimals = usize::from(figure.meaning.ends_with('%'));
    format!("{:.decimals$}", figure.value)
}

fn list_places(figures: &[Figure], name: &str, path: &str) -> anyhow::Result<String> {
    let figure = figures.iter().find(|figure| figure.name == name);
    let Some(figure) = figure.filter(|figure| !figure.places.is_empty() || figure.value == 0.0)
    else {
        let with_list = figures.iter().filter(|figure| !figure.places.is_empty());
        let names: Vec<&str> = with_list.map(|figure| figure.name).collect();
        bail!("`{name}` has no list; these have one: {}", names.join(", "));
    };
    let places = figure.places.iter().filter(|place| place.contains(path));
    Ok(places.map(|place| format!("{place}\n")).collect())
}
