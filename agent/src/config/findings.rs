//! Faults and warnings, shown with file, line, caret and fix.
//!
//! One mistake gives one fault: a reported place is muted, and later checks report nothing there. A
//! check may therefore go on with a stand-in for a broken value.

use crate::platform::terminal::{blank_controls, escape_text};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::places::{Place, Places};

/// A range of bytes of the file.
pub(super) type Span = Range<usize>;

/// The place of a value that is not in the file: a default or a stand-in. Always muted.
pub(super) const NOWHERE: Span = usize::MAX..usize::MAX;

/// The most findings of one file. Bounds the time for a file full of faults: each finding is drawn,
/// and compared with later ones.
const MAX_FINDINGS: usize = 1_000;
/// The longest line that is drawn, in bytes; a longer line helps nobody.
const MAX_LINE_BYTES: usize = 1_000;

/// The consequence of a finding: a file with a fault is not used, a file with warnings is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Fault,
    Warning,
}

/// A fault or a warning, with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding<P = Place> {
    class: Class,
    place: Option<P>,
    message: String,
    label: Option<String>,
    also: Option<(P, String)>,
    /// `true` if the line at the place is not shown, because it holds a forbidden text.
    veiled: bool,
    help: Option<String>,
}

impl Finding {
    /// Creates a fault, which prevents the use of the file.
    pub(super) fn fault(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..Self::of_the_file(message) }
    }

    /// Creates a warning.
    pub(super) fn warning(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self { class: Class::Warning, ..Self::fault(place, message) }
    }

    /// Sets the place.
    pub(super) fn at(self, place: impl Into<Place>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// Hides the line at the place; line and column are still shown.
    pub(super) fn veiled(self) -> Self {
        Self { veiled: true, ..self }
    }

    /// Adds a text at the caret.
    pub(super) fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Adds a second place with its text.
    pub(super) fn also(self, place: impl Into<Place>, label: impl Into<String>) -> Self {
        Self { also: Some((place.into(), label.into())), ..self }
    }

    /// Adds a text with the fix, below the lines.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Converts the places to ranges of bytes.
    fn placed(self, places: &Places) -> Finding<Span> {
        let Self { class, place, message, label, also, veiled, help } = self;
        let place = place.map(|place| places.find(&place));
        let also = also.map(|(place, label)| (places.find(&place), label));
        Finding { class, place, message, label, also, veiled, help }
    }
}

impl<P> Finding<P> {
    /// Creates a fault of the file as a whole.
    pub(super) fn of_the_file(message: impl Into<String>) -> Self {
        Self {
            class: Class::Fault,
            place: None,
            message: message.into(),
            label: None,
            also: None,
            veiled: false,
            help: None,
        }
    }
}

impl Finding<Span> {
    fn start(&self) -> usize {
        self.place.as_ref().map_or(0, |span| span.start)
    }

    /// Returns the finding with texts that contain no terminal escapes.
    fn shown(&self) -> Self {
        let plain = |text: &String| escape_text(text).into_owned();
        Self {
            message: plain(&self.message),
            label: self.label.as_ref().map(plain),
            help: self.help.as_ref().map(plain),
            also: self.also.as_ref().map(|(span, label)| (span.clone(), plain(label))),
            ..self.clone()
        }
    }

    fn draw<'a>(&'a self, path: &'a str, text: &'a str) -> Group<'a> {
        let level = match self.class {
            Class::Fault => Level::ERROR,
            Class::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let drawing = self.place.as_ref().and_then(|span| self.snippet(span, path, text));
        let mut group = match drawing {
            Some(drawing) => title.element(drawing),
            None if text.is_empty() => title.element(Origin::path(path)),
            None => {
                let (line, column) = position(text, self.start());
                title.element(Origin::path(path).line(line).char_column(column))
            }
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// Draws the lines from the first place to the last, since a file may be large. Returns `None`
    /// for a veiled finding, or if one of the lines is too long.
    fn snippet<'a>(&'a self, span: &Span, path: &'a str, text: &'a str) -> Option<Drawing<'a>> {
        if self.veiled {
            return None;
        }
        let primary = visible(text, span);
        let also = self.also.as_ref().map(|(span, label)| (visible(text, span), label));
        let (first, last) = match &also {
            Some((also, _)) => (primary.start.min(also.start), primary.end.max(also.end)),
            None => (primary.start, primary.end),
        };
        let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[last..].find('\n').map_or(text.len(), |length| last + length);
        let lines = &text[start..end];
        if lines.lines().any(|line| line.len() > MAX_LINE_BYTES) {
            return None;
        }
        let shifted = |span: &Span| span.start - start..span.end - start;

        let primary = AnnotationKind::Primary.span(shifted(&primary));
        let snippet = Snippet::source(lines)
            .line_start(position(text, start).0)
            .path(path)
            .annotation(primary.label(self.label.as_deref()));
        Some(snippet.annotations(also.map(|(span, label)| {
            AnnotationKind::Context.span(shifted(&span)).label(label.as_str())
        })))
    }
}

/// Lines with carets.
type Drawing<'a> = Snippet<'a, Annotation<'a>>;

/// Returns the part of `span` on its first line, on character boundaries.
fn visible(text: &str, span: &Span) -> Span {
    let start = boundary(text, span.start);
    let line = text[start..].find('\n').map_or(text.len(), |length| start + length);
    start..boundary(text, span.end.clamp(start, line))
}

/// Returns the first character boundary at or after `offset`.
fn boundary(text: &str, offset: usize) -> usize {
    (offset..text.len()).find(|offset| text.is_char_boundary(*offset)).unwrap_or(text.len())
}

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding<Span>>,
    muted: Vec<Span>,
    /// The places of all values of the file.
    pub(super) places: Places,
}

impl Findings {
    /// Adds a finding, unless one of its places is muted.
    pub(super) fn push(&mut self, finding: Finding) {
        let finding = finding.placed(&self.places);
        let spans = finding.place.iter().chain(finding.also.iter().map(|(span, _)| span));
        if !spans.into_iter().any(|span| self.is_muted(span)) {
            self.add(finding);
        }
    }

    /// Returns the range of bytes of the value at `path`.
    pub(super) fn span_of(&self, path: String) -> Span {
        self.places.find(&Place::Value(path))
    }

    /// Adds each finding, unless one of its places is muted.
    pub(super) fn push_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }

    /// Adds a finding of the first pass, and mutes its place, because later findings there would be
    /// its consequences.
    pub(super) fn record(&mut self, finding: Finding) {
        let finding = finding.placed(&self.places);
        self.muted.extend(finding.place.clone());
        self.add(finding);
    }

    /// Adds a finding of the first pass without muting its place.
    pub(super) fn report(&mut self, finding: Finding) {
        self.add(finding.placed(&self.places));
    }

    fn add(&mut self, finding: Finding<Span>) {
        let is_warning = |kept: &&mut Finding<Span>| kept.class == Class::Warning;
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding);
        } else if finding.class == Class::Fault
            && let Some(warning) = self.list.iter_mut().rev().find(is_warning)
        {
            // No number of warnings may hide a fault.
            *warning = finding;
        }
    }

    /// Mutes a place: later findings there are dropped.
    pub(super) fn mute(&mut self, span: Span) {
        self.muted.push(span);
    }

    /// Returns the findings after `offset`, with places counted from `offset`.
    pub(super) fn behind(self, offset: usize) -> Self {
        let moved = |span: Span| {
            (span.start >= offset).then(|| span.start - offset..span.end.max(offset) - offset)
        };
        let list = self.list.into_iter().filter_map(|finding| {
            let also = finding.also.and_then(|(span, label)| Some((moved(span)?, label)));
            match finding.place {
                Some(span) => Some(Finding { place: Some(moved(span)?), also, ..finding }),
                None => Some(Finding { also, ..finding }),
            }
        });
        Self { list: list.collect(), ..Self::default() }
    }

    fn is_muted(&self, span: &Span) -> bool {
        let holds = |muted: &Span| span.start <= muted.start && muted.end <= span.end;
        *span == NOWHERE || self.muted.iter().any(holds)
    }
}

/// All findings in one file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    path: PathBuf,
    text: String,
    findings: Vec<Finding<Span>>,
}

impl Report {
    pub(super) fn new(path: &Path, text: String, findings: Findings) -> Self {
        let mut findings = findings.list;
        findings.sort_by_key(Finding::start);
        Self { path: path.to_owned(), text, findings }
    }

    /// Adds warnings without a line, about something that the file names.
    pub(super) fn warn(&mut self, messages: impl IntoIterator<Item = String>) {
        let warning = |message| Finding { class: Class::Warning, ..Finding::of_the_file(message) };
        self.findings.extend(messages.into_iter().map(warning));
    }

    /// Returns the number of faults.
    #[must_use]
    pub(crate) fn faults(&self) -> usize {
        self.count(Class::Fault)
    }

    /// Returns the warnings in the order of the file.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let warnings = self.findings.iter().filter(|finding| finding.class == Class::Warning);
        warnings
            .map(|finding| {
                let (line, column) = position(&self.text, finding.start());
                Warning { path: self.path.clone(), line, column, message: finding.message.clone() }
            })
            .collect()
    }

    /// Draws all findings in the order of the file, and counts them in a last line.
    #[must_use]
    pub(crate) fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let path = self.path.to_string_lossy();
        // Only the renderer colours: escapes in the file are shown as text.
        let (path, text) = (escape_text(&path), blank_controls(&self.text));
        let mut drawn = String::new();
        for finding in &self.findings {
            let finding = finding.shown();
            let group = [finding.draw(&path, &text)];
            drawn += &renderer.render(&group);
            drawn += "\n\n";
        }
        let faults = match self.findings.len() {
            MAX_FINDINGS => "many faults, the first of which are above".to_owned(),
            _ => plural(self.faults(), "fault"),
        };
        match self.count(Class::Warning) {
            0 => drawn + &format!("{path}: {faults}"),
            warnings => drawn + &format!("{path}: {faults}, {}", plural(warnings, "warning")),
        }
    }

    /// Returns the findings for scripts: `{"file", "faults": [...], "warnings": [...]}`.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "file": self.path.to_string_lossy(),
            "faults": self.list(Class::Fault),
            "warnings": self.list(Class::Warning),
        })
    }

    fn list(&self, class: Class) -> Vec<Value> {
        let those = self.findings.iter().filter(|finding| finding.class == class);
        those
            .map(|finding| {
                let (line, column) = position(&self.text, finding.start());
                let fix: Vec<&str> =
                    finding.label.iter().chain(&finding.help).map(String::as_str).collect();
                json!({
                    "line": line,
                    "column": column,
                    "message": finding.message,
                    "help": (!fix.is_empty()).then(|| fix.join("; ")),
                })
            })
            .collect()
    }

    fn count(&self, class: Class) -> usize {
        self.findings.iter().filter(|finding| finding.class == class).count()
    }
}

/// Returns the line and the column, in characters, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..boundary(text, offset)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn plural(count: usize, word: &str) -> String {
    match count {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

/// The findings in a file that cannot be used. Displayed as all findings with line and caret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Faults(pub(super) Report);

impl Faults {
    /// Returns all findings, warnings included.
    #[must_use]
    pub(crate) fn report(&self) -> &Report {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.render(false))
    }
}

impl std::error::Error for Faults {}

/// A warning about a file that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The path of the file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The text.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)
    }
}
