//! A chart of a rule and a source for a terminal: values over time as dots, thresholds as lines,
//! and below them the times of raised and cleared alerts.
//!
//! Written by hand in a hundred and fifty lines: the crates for charts draw more, and none marks
//! spans.

use pulsegate_core::cloud::record_text::ClockText;
use pulsegate_core::time::Wall;

use crate::replay::Curve;

/// Lines of the plot.
const ROWS: usize = 12;
/// Columns for the labels on the left.
const LABEL: usize = 10;
/// Bits of the two by four dots of a character, by column and row (Unicode 16, Braille Patterns).
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The content of a chart.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) curve: &'a Curve,
    pub(super) thresholds: Vec<f64>,
    /// Times of raised (`true`) and cleared alerts, in order.
    pub(super) turns: Vec<(Wall, bool)>,
}

/// The space for a chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paper {
    /// In characters.
    pub(super) width: usize,
    pub(super) is_coloured: bool,
}

/// A chart with its scale.
struct Plot<'a> {
    chart: &'a Chart<'a>,
    columns: usize,
    from: Wall,
    span_ms: i64,
    low: f64,
    high: f64,
}

impl Chart<'_> {
    /// Returns the lines of the chart.
    pub(super) fn draw_chart(&self, paper: Paper) -> String {
        let mut out = format!("{}\n", self.title);
        let Some(plot) = Plot::fit_chart(self, paper.width.saturating_sub(LABEL + 1).max(20))
        else {
            return out + "nothing was asked\n";
        };
        let (cells, raised) = (plot.draw_dots(), plot.raised_columns());
        for (row, cells) in cells.chunks(plot.columns).enumerate() {
            let threshold = self.thresholds.iter().find(|value| plot.row_of(**value) == Some(row));
            let mut pen = Pen { out: &mut out, is_coloured: paper.is_coloured, colour: "" };
            let label = match threshold {
                Some(value) => format_label(*value),
                None if row == 0 => format_label(plot.high),
                None if row + 1 == ROWS => format_label(plot.low),
                None => String::new(),
            };
            pen.write_coloured("", &format!("{label:>LABEL$} "));
            for (cell, raised) in cells.iter().zip(&raised) {
                match (cell, threshold) {
                    (0, None) => pen.write_coloured("", " "),
                    (0, Some(_)) => pen.write_coloured(YELLOW, "\u{2504}"),
                    (dots, _) => {
                        let dots = char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ');
                        pen.write_coloured(
                            if *raised { RED } else { "" },
                            dots.encode_utf8(&mut [0; 4]),
                        );
                    }
                }
            }
            pen.end_line();
        }
        plot.draw_marks(
            &raised,
            &mut Pen { out: &mut out, is_coloured: paper.is_coloured, colour: "" },
        );
        plot.draw_times(&mut out);
        out
    }
}

impl<'a> Plot<'a> {
    fn fit_chart(chart: &'a Chart<'a>, columns: usize) -> Option<Self> {
        let values = &chart.curve.values;
        let least = values.iter().map(|(_, least, _)| *least).min_by(f64::total_cmp)?;
        let greatest = values.iter().map(|(_, _, greatest)| *greatest).max_by(f64::total_cmp)?;
        // A distant threshold would flatten the curve.
        let reach = (greatest - least).max(greatest.abs() / 2.0);
        let near = |value: &&f64| (least - reach..=greatest + reach).contains(*value);
        let shown = || chart.thresholds.iter().filter(near).copied();
        let (low, high) = (shown().fold(least, f64::min), shown().fold(greatest, f64::max));
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, high + 1.0) };
        let times =
            values.iter().map(|(time, ..)| *time).chain(chart.turns.iter().map(|turn| turn.0));
        let (from, to) = (times.clone().min()?, times.max()?);
        let span_ms = to.0.saturating_sub(from.0).max(1);
        Some(Self { chart, columns, from, span_ms, low, high })
    }

    /// Divides the time into `count` equal parts, and returns the index of the part with `time`.
    fn time_part(&self, time: Wall, count: usize) -> usize {
        let past = i128::from(time.0.saturating_sub(self.from.0).max(0));
        let part = past * i128::try_from(count).unwrap_or(0) / (i128::from(self.span_ms) + 1);
        usize::try_from(part).unwrap_or(0).min(count - 1)
    }

    /// Returns the number of dots between the top and a value.
    fn dot_depth(&self, value: f64) -> usize {
        // Halves, since the difference of two finite numbers may overflow.
        let share = (self.high / 2.0 - value / 2.0) / (self.high / 2.0 - self.low / 2.0);
        let last = u32::try_from(ROWS * 4 - 1).unwrap_or(0);
        let reached = (0..last).take_while(|dot| f64::from(*dot) + 0.5 < share * f64::from(last));
        reached.count()
    }

    fn row_of(&self, threshold: f64) -> Option<usize> {
        (self.low..=self.high).contains(&threshold).then(|| self.dot_depth(threshold) / 4)
    }

    /// Returns the dots of each character, line by line. Values are joined over at most an eighth
    /// of the time.
    fn draw_dots(&self) -> Vec<u8> {
        let mut cells = vec![0; self.columns * ROWS];
        let mut put =
            |x: usize, y: usize| cells[y / 4 * self.columns + x / 2] |= DOTS[x % 2][y % 4];
        let mut before: Option<(usize, usize)> = None;
        for (time, least, greatest) in &self.chart.curve.values {
            let x = self.time_part(*time, self.columns * 2);
            let (top, bottom) = (self.dot_depth(*greatest), self.dot_depth(*least));
            (top..=bottom).for_each(|y| put(x, y));
            if let Some((from, start)) = before.filter(|(from, _)| x - from <= self.columns / 4) {
                let (mut y, end) = (start, start.clamp(top, bottom));
                for at in from..=x {
                    let next = interpolate_depth((from, start), (x, end), at);
                    (y.min(next)..=y.max(next)).for_each(|y| put(at, y));
                    y = next;
                }
            }
            before = Some((x, bottom));
        }
        cells
    }

    /// Returns for each column whether the alert is raised during any part of its time.
    fn raised_columns(&self) -> Vec<bool> {
        let mut raised = vec![false; self.columns];
        let turns = &self.chart.turns;
        let mut since = turns.first().filter(|(_, is_raised)| !is_raised).map(|_| 0);
        for (time, is_raised) in turns {
            let column = self.time_part(*time, self.columns);
            match since.take() {
                Some(since) if !is_raised => raised[since..=column].fill(true),
                before if *is_raised => since = before.or(Some(column)),
                _ => {}
            }
        }
        if let Some(since) = since {
            raised[since..].fill(true);
        }
        raised
    }

    fn draw_marks(&self, raised: &[bool], pen: &mut Pen<'_>) {
        let mut marks: Vec<char> =
            raised.iter().map(|raised| if *raised { '\u{2501}' } else { ' ' }).collect();
        for (time, is_raised) in &self.chart.turns {
            let mark = &mut marks[self.time_part(*time, self.columns)];
            *mark = match (*is_raised, *mark) {
                (true, '\u{25bd}' | '\u{25c6}') | (false, '\u{25b2}' | '\u{25c6}') => '\u{25c6}',
                (true, _) => '\u{25b2}',
                (false, _) => '\u{25bd}',
            };
        }
        pen.write_coloured("", &format!("{:>LABEL$} ", "alerts"));
        pen.write_coloured(RED, &marks.iter().collect::<String>());
        pen.end_line();
    }

    fn draw_times(&self, out: &mut String) {
        let (from, to) = (
            ClockText::format_time(self.from),
            ClockText::format_time(self.from + self.time_span()),
        );
        let room = self.columns.saturating_sub(from.len());
        let line = if room > to.len() { format!("{from}{to:>room$}") } else { from };
        out.push_str(&format!("{:>LABEL$} {line}\n", ""));
    }

    fn time_span(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.span_ms).unwrap_or(0))
    }
}

/// Returns the depth at `x` of a straight line between two dots.
fn interpolate_depth((from, start): (usize, usize), (to, end): (usize, usize), x: usize) -> usize {
    let (past, length) = (x - from, (to - from).max(1));
    if end >= start {
        start + (end - start) * past / length
    } else {
        start - (start - end) * past / length
    }
}

/// Writes lines. Emits an escape sequence only where the colour changes.
struct Pen<'a> {
    out: &'a mut String,
    is_coloured: bool,
    colour: &'static str,
}

impl Pen<'_> {
    fn write_coloured(&mut self, colour: &'static str, text: &str) {
        if self.is_coloured && colour != self.colour {
            self.out.push_str(if colour.is_empty() { PLAIN } else { colour });
            self.colour = colour;
        }
        self.out.push_str(text);
    }

    fn end_line(&mut self) {
        self.write_coloured("", "");
        let blank = self.out.trim_end_matches(' ').len();
        self.out.truncate(blank);
        self.out.push('\n');
    }
}

/// Formats a number to fit into a label.
fn format_label(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    let plain = format!("{}", if rounded.is_finite() { rounded } else { value });
    if plain.len() <= LABEL { plain } else { format!("{value:.2e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute that climbs from 0 to 59, raised from 31 s to 45 s.
    fn ramp() -> Curve {
        let value =
            |second: i32| (Wall(i64::from(second) * 1000), f64::from(second), f64::from(second));
        Curve { source: Some("7".into()), values: (0..60).map(value).collect() }
    }

    fn drawn(curve: &Curve, thresholds: &[f64], paper: Paper) -> String {
        let turns = vec![(Wall(31_000), true), (Wall(45_000), false)];
        Chart { title: "fast: 7".into(), curve, thresholds: thresholds.to_vec(), turns }
            .draw_chart(paper)
    }

    #[test]
    fn a_curve_has_its_threshold_its_alerts_and_its_times() {
        let paper = Paper { width: 71, is_coloured: false };

        let text = drawn(&ramp(), &[30.0, 1e9], paper);

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + ROWS + 2);
        assert_eq!(lines[0], "fast: 7");
        assert!(lines[1].starts_with("        59 "), "{text}");
        assert!(lines[ROWS].starts_with("         0 "), "{text}");
        let threshold: Vec<_> = lines.iter().filter(|line| line.contains('\u{2504}')).collect();
        assert_eq!(threshold.len(), 1, "{text}");
        assert!(threshold[0].starts_with("        30 \u{2504}"), "{text}");
        let marks =
            format!("    alerts {}\u{25b2}{}\u{25bd}", " ".repeat(31), "\u{2501}".repeat(13));
        assert_eq!(lines[ROWS + 1], marks);
        assert!(lines[ROWS + 2].ends_with("1970-01-01T00:00:59.000Z"), "{text}");
    }

    #[test]
    fn it_is_as_wide_as_the_terminal_and_has_colours_only_where_they_are_wanted() {
        for width in [31, 40, 80, 240] {
            let text = drawn(&ramp(), &[30.0], Paper { width, is_coloured: false });
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest.is_some_and(|longest| longest <= width.max(35)), "{width}: {text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        let text = drawn(&ramp(), &[30.0], Paper { width: 80, is_coloured: true });
        assert!(text.contains(RED) && text.contains(YELLOW));
        assert!(text.lines().all(|line| line.rfind(PLAIN) >= line.rfind(RED)), "{text:?}");
    }

    #[test]
    fn the_greatest_numbers_have_their_labels() {
        let mut curve = ramp();
        curve.values[3] = (Wall(3_000), -1e308, 1e308);

        let text = drawn(&curve, &[30.0], Paper { width: 80, is_coloured: false });

        assert!(text.contains(" 1.00e308 ") && text.contains("-1.00e308 "), "{text}");
    }

    #[test]
    fn one_value_and_none_can_be_drawn() {
        let paper = Paper { width: 80, is_coloured: false };
        let mut curve = ramp();
        curve.values.truncate(1);
        assert_eq!(drawn(&curve, &[], paper).lines().count(), 1 + ROWS + 2);
        curve.values.clear();
        assert_eq!(drawn(&curve, &[], paper), "fast: 7\nnothing was asked\n");
    }
}
