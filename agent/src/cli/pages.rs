//! Writes the manual pages and completions of the package, from the command line and the schema.
//!
//! A test writes the pages, so the shipped program needs no code for them: into the directory
//! `PULSEGATE_PAGES` (set by cross/build), or into a temporary one. A command or key without a
//! description fails the test.

#![expect(clippy::disallowed_methods, reason = "pages need not survive a power cut")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use serde_json::Value;

use super::Cli;

/// Writes `pulsegate.1`, a page for each command, `pulsegate.toml.5`, and the completions.
fn write(directory: &Path) -> std::io::Result<()> {
    let manual = directory.join("man");
    std::fs::create_dir_all(&manual)?;
    clap_mangen::generate_to(Cli::command(), &manual)?;
    std::fs::write(manual.join("pulsegate.toml.5"), configuration())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "pulsegate", directory)?;
    }
    Ok(())
}

/// Returns the page of the configuration file.
fn configuration() -> String {
    let schema = crate::config::schema().to_value();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH pulsegate.toml 5 \"\" \"pulsegate {version}\"\n.SH NAME\n\
         pulsegate.toml \\- configuration of pulsegate, an edge gateway agent\n\
         .SH DESCRIPTION\nOne file in TOML. Durations carry their unit (ms, s, m, h, d), and so do sizes \
         (B, KiB, MiB, GiB).\n.BR pulsegate\\-check (1)\nreports every fault of a file at once.\n.SH KEYS\n"
    );
    Keys { schema: &schema, told: BTreeSet::new(), page: &mut page }.table("", &schema);
    page.push_str(".SH FILES\n/etc/pulsegate/pulsegate.toml\n.SH SEE ALSO\n.BR pulsegate (1)\n");
    page
}

/// Writes one table after the other, each once.
struct Keys<'a> {
    schema: &'a Value,
    told: BTreeSet<&'a str>,
    page: &'a mut String,
}

impl<'a> Keys<'a> {
    fn table(&mut self, name: &str, table: &'a Value) {
        let mut below = Vec::new();
        for (key, about) in table["properties"].as_object().into_iter().flatten() {
            let (inner, brackets) = self.inner(about);
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            match inner {
                Some(inner) => below.push((name, brackets, about, inner)),
                None => self.key(key, about, table),
            }
        }
        for (name, (open, close), about, inner) in below {
            let title = format!("{open}{name}{close}");
            writeln!(self.page, ".SS {}\n{}", escaped(&title), text(about)).expect("a string");
            if self.told.insert(inner) {
                self.table(&name, &self.schema["$defs"][inner]);
            } else {
                self.page.push_str("The keys are the same as above.\n");
            }
        }
    }

    fn key(&mut self, key: &str, about: &Value, table: &Value) {
        let page = &mut *self.page;
        let required = table["required"].as_array().is_some_and(|all| all.iter().any(|k| k == key));
        let default = match (&about["default"], required) {
            (Value::Null, true) => " (required)".to_owned(),
            (Value::Null, false) => String::new(),
            (value, _) => format!(" = {value}"),
        };
        writeln!(page, ".TP\n.B {}{}\n{}", escaped(key), escaped(&default), text(about))
            .expect("a string");
        let choices =
            self.named(about).and_then(|name| self.schema["$defs"][name]["oneOf"].as_array());
        for choice in choices.into_iter().flatten() {
            if let Some(word) = choice["const"].as_str() {
                let what = text(choice);
                writeln!(self.page, ".br\n\\(dq{}\\(dq: {what}", escaped(word)).expect("a string");
            }
        }
    }

    /// Returns the table that a key holds, and the brackets around its name.
    fn inner(&self, about: &'a Value) -> (Option<&'a str>, (&'static str, &'static str)) {
        let many = &about["items"];
        let each = &about["additionalProperties"];
        let (holder, brackets) = match (many.is_object(), each.is_object()) {
            (true, _) => (many, ("[[", "]]")),
            (_, true) => (each, ("[", ".*]")),
            (false, false) => (about, ("[", "]")),
        };
        let has_keys = |name: &&str| self.schema["$defs"][*name]["properties"].is_object();
        let table = self.named(holder).filter(has_keys);
        (table, brackets)
    }

    fn named(&self, about: &'a Value) -> Option<&'a str> {
        let direct = about["$ref"].as_str();
        let either = || about["anyOf"].as_array()?.iter().find_map(|one| one["$ref"].as_str());
        direct.or_else(either)?.strip_prefix("#/$defs/")
    }
}

fn text(about: &Value) -> String {
    escaped(about["description"].as_str().expect("every key is described"))
}

/// Escapes characters with a meaning in troff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    let text = text.replace('`', "").replace('\n', " ");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let temporary = tempfile::tempdir().unwrap();
        let asked = std::env::var_os("PULSEGATE_PAGES").map(std::path::PathBuf::from);
        let directory = asked.unwrap_or_else(|| temporary.path().to_owned());

        write(&directory).unwrap();

        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{command} is not described");
            let page = directory.join(format!("man/pulsegate-{}.1", command.get_name()));
            let page = std::fs::read_to_string(page).unwrap();
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(page.contains(&escaped(&format!("--{option}"))), "--{option}:\n{page}");
            }
        }
        for file in ["pulsegate.bash", "_pulsegate", "pulsegate.fish", "man/pulsegate.1"] {
            let text = std::fs::read_to_string(directory.join(file)).unwrap();
            assert!(text.contains("replay"), "{file}");
        }
    }

    #[test]
    fn every_table_of_the_configuration_is_in_its_page() {
        let page = configuration();

        for title in
            ["[identity]", "[[heart_rate]]", "[[rule.limits]]", "[lid.visit]", "[publish.*]"]
        {
            assert!(page.contains(&format!(".SS {title}\n")), "{title} is missing:\n{page}");
        }
        assert!(page.contains(".B thing (required)\n"), "{page}");
        assert!(page.contains(".B commit_interval = \\(dq1s\\(dq\n"), "{page}");
    }
}
