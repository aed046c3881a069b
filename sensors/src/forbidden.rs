//! Texts that must never leave the device: names, phone numbers, positions.
//!
//! They are looked for without regard to case and to what separates words and digits, so that `Anna
//! Smith` is also found in `anna_smith-7`. A text written otherwise, or in parts, is not found.

/// Shorter texts would be found everywhere.
pub const MIN_CHARS: usize = 3;

/// A list of such texts. Empty, it forbids nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forbidden(Vec<String>);

impl Forbidden {
    /// Adds one; false if it is shorter than [`MIN_CHARS`], apart from what separates.
    pub fn add(&mut self, text: &str) -> bool {
        let plain = plain(text);
        let is_long = plain.chars().count() >= MIN_CHARS;
        if is_long {
            self.0.push(plain);
        }
        is_long
    }

    /// Whether `text` contains one of them.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let plain = plain(text);
        self.0.iter().any(|forbidden| plain.contains(forbidden))
    }
}

/// Without case and without what separates words and digits.
fn plain(text: &str) -> String {
    let separates = |c: &char| c.is_whitespace() || "-_.()/".contains(*c);
    text.chars().filter(|c| !separates(c)).flat_map(char::to_lowercase).collect()
}
