//! Delivery while the records in the file cannot be read, and after: filters, and sources that are withheld.

use pulsegate_core::filter::FilterSpec;
use pulsegate_core::time::Wall;

use super::*;

const LANE: Lane = Lane::Readings;

/// A unit whose options were changed.
fn unit(change: impl FnOnce(&mut Formats)) -> Unit {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path().join("pulsegate.db"));
    let mut formats = Formats::clone(&options.formats);
    change(&mut formats);
    options.formats = Arc::new(formats);
    Unit { writer: writer_of(options), folder }
}

impl Unit {
    /// Appends readings of 10 s each, from a time in seconds on.
    fn append_from(&mut self, seconds: i64, count: i64) {
        let source = self.writer.sources.intern(Source::new("7", "heart_rate").unwrap()).unwrap();
        let reading = |number| Reading {
            source,
            mono: self.writer.now(),
            time: Some(Wall((seconds + 10 * number) * 1_000)),
            value: Value::Number(70.0),
            detail: None,
        };
        let gathered = (0..count).map(reading).collect();
        self.writer.append(gathered, None);
        self.writer.urgent = true;
        settle(&mut self.writer);
    }
}

#[tokio::test]
async fn means_of_the_time_before_the_file_failed_are_published_when_it_is_back() {
    let every = Some(Duration::from_secs(60));
    let filter = FilterSpec { mean_every: every, ..FilterSpec::default() };
    let mut unit = unit(|formats| formats.filters.readings = filter);
    unit.append_from(0, 60);
    unit.fail();
    assert!(unit.take(LANE, Seq(0)).1.is_empty());
    unit.append_from(7_200, 30);
    assert_eq!(unit.take(LANE, Seq(60)).1.len(), 4, "of five periods, one is not over");

    unit.mend();

    let means = unit.take(LANE, unit.pass().watermarks[LANE.index()]).1;
    assert_eq!(means.len(), 10 + 4, "{means:?}");
}
