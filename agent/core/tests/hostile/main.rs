//! Hostile text for all parsers of the core: topics, templates, record ids and stored events.
//!
//! Each file of `corpus/` has valid inputs, one per line. Every run also parses edited copies of
//! the lines, random text, and each line repeated to 128 KiB: a parser slower than linear would not
//! end in time. A text that makes a parser fail is added to the file of the parser.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use pulsegate_core::cloud::topic::{Limits, Open, Template, check_topic};
use pulsegate_core::record::event::{Event, GapMembers, VisitMembers};
use pulsegate_core::record::id::RecordId;
use pulsegate_core::time::Wall;
use pulsegate_core::visits::{Facts, ReportTemplate};

const TOPICS: &str = include_str!("corpus/topics.txt");
const RECORD_IDS: &str = include_str!("corpus/record_ids.txt");
const REPORTS: &str = include_str!("corpus/reports.txt");
const EVENTS: &str = include_str!("corpus/events.txt");
/// Texts likely to break parsers: the limits of grammars, numbers and texts.
const NASTY: &[&str] = &[
    "",
    "{",
    "}",
    "{}",
    "{{",
    "\"",
    "\\",
    "\\u0000",
    "\0",
    "\u{feff}",
    "\u{1F9A8}",
    "-",
    "--",
    "+",
    "#",
    "/",
    "$",
    "$aws/rules/",
    ":",
    ":99999999999999999999",
    "18446744073709551616",
    "4294967296",
    "-1",
    "1e999",
    "null",
    "[",
    "]",
    ",",
    "\":",
    "\n",
];
/// The length of a long text in bytes: longer than any valid topic, template, id or event.
const LONG_BYTES: usize = 1 << 17;

/// Replaces some characters of a text: each edit gives a place, the number of characters to remove,
/// and the text to insert.
fn edited(text: &str, edits: &[(Index, usize, String)]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (place, length, with) in edits {
        let start = place.index(text.len() + 1);
        let end = (start + length).min(text.len());
        text.splice(start..end, with.chars());
    }
    text.into_iter().collect()
}

/// Generates lines of a corpus with up to four edits, and arbitrary text.
fn hostile(corpus: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = corpus.lines().collect();
    let put =
        prop_oneof![3 => proptest::sample::select(NASTY).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    let edits = vec((any::<Index>(), 0..6_usize, put), 0..5);
    let near =
        (proptest::sample::select(lines), edits).prop_map(|(line, edits)| edited(line, &edits));
    prop_oneof![4 => near, 1 => any::<String>()]
}

/// Returns `line`, repeated to [`LONG_BYTES`].
fn long(line: &str) -> String {
    line.repeat(LONG_BYTES / line.len().max(1))
}

fn read_topic(text: &str) {
    for open in [Open { source: true, kind: true }, Open { source: false, kind: false }] {
        let Ok(template) = Template::for_thing(text, "pi-1", open) else { continue };
        let topic = template.fill_in("7", "heart_rate");
        for limits in [Limits::Aws, Limits::Mqtt] {
            if check_topic(&topic, limits).is_ok() {
                assert!(!topic.is_empty() && topic.len() <= 65_535, "{text:?}");
                assert!(!topic.contains(['+', '#', '\0']), "{text:?}");
            }
        }
        if !text.contains('{') {
            assert_eq!(topic, text, "nothing is filled in");
        }
    }
}

fn read_record_id(text: &str) {
    if let Ok(id) = text.parse::<RecordId>() {
        assert_eq!(id.to_string().parse(), Ok(id), "{text:?}");
        let mut written = Vec::new();
        id.write_to(&mut written);
        assert_eq!(written, id.to_string().into_bytes(), "{text:?}");
    }
}

fn read_report(text: &str) {
    let Ok(report) = ReportTemplate::from_text(text) else { return };
    for end in [Wall(0), Wall(i64::MIN), Wall(i64::MAX)] {
        let start = Wall(1_795_000_000_000);
        let (openings, units) = (u32::MAX, f64::MAX);
        let facts = Facts { source: "{units}", openings, units, unit: "", start, end };
        let told = report.render_visit(&facts, &jiff::tz::TimeZone::UTC);
        if !text.contains('{') {
            assert_eq!(told, text, "nothing is filled in");
        }
    }
}

fn read_event(line: &str) {
    let (word, members) = line.split_once(' ').unwrap_or((line, ""));
    let event = Event::from_text(word, members);
    // As members of their own, a second tag is one more unknown member.
    if !members.contains("event") {
        let of_event = match &event {
            Some(Event::Visit(visit) | Event::Live(visit)) => Some(visit.clone()),
            _ => None,
        };
        assert_eq!(VisitMembers::from_text(word, members), of_event, "{line:?}");
        if let Some(Event::Gap(gap)) = &event {
            assert_eq!(GapMembers::from_members(members).as_ref(), Some(gap), "{line:?}");
        }
    }
    if let Some(event) = event {
        // A number of more than 15 digits may lose the last digits, so the event may differ.
        let written = event.to_text();
        let again = Event::from_text(&written.word, &written.members);
        let same =
            again.as_ref().map(std::mem::discriminant) == Some(std::mem::discriminant(&event));
        assert!(same, "{line:?} comes back as {again:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_topic_is_taken_or_refused(text in hostile(TOPICS)) {
        read_topic(&text);
    }

    #[test]
    fn any_record_id_that_is_read_is_written_so(text in hostile(RECORD_IDS)) {
        read_record_id(&text);
    }

    #[test]
    fn any_report_is_filled_in_or_refused(text in hostile(REPORTS)) {
        read_report(&text);
    }

    #[test]
    fn any_stored_event_that_is_read_can_be_read_again(line in hostile(EVENTS)) {
        read_event(&line);
    }
}

#[test]
fn every_line_of_the_corpus_is_valid() {
    for line in TOPICS.lines() {
        let template = Template::for_thing(line, "pi-1", Open { source: true, kind: true });
        let topic = template.expect(line).fill_in("7", "heart_rate");
        assert_eq!(check_topic(&topic, Limits::Mqtt), Ok(()), "{line}");
    }
    RECORD_IDS.lines().for_each(|line| assert!(line.parse::<RecordId>().is_ok(), "{line}"));
    REPORTS.lines().for_each(|line| assert!(ReportTemplate::from_text(line).is_ok(), "{line}"));
    for line in EVENTS.lines() {
        let (word, members) = line.split_once(' ').unwrap_or((line, ""));
        assert!(Event::from_text(word, members).is_some(), "{line}");
    }
}

#[test]
fn what_is_far_too_long_is_read_to_its_end() {
    let with_nasty = |corpus: &'static str| corpus.lines().chain(NASTY.iter().copied()).map(long);

    with_nasty(TOPICS).for_each(|text| read_topic(&text));
    with_nasty(RECORD_IDS).for_each(|text| read_record_id(&text));
    with_nasty(REPORTS).for_each(|text| read_report(&text));
    with_nasty(EVENTS).for_each(|text| read_event(&text));
}
