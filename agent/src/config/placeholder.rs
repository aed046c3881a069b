//! Finds placeholders of a template that nobody has replaced.

/// Placeholders that stand as separate words, in any case.
const WORDS: &[&str] =
    &["replace_me", "replaceme", "replace-me", "changeme", "change_me", "change-me"];
/// Placeholders that stand as separate words, in capitals only: in lower case they may be names.
const SHOUTED: &[&str] = &["TODO", "FIXME", "TBD"];

/// Returns the placeholder in `text`, or `None`.
pub(super) fn reason(text: &str) -> Option<String> {
    bracketed(text)
        .or_else(|| WORDS.iter().find_map(|word| alone(text, word, true)))
        .or_else(|| SHOUTED.iter().find_map(|word| alone(text, word, false)))
        .or_else(|| your(text))
        .or_else(|| crossed(text))
        .map(|mark| format!("`{mark}`"))
}

/// Returns the domain reserved for examples to which `host` belongs, or `None`.
pub(super) fn reserved_host(host: &str) -> Option<&'static str> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is = |name: &&&str| host == **name || host.ends_with(&format!(".{name}"));
    ["example.com", "example.org", "example.net", "example", "invalid"].iter().find(is).copied()
}

/// Finds `<prefix>`, but not `rate <40 or >120`: a placeholder starts with a letter, and ends with
/// a letter or digit.
fn bracketed(text: &str) -> Option<&str> {
    text.match_indices('<').find_map(|(start, _)| {
        let length = text[start..].find('>')?;
        let inside = &text[start + 1..start + length];
        let fits = inside.starts_with(|c: char| c.is_ascii_alphabetic())
            && inside.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !inside.contains('<');
        fits.then(|| &text[start..=start + length])
    })
}

/// Finds `your-thing` and `your_key.pem`, also within a path or a host.
fn your(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let found = ["your-", "your_"].iter().find_map(|mark| {
        lower.match_indices(mark).find(|(start, _)| !follows_a_word(text, *start))
    });
    found.map(|(start, _)| {
        let rest = &text[start..];
        let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    })
}

/// Finds `xxx` and `XXXXXXXX`: three or more of the letter, with no other letter or digit beside
/// them.
fn crossed(text: &str) -> Option<&str> {
    let crosses =
        |word: &&str| word.len() >= 3 && word.bytes().all(|b| b.eq_ignore_ascii_case(&b'x'));
    text.split(|c: char| !c.is_alphanumeric()).find(crosses)
}

fn alone<'a>(text: &'a str, mark: &str, any_case: bool) -> Option<&'a str> {
    let haystack = if any_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let (start, _) = haystack.match_indices(mark).find(|(start, _)| {
        let after = text[start + mark.len()..].chars().next();
        !follows_a_word(text, *start) && !after.is_some_and(char::is_alphanumeric)
    })?;
    Some(&text[start..start + mark.len()])
}

fn follows_a_word(text: &str, start: usize) -> bool {
    text[..start].chars().next_back().is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_left_is_a_placeholder() {
        let left = [
            "<thing>",
            "https://<prefix>-ats.iot.eu-west-1.amazonaws.com",
            "REPLACE_ME",
            "changeme",
            "/etc/pulsegate/your-device.pem",
            "your_thing",
            "xxx",
            "xxxxxxxx-ats.iot.aws",
            "TODO",
            "thing-XXX",
            "pi-CHANGE_ME",
        ];

        for text in left {
            assert!(reason(text).is_some(), "{text}");
        }
    }

    #[test]
    fn an_honest_name_is_no_placeholder() {
        let honest = [
            "maxxx",
            "xx",
            "todo-list",
            "rate <40 or >120",
            "a<b",
            "pi-nestbox-3",
            "Yourself",
            "exchange",
            "gartenyour-1",
            "MAXXXL",
            "changement",
            "{path}",
            "28-0000055f1020",
            "<1 and >3>",
            "mastodon",
        ];

        for text in honest {
            assert_eq!(reason(text), None, "{text}");
        }
    }

    #[test]
    fn a_reserved_host_is_known_with_its_subdomains() {
        assert_eq!(reserved_host("broker.example.com"), Some("example.com"));
        assert_eq!(reserved_host("abc-ats.iot.eu-west-1.amazonaws.com"), None);
        assert_eq!(reserved_host("myexample.com"), None);
    }
}
