//! Finds the nearest valid name for an invalid name.

use super::findings::Finding;

/// The most names that a fault lists.
const LISTED: usize = 8;

/// Returns the valid name of which `word` may be a misspelling.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = *sorted(word, known).first()?;
    let slips = strsim::damerau_levenshtein(word, best);
    (slips <= (word.chars().count() / 3).max(1) && slips < best.chars().count()).then_some(best)
}

/// Adds the name of which `word` may be a misspelling to the caret, or else a list of valid names,
/// the nearest first.
pub(super) fn suggest(finding: Finding, word: &str, known: &[&str], what: &str) -> Finding {
    if let Some(meant) = nearest(word, known) {
        return finding.label(format!("did you mean `{meant}`?"));
    }
    let sorted = sorted(word, known);
    match sorted.len() {
        0 => finding.help(format!("there are no {what}")),
        1..=LISTED => finding.help(format!("valid {what}: `{}`", sorted.join("`, `"))),
        _ => finding.help(format!("valid {what}: `{}` ...", sorted[..LISTED].join("`, `"))),
    }
}

fn sorted<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = known.to_vec();
    sorted.sort_by_cached_key(|name| (strsim::damerau_levenshtein(word, name), *name));
    sorted.dedup();
    sorted
}
