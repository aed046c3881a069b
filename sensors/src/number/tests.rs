#![expect(clippy::disallowed_methods, reason = "the files here stand for sysfs")]

use std::fs;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::*;
use crate::{Observation, SourceId};

const EVERY: Duration = Duration::from_secs(10);
/// Half a period before a point of the grid.
const START_MS: i64 = 1_795_168_795_000;

fn number(path: &Path) -> NumberFile {
    NumberFile { path: path.to_owned(), scale: 0.001, offset: 0.0, every: EVERY }
}

fn value(text: &str) -> Result<f64, NoReading> {
    number(Path::new("temperature")).value(text.as_bytes())
}

/// A file, and what its driver sends, under a paused clock that runs while nothing else does.
struct Rig {
    dir: TempDir,
    observations: mpsc::Receiver<Observation>,
    began: Instant,
}

impl Rig {
    fn new(content: Option<&str>) -> (Self, impl Future<Output = ()>) {
        let dir = tempfile::tempdir().unwrap();
        let (sender, observations) = mpsc::channel(1);
        let began = Instant::now();
        let rig = Self { dir, observations, began };
        content.inspect(|content| rig.write(content));
        let wall_ms = move || START_MS + i64::try_from(began.elapsed().as_millis()).unwrap();
        let watching = watch(number(&rig.path()), Outlet::new(SourceId(1), sender), wall_ms);
        (rig, watching)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("temperature")
    }

    fn write(&self, content: &str) {
        fs::write(self.path(), content).unwrap();
    }

    async fn next(&mut self) -> (Duration, Result<Measurement, NoReading>) {
        let observation = timeout(10 * EVERY, self.observations.recv()).await;
        let observation = observation.expect("nothing in ten periods").expect("the driver runs");
        (self.began.elapsed(), observation.outcome)
    }
}

#[test]
fn numbers_are_scaled_without_binary_dust() {
    assert_eq!(value("21562\n"), Ok(21.562));
    assert_eq!(value("-1250\n"), Ok(-1.25));
    assert_eq!(value("  85000 m°C"), Ok(85.0));
    assert_eq!(value("1.5e3"), Ok(1.5));
    for raw in -55_000_i32..125_000 {
        let text = format!("{}", scaled(f64::from(raw), 0.001));
        assert!(text.len() <= 7, "{text}");
    }
}

#[test]
fn an_offset_is_added_after_scaling() {
    let path = PathBuf::from("in_temp_raw");
    let number = NumberFile { path, scale: 0.0625, offset: -273.15, every: EVERY };

    assert_eq!(number.value(b"4370"), Ok(4370.0 * 0.0625 - 273.15));
}

#[test]
fn what_is_not_a_finite_number_is_garbage() {
    for text in ["", " \n", "YES", "t=21562", "21,5", "NaN", "inf", "-infinity", "1e999", "0x12"] {
        assert!(matches!(value(text), Err(NoReading::Garbage(_))), "{text:?}");
    }
    let number = number(Path::new("temperature"));
    assert!(matches!(number.value(&[0xff, 0xfe, b'1']), Err(NoReading::Garbage(_))));
    let overflowing = NumberFile { scale: 1e300, ..number };
    assert!(matches!(overflowing.value(b"1e300"), Err(NoReading::Garbage(_))));
}

#[test]
fn more_than_a_page_is_garbage_and_a_reason_is_short() {
    let long = value(&format!("1{}", " ".repeat(4096)));
    let wordy = value(&"x".repeat(4096));

    assert_eq!(long, Err(NoReading::Garbage("more than 4096 bytes".to_owned())));
    assert_eq!(wordy, Err(NoReading::Garbage(format!("{:?}", "x".repeat(40)))));
    assert_eq!(value(&format!("1{}", " ".repeat(4095))), Ok(0.001));
}

#[tokio::test(start_paused = true)]
async fn a_number_is_read_on_the_grid_of_its_period() {
    let (mut rig, watching) = Rig::new(Some("21562\n"));
    let reading = async {
        for n in 0..3 {
            let (at, outcome) = rig.next().await;
            assert_eq!(outcome, Ok(Measurement::Number(21.562)));
            assert!(at.abs_diff(Duration::from_secs(5) + n * EVERY) < Duration::from_millis(20));
        }
    };

    tokio::select! { () = watching => panic!("the outlet is open"), () = reading => {} }
}

#[tokio::test(start_paused = true)]
async fn a_lost_file_is_told_once_and_so_is_its_return() {
    let (mut rig, watching) = Rig::new(None);
    let reading = async {
        let (_, first) = rig.next().await;
        assert!(matches!(first, Err(NoReading::Absent(_))), "{first:?}");

        let quiet = timeout(3 * EVERY, rig.observations.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");

        rig.write("1000");
        assert_eq!(rig.next().await.1, Ok(Measurement::Number(1.0)));
        rig.write("crc=00 NO");
        while let (_, Ok(_)) = rig.next().await {}
        rig.write("2000");
        assert_eq!(rig.next().await.1, Ok(Measurement::Number(2.0)));
    };

    tokio::select! { () = watching => panic!("the outlet is open"), () = reading => {} }
}

#[tokio::test(start_paused = true)]
async fn a_driver_ends_when_nobody_listens() {
    let (rig, watching) = Rig::new(Some("1"));
    drop(rig.observations);

    timeout(2 * EVERY, watching).await.expect("the driver ends");
}

#[tokio::test]
async fn what_cannot_be_read_failed() {
    let dir = tempfile::tempdir().unwrap();

    let outcome = Reader::new(dir.path(), EVERY).read().await;

    assert!(matches!(outcome, Err(NoReading::Failed(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_hung_read_is_silence_and_holds_back_every_other_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("temperature");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut reader = Reader::new(&fifo, EVERY);
    reader.patience = Duration::from_millis(20);

    assert_eq!(reader.read().await, Err(NoReading::Silent { seconds: 0 }));
    reader.patience = EVERY;
    let again = timeout(EVERY / 2, reader.read()).await;
    fs::write(&fifo, "7").unwrap();
    fs::remove_file(&fifo).unwrap();
    fs::write(&fifo, "8").unwrap();
    let deadline = Instant::now() + EVERY;
    let after = loop {
        match reader.read().await {
            Err(NoReading::Silent { .. }) if Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            outcome => break outcome,
        }
    };

    assert_eq!(again.expect("no second read is begun"), Err(NoReading::Silent { seconds: 10 }));
    assert_eq!(after, Ok(b"8".to_vec()));
}

#[test]
fn patience_is_the_period_within_reason() {
    for (every, patience) in [(1, 2), (10, 10), (3_600, 30)] {
        let reader = Reader::new(Path::new("temperature"), Duration::from_secs(every));
        assert_eq!(reader.patience, Duration::from_secs(patience));
    }
}
