//! Each figure: its name, its value and its places.

use std::cmp::Reverse;

use super::definitions::{self, Definitions, Function};
use super::names::{self, Homonyms};
use super::prose::{self, Sentence};
use super::source::{self, Source};
use super::{Figure, MAX_FILE_LINES, MAX_FUNCTION_LINES, structure, twins};

/// Configuration with its checks and what translates it for core.
const CONFIGURATION: [&str; 2] = ["agent/src/config", "agent/src/compile"];
/// Functions in the list behind `function-most`.
const LONGEST: usize = 30;

/// Measures every figure, in the order of the printed table.
pub(super) fn measure(sources: &[Source]) -> Vec<Figure> {
    let definitions = definitions::collect_definitions(sources);
    let mut figures = measure_functions(&definitions.functions);
    figures.extend(measure_files(sources));
    figures.extend(measure_names(&definitions));
    figures.extend(measure_prose(&prose::collect_sentences(sources)));
    figures.extend(measure_structure(sources, &definitions.functions));
    figures.extend(measure_lines(sources));
    figures
}

fn measure_functions(functions: &[Function]) -> Vec<Figure> {
    let mut sorted: Vec<&Function> =
        functions.iter().filter(|function| function.lines > 0).collect();
    sorted.sort_by_key(|function| Reverse(function.lines));
    let list = |functions: &[&Function]| -> Vec<String> {
        let text = |function: &&Function| {
            format!("{}: {} has {} lines", function.place(), function.name, function.lines)
        };
        functions.iter().map(text).collect()
    };
    let lines: Vec<usize> = sorted.iter().rev().map(|function| function.lines).collect();
    let longest = &sorted[..sorted.len().min(LONGEST)];
    let long = sorted.partition_point(|function| function.lines > MAX_FUNCTION_LINES);
    vec![
        bare("function-median", "lines of a function, median", find_rank(&lines, 50)),
        bare("function-p95", "lines of a function, 95th percentile", find_rank(&lines, 95)),
        Figure {
            name: "function-most",
            meaning: "lines of the longest function",
            value: number(find_rank(&lines, 100)),
            places: list(longest),
        },
        counted("long-functions", "functions above 70 lines", list(&sorted[..long])),
    ]
}

fn measure_files(sources: &[Source]) -> Vec<Figure> {
    let mut files: Vec<(usize, &str)> =
        sources.iter().map(|source| (source.text.lines().count(), &source.path[..])).collect();
    files.sort_unstable();
    let lines: Vec<usize> = files.iter().map(|(lines, _)| *lines).collect();
    let long = files.iter().rev().take_while(|(lines, _)| *lines > MAX_FILE_LINES);
    let long: Vec<String> = long.map(|(lines, path)| format!("{path}: {lines} lines")).collect();
    vec![
        bare("file-median", "lines of a file with its tests, median", find_rank(&lines, 50)),
        bare("file-p95", "lines of a file, 95th percentile", find_rank(&lines, 95)),
        bare("file-most", "lines of the longest file", find_rank(&lines, 100)),
        counted("long-files", "files above 250 lines", long),
    ]
}

fn measure_names(definitions: &Definitions) -> Vec<Figure> {
    let Definitions { functions, types } = definitions;
    let named_here = functions.iter().filter(|function| !function.is_named_by_trait).count();
    let one_word = names::find_one_word(functions);
    let renamed = one_word.iter().filter(|function| !names::is_common(&function.name));
    let renamed = renamed.map(|function| format!("{}: {}", function.place(), function.name));
    let named = names::group_functions(functions);
    let overused = names::keep_overused(named.clone());
    let shared = names::keep_shared(named.clone());
    let shared_types = names::keep_shared(names::group_types(types));
    let total = |homonyms: &Homonyms| homonyms.values().map(Vec::len).sum();
    vec![
        Figure {
            name: "one-word",
            meaning: "functions whose name is one word, %",
            value: share(one_word.len(), named_here),
            places: renamed.collect(),
        },
        Figure {
            name: "function-homonyms",
            meaning: "functions whose name is defined in several modules, %",
            value: share(total(&shared), total(&named)),
            places: list_homonyms(&shared),
        },
        Figure {
            name: "overused-names",
            meaning: "function names defined in more than 3 modules",
            value: number(overused.len()),
            places: list_homonyms(&overused),
        },
        Figure {
            name: "type-homonyms",
            meaning: "types whose name is defined in several modules, %",
            value: share(total(&shared_types), types.len()),
            places: list_homonyms(&shared_types),
        },
    ]
}

/// Lists every definition, those of the most frequent name first.
fn list_homonyms(homonyms: &Homonyms) -> Vec<String> {
    let mut sorted: Vec<_> = homonyms.iter().collect();
    sorted.sort_by_key(|(_, definitions)| Reverse(definitions.len()));
    let lines = sorted.into_iter().flat_map(|(name, definitions)| {
        let times = definitions.len();
        definitions.iter().map(move |(_, place)| format!("{place}: {name}, {times} times"))
    });
    lines.collect()
}

fn measure_prose(sentences: &[Sentence]) -> Vec<Figure> {
    let words = sentences.iter().map(Sentence::count_words).sum();
    let pronouns = sentences.iter().map(Sentence::count_pronouns).sum();
    let unclear = sentences.iter().filter(|sentence| sentence.count_pronouns() > 0);
    let unclear = unclear.map(|sentence| {
        format!("{}: [{}] {}", sentence.place(), sentence.count_pronouns(), sentence.text)
    });
    let openings = sentences.iter().filter(|sentence| sentence.begins_with_question_word());
    let openings: Vec<String> =
        openings.map(|sentence| format!("{}: {}", sentence.place(), sentence.text)).collect();
    vec![
        Figure {
            name: "pronouns",
            meaning: "pronouns of the words of doc comments, %",
            value: share(pronouns, words),
            places: unclear.collect(),
        },
        Figure {
            name: "wh-openings",
            meaning: "doc sentences that open with what, who, when ..., %",
            value: share(openings.len(), sentences.len()),
            places: openings,
        },
    ]
}

fn measure_structure(sources: &[Source], functions: &[Function]) -> Vec<Figure> {
    let groups = twins::find_twins(functions);
    let copies = groups.iter().map(|group| group.len() - 1).sum();
    let groups = groups.iter().map(|group| {
        let places = group.iter().map(|function| format!("{} {}", function.place(), function.name));
        places.collect::<Vec<_>>().join(" = ")
    });
    let circles = structure::find_circles(sources);
    let rooms = circles.iter().map(|circle| circle.rooms.len()).sum();
    let places = circles.iter().flat_map(|circle| {
        let title = format!("{}: {}", circle.house, circle.rooms.join(", "));
        std::iter::once(title).chain(circle.imports.iter().cloned())
    });
    vec![
        Figure {
            name: "twins",
            meaning: "functions with a body of 5 lines that another has",
            value: number(copies),
            places: groups.collect(),
        },
        Figure {
            name: "circles",
            meaning: "circles of imports between rooms of a crate",
            value: number(circles.len()),
            places: places.collect(),
        },
        bare("rooms-in-circles", "rooms that are in a circle", rooms),
    ]
}

fn measure_lines(sources: &[Source]) -> Vec<Figure> {
    let count_below = |folders: &[&str]| -> usize {
        let is_below =
            |source: &&Source| folders.iter().any(|folder| source.path.starts_with(folder));
        let below = sources.iter().filter(is_below);
        below.map(|source| source::count_code_lines(&source.tokens)).sum()
    };
    let mut figures: Vec<Figure> = source::CRATES
        .iter()
        .map(|(name, meaning, folders)| bare(name, meaning, count_below(folders)))
        .collect();
    let all = figures.iter().map(|figure| figure.value).sum();
    figures.push(Figure {
        name: "lines",
        meaning: "production lines of all three",
        value: all,
        places: Vec::new(),
    });
    let configuration = count_below(&CONFIGURATION);
    figures.push(bare("lines-config", "of them configuration with its checks", configuration));
    figures
}

/// Returns a figure without a list.
fn bare(name: &'static str, meaning: &'static str, value: usize) -> Figure {
    Figure { name, meaning, value: number(value), places: Vec::new() }
}

/// Returns a figure that is the number of its places.
fn counted(name: &'static str, meaning: &'static str, places: Vec<String>) -> Figure {
    Figure { name, meaning, value: number(places.len()), places }
}

/// Returns the smallest element that `percent` of `sorted` do not exceed; 0 when `sorted` is empty.
fn find_rank(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "no source has 2^52 of anything")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Returns `part` in percent of `all`; 0 when `all` is 0.
fn share(part: usize, all: usize) -> f64 {
    100.0 * number(part) / number(all.max(1))
}
