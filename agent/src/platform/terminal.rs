//! Escapes text for a terminal. Text from a store, a configuration, a status answer or a client can
//! carry escape sequences that move the cursor, rename the window or reverse the text. Every
//! command prints only escaped text.

use std::borrow::Cow;
use std::io::{self, Write};

/// Returns `text` with control characters (C0, DEL, C1) and bidirectional controls written as
/// `\u001b`, which JSON reads as the same character. Line feeds, tabs and the line ends of CSV are
/// kept.
#[must_use]
pub(crate) fn escape_text(text: &str) -> Cow<'_, str> {
    escape_controls(text, false)
}

/// Returns `text` with control characters escaped, except for colours (SGR sequences).
#[must_use]
pub(crate) fn escape_keeping_colour(text: &str) -> Cow<'_, str> {
    escape_controls(text, true)
}

/// Returns `text` with a `?` for each byte of a control character, so byte positions stay valid.
#[must_use]
pub(crate) fn blank_controls(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    for character in text.chars() {
        match is_control(character) && !matches!(character, '\r') {
            true => blanked.extend(std::iter::repeat_n('?', character.len_utf8())),
            false => blanked.push(character),
        }
    }
    blanked
}

fn escape_controls(text: &str, keeps_colour: bool) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = match (character, keeps_colour) {
            ('\u{1b}', true) => colour_length(rest),
            ('\r', _) if rest.starts_with("\r\n") => 2,
            _ if is_control(character) => 0,
            _ => character.len_utf8(),
        };
        if length == 0 {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push_str(&rest[..length]);
        }
        rest = &rest[length.max(character.len_utf8())..];
    }
    Cow::Owned(escaped)
}

/// Returns the length in bytes of the sequence at the start of `text` if the sequence only sets
/// colours, else 0.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end.filter(|end| parameters[*end..].starts_with('m')) {
        Some(end) => "\u{1b}[".len() + end + 1,
        None => 0,
    }
}

/// Returns whether a terminal obeys `character` instead of showing it.
fn is_control(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || (character.is_control() && character != '\n' && character != '\t')
}

/// Writer of whole log lines to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogWriter {
    /// `true` if colours in the lines are the agent's own; otherwise colours are escaped.
    pub(crate) keeps_colour: bool,
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().write_all(escape_controls(&text, self.keeps_colour).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_text() {
        assert_eq!(escape_text("7  heart_rate  72\n\tend"), "7  heart_rate  72\n\tend");
        assert_eq!(escape_text("a\u{1b}[2Jb"), "a\\u001b[2Jb");
        assert_eq!(escape_text("a\u{9b}2J\u{7f}\u{0}\rb"), "a\\u009b2J\\u007f\\u0000\\u000db");
        assert_eq!(escape_text("\u{202e}abc\u{2066}"), "\\u202eabc\\u2066");
        assert_eq!(escape_text("\u{200e}a\u{200f}b\u{61c}"), "\\u200ea\\u200fb\\u061c");
        assert_eq!(escape_text("a,b\r\n"), "a,b\r\n");
    }

    #[test]
    fn json_says_the_same_after_it_was_made_safe() {
        let text = "\u{1b}]0;x\u{7}\u{9b}\u{202e}é";
        let json = serde_json::to_string(text).unwrap();

        let shown = escape_text(&json);

        assert!(!shown.chars().any(is_control));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    #[test]
    fn colours_stay_where_they_are_ours_and_nothing_else_does() {
        assert_eq!(escape_keeping_colour("\u{1b}[1;31mred\u{1b}[0m"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(escape_keeping_colour("\u{1b}[2J\u{1b}"), "\\u001b[2J\\u001b");
    }

    #[test]
    fn places_stay_in_what_is_blanked() {
        assert_eq!(blank_controls("a\u{1b}b\u{9b}c\r\n"), "a?b??c\r\n");
    }
}
