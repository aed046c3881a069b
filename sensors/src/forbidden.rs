//! Texts that must never leave the device: names, phone numbers, positions.
//!
//! The search ignores case and the separators between words and digits: `Anna Smith` is also found
//! in `anna_smith-7`. A text in another spelling or split into parts is not found.

/// The minimum length in characters, without separators: a shorter text would match almost
/// anything.
pub const MIN_CHARS: usize = 3;

/// A list of forbidden texts. An empty list forbids nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forbidden(Vec<String>);

impl Forbidden {
    /// Adds `text`. Returns `false` if `text` without separators is shorter than [`MIN_CHARS`].
    pub fn add_text(&mut self, text: &str) -> bool {
        let plain = normalise_text(text);
        let is_long = plain.chars().count() >= MIN_CHARS;
        if is_long {
            self.0.push(plain);
        }
        is_long
    }

    /// Returns `true` if `text` contains a forbidden text.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let plain = normalise_text(text);
        self.0.iter().any(|forbidden| plain.contains(forbidden))
    }
}

/// Returns `text` in one case, without the separators between words and digits. Upper case first
/// makes one letter of those with several small forms: `ß` and `SS`, `ς` and `σ`.
fn normalise_text(text: &str) -> String {
    let separates = |c: &char| c.is_whitespace() || "-_.()/".contains(*c);
    let letters = text.chars().filter(|c| !separates(c));
    letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_also_for_letters_with_several_small_or_large_forms() {
        for (listed, text) in [
            ("Anna Smith", "aNNA_sMITH-7"),
            ("Jörg Groß", "JÖRG GROSS"),
            ("JÖRG GROSS", "Jörg Groß"),
            ("Νίκος", "ΝΊΚΟΣ"),
            ("Işık", "IŞIK"),
        ] {
            let mut forbidden = Forbidden::default();
            assert!(forbidden.add_text(listed));

            assert!(forbidden.is_in(text), "`{text}` is not found by `{listed}`");
            assert!(!forbidden.is_in("belt 7"));
        }
    }
}
