//! Renders the text of a visit for people, from a template with placeholders.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::Wall;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTemplate {
    parts: Vec<ReportPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ReportPart {
    Text(String),
    Word(Placeholder, usize),
}

/// The value in place of a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Source,
    Openings,
    Units,
    Unit,
    Seconds,
    Minutes,
    Start,
    End,
    StartDate,
    EndDate,
}

/// All placeholders, each with its number of decimals unless the template gives another.
const WORDS: [(&str, Placeholder, usize); 10] = [
    ("source", Placeholder::Source, 0),
    ("openings", Placeholder::Openings, 0),
    ("units", Placeholder::Units, 1),
    ("unit", Placeholder::Unit, 0),
    ("seconds", Placeholder::Seconds, 1),
    ("minutes", Placeholder::Minutes, 2),
    ("start", Placeholder::Start, 0),
    ("end", Placeholder::End, 0),
    ("start_date", Placeholder::StartDate, 0),
    ("end_date", Placeholder::EndDate, 0),
];
/// The most decimals: further ones have no meaning.
const MAX_DECIMALS: usize = 9;

/// A reason for which a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportFault {
    /// The placeholder does not exist.
    #[error("unknown placeholder `{{{0}}}`")]
    Unknown(String),
    /// The placeholder is no number but has decimals, or the decimals are no number up to 9.
    #[error("`{{{0}}}` cannot have these decimals")]
    Decimals(String),
    /// A brace has no partner.
    #[error("a brace without its partner")]
    Unbalanced,
}

/// The facts of a visit, for a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts<'a> {
    /// The id of the source.
    pub source: &'a str,
    /// The number of openings.
    pub openings: u32,
    /// The units taken.
    pub units: f64,
    /// The word for the units; empty if there is no word.
    pub unit: &'a str,
    /// The time of the first opening.
    pub start: Wall,
    /// The time of the last opening.
    pub end: Wall,
}

impl Facts<'_> {
    /// Returns the seconds from the first opening to the last.
    #[must_use]
    pub fn duration_seconds(&self) -> f64 {
        let milliseconds = self.end.0.saturating_sub(self.start.0).max(0);
        std::time::Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).as_secs_f64()
    }
}

impl ReportTemplate {
    /// Parses a template: text with placeholders such as `{units}`, or `{units:2}` for two
    /// decimals.
    ///
    /// # Errors
    /// Returns the first unknown placeholder, wrong number of decimals or brace without a partner.
    pub fn from_text(text: &str) -> Result<Self, ReportFault> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').ok_or(ReportFault::Unbalanced)?;
            parts.push(ReportPart::Text(check_braces(before)?));
            parts.push(parse_placeholder(word)?);
            rest = after;
        }
        parts.push(ReportPart::Text(check_braces(rest)?));
        Ok(Self { parts })
    }

    /// Returns the names of all placeholders.
    #[must_use]
    pub fn placeholder_names() -> Vec<&'static str> {
        WORDS.iter().map(|(name, ..)| *name).collect()
    }

    /// Fills in the template; times are given in `zone`.
    #[must_use]
    pub fn render_visit(&self, facts: &Facts<'_>, zone: &TimeZone) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                ReportPart::Text(literal) => text.push_str(literal),
                ReportPart::Word(word, decimals) => {
                    text.push_str(&word.render_value(*decimals, facts, zone))
                }
            }
        }
        text
    }
}

impl Placeholder {
    fn is_number(self) -> bool {
        matches!(self, Self::Units | Self::Seconds | Self::Minutes)
    }

    fn render_value(self, decimals: usize, facts: &Facts<'_>, zone: &TimeZone) -> String {
        let clock = "%H:%M:%S %Z";
        let date = "%Y-%m-%d";
        match self {
            Self::Source => facts.source.to_owned(),
            Self::Openings => facts.openings.to_string(),
            Self::Unit => facts.unit.to_owned(),
            Self::Units => format!("{:.decimals$}", facts.units),
            Self::Seconds => format!("{:.decimals$}", facts.duration_seconds()),
            Self::Minutes => format!("{:.decimals$}", facts.duration_seconds() / 60.0),
            Self::Start => format_time(facts.start, zone, clock),
            Self::End => format_time(facts.end, zone, clock),
            Self::StartDate => format_time(facts.start, zone, date),
            Self::EndDate => format_time(facts.end, zone, date),
        }
    }
}

fn parse_placeholder(text: &str) -> Result<ReportPart, ReportFault> {
    let (name, decimals) = match text.split_once(':') {
        Some((name, decimals)) => (name, Some(decimals)),
        None => (text, None),
    };
    let known = WORDS.iter().find(|(known, ..)| *known == name);
    let (_, word, usual) = *known.ok_or_else(|| ReportFault::Unknown(name.to_owned()))?;
    let decimals = match decimals {
        None => usual,
        Some(decimals) => decimals
            .parse()
            .ok()
            .filter(|decimals| word.is_number() && *decimals <= MAX_DECIMALS)
            .ok_or_else(|| ReportFault::Decimals(text.to_owned()))?,
    };
    Ok(ReportPart::Word(word, decimals))
}

fn check_braces(text: &str) -> Result<String, ReportFault> {
    if text.contains('}') { Err(ReportFault::Unbalanced) } else { Ok(text.to_owned()) }
}

fn format_time(time: Wall, zone: &TimeZone, format: &str) -> String {
    let timestamp = Timestamp::from_millisecond(time.0).unwrap_or_default();
    timestamp.to_zoned(zone.clone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUIRREL: &str = "Squirrel chowed down on {units} {unit} for {minutes} min at {end}. \
        An #IoT project to predict how cold it’ll be next winter. #ThingSpeak";

    /// 2016-10-09T12:53:18 in Berlin.
    const END: i64 = 1_476_010_398_000;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").expect("the system knows time zones")
    }

    fn facts(units: f64, milliseconds: i64) -> Facts<'static> {
        let (start, end) = (Wall(END - milliseconds), Wall(END));
        Facts { source: "feeder", openings: 10, units, unit: "nuts", start, end }
    }

    #[test]
    fn the_squirrel_is_reported_byte_for_byte() {
        let report = ReportTemplate::from_text(SQUIRREL).unwrap();

        assert_eq!(
            report.render_visit(&facts(5.0, 189_600), &berlin()),
            "Squirrel chowed down on 5.0 nuts for 3.16 min at 12:53:18 CEST. An #IoT project to \
             predict how cold it’ll be next winter. #ThingSpeak"
        );
        let longer = report.render_visit(&facts(4.5, 396_000), &berlin());
        assert!(longer.contains("4.5 nuts for 6.60 min at"), "{longer}");
    }

    #[test]
    fn decimals_the_start_and_dates_can_be_chosen() {
        let text = "{source} {openings} {units:2} {seconds:0} {start} {start_date} {end_date}";
        let report = ReportTemplate::from_text(text).unwrap();

        assert_eq!(
            report.render_visit(&facts(1.25, 61_000), &TimeZone::UTC),
            "feeder 10 1.25 61 10:52:17 UTC 2016-10-09 2016-10-09"
        );
    }

    #[test]
    fn every_placeholder_is_known_and_no_other() {
        for word in ReportTemplate::placeholder_names() {
            assert!(ReportTemplate::from_text(&format!("{{{word}}}")).is_ok(), "{word}");
        }
        for (text, fault) in [
            ("{minuets}", ReportFault::Unknown("minuets".into())),
            ("{}", ReportFault::Unknown(String::new())),
            ("{unit:1}", ReportFault::Decimals("unit:1".into())),
            ("{units:10}", ReportFault::Decimals("units:10".into())),
            ("{units:-1}", ReportFault::Decimals("units:-1".into())),
            ("{units", ReportFault::Unbalanced),
            ("units}", ReportFault::Unbalanced),
            ("{units}}", ReportFault::Unbalanced),
        ] {
            assert_eq!(ReportTemplate::from_text(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn times_that_no_calendar_has_do_no_harm() {
        let report = ReportTemplate::from_text("{start} {seconds}").unwrap();
        let mut wild = facts(1.0, 0);
        (wild.start, wild.end) = (Wall(i64::MAX), Wall(i64::MIN));

        assert!(report.render_visit(&wild, &berlin()).ends_with(" 0.0"));
    }
}
