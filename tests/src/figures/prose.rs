//! Pronouns and openings of the doc comments.
//!
//! Blank lines, list items, headings and table rows end a sentence, as a full stop before a capital letter does.
//! Code blocks, fenced or indented, are no prose; code in a sentence is.

use proc_macro2::{TokenStream, TokenTree};

use super::source::{Source, take_doc};

/// Words that stand for a noun.
const PRONOUNS: [&str; 16] = [
    "it", "its", "that", "what", "which", "whom", "those", "these", "they", "them", "one", "ones",
    "whoever", "whatever", "such", "so",
];

/// Words with which no sentence begins.
const OPENINGS: [&str; 12] = [
    "What", "Whether", "How", "Who", "Where", "When", "Why", "Whom", "Whose", "Which", "Whoever",
    "Whatever",
];

/// A sentence of a doc comment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    pub path: String,
    /// The line on which it begins.
    pub line: usize,
    pub text: String,
}

impl Sentence {
    /// Returns `path:line`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }

    /// Counts the runs of letters; `agent/core` is two words.
    pub(super) fn count_words(&self) -> usize {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '\'';
        self.text.split(|c| !is_letter(c)).filter(|word| !word.is_empty()).count()
    }

    /// Counts the pronouns; `take_it` contains none.
    pub(super) fn count_pronouns(&self) -> usize {
        let words = self.text.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.filter(|word| PRONOUNS.contains(&word.to_lowercase().as_str())).count()
    }

    /// Returns true when the sentence begins with a word of [`OPENINGS`].
    pub(super) fn begins_with_question_word(&self) -> bool {
        let end = self.text.find(|c: char| !c.is_alphanumeric()).unwrap_or(self.text.len());
        OPENINGS.contains(&&self.text[..end])
    }
}

/// Returns the sentences of all doc comments, in the order of the source.
pub(super) fn collect_sentences(sources: &[Source]) -> Vec<Sentence> {
    let mut found = Vec::new();
    for source in sources {
        let mut lines = Vec::new();
        collect_doc_lines(&source.tokens, &mut lines);
        let blocks = lines.chunk_by(|(before, _), (line, _)| before + 1 == *line);
        for paragraph in blocks.flat_map(split_paragraphs) {
            let sentences = split_sentences(&paragraph).into_iter();
            found.extend(sentences.map(|(line, text)| Sentence {
                path: source.path.clone(),
                line,
                text,
            }));
        }
    }
    found.retain(|sentence| sentence.count_words() > 0);
    found
}

/// Collects the numbered lines of all doc comments, those inside macros included.
fn collect_doc_lines(tokens: &TokenStream, lines: &mut Vec<(usize, String)>) {
    let mut rest = tokens.clone().into_iter().peekable();
    while let Some(token) = rest.next() {
        if let Some((line, text)) = take_doc(&token, &mut rest) {
            lines.extend((line..).zip(text.split('\n').map(str::to_owned)));
        } else if let TokenTree::Group(group) = &token {
            collect_doc_lines(&group.stream(), lines);
        }
    }
}

/// Returns the paragraphs of one doc comment without code blocks: numbered lines that belong together.
fn split_paragraphs(comment: &[(usize, String)]) -> Vec<Vec<(usize, &str)>> {
    let mut paragraphs: Vec<Vec<(usize, &str)>> = vec![Vec::new()];
    let (mut is_fenced, mut is_after_blank) = (false, true);
    for (number, line) in comment {
        let text = line.trim();
        if text.starts_with("```") {
            is_fenced = !is_fenced;
        }
        // One space follows the slashes, four more indent code.
        let is_code =
            is_fenced || text.starts_with("```") || is_after_blank && line.starts_with("     ");
        if is_code || text.is_empty() {
            paragraphs.push(Vec::new());
            is_after_blank |= text.is_empty();
            continue;
        }
        is_after_blank = false;
        let (is_item, text) = remove_marker(text);
        if is_item {
            paragraphs.push(Vec::new());
        }
        paragraphs.last_mut().expect("never empty").push((*number, text));
    }
    paragraphs.retain(|lines| !lines.is_empty());
    paragraphs
}

/// Removes the sign of a list item, a heading or a table row, and returns true if there was one.
fn remove_marker(line: &str) -> (bool, &str) {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    if number.len() < line.len()
        && let Some(text) = number.strip_prefix(". ")
    {
        return (true, text.trim_start());
    }
    let signs = ["- ", "* ", "|"];
    let text = signs.iter().find_map(|sign| line.strip_prefix(sign));
    let heading = line.trim_start_matches('#');
    let text = text.or((heading.len() < line.len()).then_some(heading));
    text.map_or((false, line), |text| (true, text.trim_start()))
}

/// Splits numbered lines after each full stop, question or exclamation mark before a capital letter, code or link.
fn split_sentences(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut sentences: Vec<(usize, String)> = Vec::new();
    let mut is_over = true;
    let words =
        lines.iter().flat_map(|(line, text)| text.split_whitespace().map(|word| (*line, word)));
    for (line, word) in words {
        let begins = word.starts_with(|c: char| c.is_ascii_uppercase() || c == '`' || c == '[');
        match sentences.last_mut() {
            Some((_, sentence)) if !(is_over && begins) => {
                sentence.push(' ');
                sentence.push_str(word);
            }
            _ => sentences.push((line, word.to_owned())),
        }
        is_over = word.ends_with(['.', '!', '?']);
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<(usize, String)> {
        let source = Source::parse("a.rs", text).unwrap();
        collect_sentences(&[source]).into_iter().map(|found| (found.line, found.text)).collect()
    }

    fn sentence(text: &str) -> Sentence {
        Sentence { path: String::new(), line: 1, text: text.to_owned() }
    }

    #[test]
    fn a_sentence_ends_at_a_full_stop_before_a_capital_or_at_a_blank_line() {
        let text =
            "//! One file,\n//! e.g. this. Two\n//! files. `three`\n//!\n//! and four\nfn f() {}\n";
        let expected =
            [(1, "One file, e.g. this."), (2, "Two files."), (3, "`three`"), (5, "and four")];
        assert_eq!(sentences(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn items_headings_and_rows_are_sentences_without_their_signs() {
        let text = "/// Has:\n/// - What a\n///   b\n/// 2. Whether c\n/// # Errors\n/// | D | e |\nfn f() {}\n";
        let expected =
            [(1, "Has:"), (2, "What a b"), (4, "Whether c"), (5, "Errors"), (6, "D | e |")];
        assert_eq!(sentences(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn code_blocks_and_ordinary_comments_are_no_prose() {
        let text = "/// A text:\n/// ```\n/// What it = that;\n/// ```\n///\n///     What indented\n///     Who\n/// End.\n// What\nfn f() {\n    let s = \"/// What\"; // Who\n    let r = r#\"/// \"What\"\"#;\n    /* What /* nested */ \n    /// What */\n}\n";
        let expected = [(1, "A text:"), (8, "End.")];
        assert_eq!(sentences(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn docs_of_fields_blocks_and_macros_are_prose_and_those_of_tests_are_not() {
        let text = "struct A {\n    /// The field.\n    a: u8,\n}\n/** A block,\ntwo lines. */\nfn f() {}\nmake! {\n    /// In a macro.\n    struct B;\n}\n#[cfg(test)]\n/// What a test does.\nmod tests {\n    /// Whose.\n    fn f() {}\n}\n";
        let expected = [(2, "The field."), (5, "A block, two lines."), (9, "In a macro.")];
        assert_eq!(sentences(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn words_and_pronouns_are_counted_in_any_case() {
        let known = sentence("It's `take_it` of agent/core, so that one knows 12 of them.");
        assert_eq!(known.count_words(), 12);
        assert_eq!(known.count_pronouns(), 5, "it, so, that, one, them");
    }

    #[test]
    fn only_a_whole_capital_word_opens_a_sentence() {
        for text in ["What is.", "Whose, then", "When"] {
            assert!(sentence(text).begins_with_question_word(), "{text}");
        }
        for text in ["Whatnot is.", "what is.", "The who.", "`What`", ""] {
            assert!(!sentence(text).begins_with_question_word(), "{text}");
        }
    }
}
