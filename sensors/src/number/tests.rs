#![expect(clippy::disallowed_methods, reason = "the files here stand for sysfs")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::*;
use crate::{Observation, SourceId};

/// The deadline of a test: long enough for a busy machine, and reached only by a failing test.
const DEADLINE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(50);
const CLOCKS: Clocks = Clocks { wall_ms, since_boot };

fn wall_ms() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap()
}

fn number(path: &Path) -> NumberFile {
    NumberFile { path: path.to_owned(), scale: 0.001, offset: 0.0, every: EVERY }
}

fn value(text: &str) -> Result<f64, NoReading> {
    number(Path::new("temperature")).parse_value(text.as_bytes())
}

/// A folder of number files, and the observations of their drivers.
struct Rig {
    dir: TempDir,
    buses: Buses,
    sender: mpsc::Sender<Observation>,
    observations: mpsc::Receiver<Observation>,
    drivers: JoinSet<()>,
}

/// One driver.
struct Driver {
    task: AbortHandle,
    states: watch::Receiver<NumberState>,
}

impl Rig {
    /// Creates a rig in which each file has a separate bus.
    fn new() -> Self {
        Self::on(Buses::new(CLOCKS))
    }

    /// Creates a rig in which all files are on one bus.
    fn on_one_bus() -> Self {
        Self::on(Buses::found_by(|path| path.parent().unwrap().to_owned(), CLOCKS))
    }

    fn on(buses: Buses) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (sender, observations) = mpsc::channel(64);
        Self { dir, buses, sender, observations, drivers: JoinSet::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Creates a pipe in place of a file: a read hangs until the test writes to the pipe.
    fn make_pipe(&self, name: &str) -> Pipe {
        let path = self.path(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Pipe(path)
    }

    fn drive(&mut self, source: u32, name: &str) -> Driver {
        let outlet = Outlet::new(SourceId(source), self.sender.clone());
        let (state, states) = watch::channel(NumberState::default());
        let number = number(&self.path(name));
        let task = self.drivers.spawn(watch_file(number, outlet, self.buses.clone(), state));
        Driver { task, states }
    }

    async fn next(&mut self) -> Observation {
        let observation = timeout(DEADLINE, self.observations.recv()).await;
        observation.expect("nothing came").expect("the drivers run")
    }

    /// Returns the next observation of one source; observations of other sources are skipped.
    async fn next_of(&mut self, source: u32) -> Observation {
        loop {
            let observation = self.next().await;
            if observation.source == SourceId(source) {
                return observation;
            }
        }
    }
}

impl Driver {
    async fn wait_for(&mut self, what: impl FnMut(&NumberState) -> bool) -> NumberState {
        let found = timeout(DEADLINE, self.states.wait_for(what)).await;
        *found.expect("it did not get there").expect("the driver runs")
    }
}

/// A pipe in place of a file; see [`Rig::make_pipe`]. Dropping the value ends every read, so no
/// thread stays.
struct Pipe(PathBuf);

impl Pipe {
    /// Waits for a read and answers it with `content`.
    fn feed(&self, content: &'static str) -> thread::JoinHandle<()> {
        let path = self.0.clone();
        thread::spawn(move || fs::write(path, content).unwrap())
    }

    /// Waits until the pipe is being read. The read does not end before the writing end does.
    async fn hold(&self) -> fs::File {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let open = async {
            loop {
                // A pipe without a reader cannot be opened for writing.
                match fs::OpenOptions::new().write(true).custom_flags(flags).open(&self.0) {
                    Ok(held) => break held,
                    Err(_) => sleep(EVERY / 10).await,
                }
            }
        };
        timeout(DEADLINE, open).await.expect("nobody reads it")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(fs::OpenOptions::new().read(true).write(true).open(&self.0));
    }
}

async fn fed(feeding: thread::JoinHandle<()>) {
    let fed = async {
        while !feeding.is_finished() {
            sleep(EVERY / 10).await;
        }
    };
    timeout(DEADLINE, fed).await.expect("nobody read it");
}

/// Returns the number of threads of this process with this name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

#[test]
fn numbers_are_scaled_without_binary_dust() {
    assert_eq!(value("21562\n"), Ok(21.562));
    assert_eq!(value("-1250\n"), Ok(-1.25));
    assert_eq!(value("  85000 m°C"), Ok(85.0));
    assert_eq!(value("1.5e3"), Ok(1.5));
    for raw in -55_000_i32..125_000 {
        let text = format!("{}", scale_raw(f64::from(raw), 0.001));
        assert!(text.len() <= 7, "{text}");
    }
}

#[test]
fn an_offset_is_added_after_scaling() {
    let path = PathBuf::from("in_temp_raw");
    let number = NumberFile { path, scale: 0.0625, offset: -273.15, every: EVERY };

    assert_eq!(number.parse_value(b"4370"), Ok(4370.0 * 0.0625 - 273.15));
}

#[test]
fn what_is_not_a_finite_number_is_garbage() {
    for text in ["", " \n", "YES", "t=21562", "21,5", "NaN", "inf", "-infinity", "1e999", "0x12"] {
        assert!(matches!(value(text), Err(NoReading::Garbage(_))), "{text:?}");
    }
    let number = number(Path::new("temperature"));
    assert!(matches!(number.parse_value(&[0xff, 0xfe, b'1']), Err(NoReading::Garbage(_))));
    let overflowing = NumberFile { scale: 1e300, ..number };
    assert!(matches!(overflowing.parse_value(b"1e300"), Err(NoReading::Garbage(_))));
}

#[test]
fn more_than_a_page_is_garbage_and_a_reason_is_short() {
    let long = value(&format!("1{}", " ".repeat(4096)));
    let wordy = value(&"x".repeat(4096));

    assert_eq!(long, Err(NoReading::Garbage("more than 4096 bytes".to_owned())));
    assert_eq!(wordy, Err(NoReading::Garbage(format!("{:?}", "x".repeat(40)))));
    assert_eq!(value(&format!("1{}", " ".repeat(4095))), Ok(0.001));
}

#[tokio::test]
async fn a_number_has_the_time_at_which_its_read_ended() {
    let mut rig = Rig::new();
    rig.write("temperature", "21562\n");
    let before = since_boot();
    let _driver = rig.drive(1, "temperature");

    for _ in 0..3 {
        let Observation { captured, outcome, .. } = rig.next().await;
        assert_eq!(outcome, Ok(Measurement::Number(21.562)));
        assert!(captured.is_some_and(|at| before < at && at <= since_boot()), "{captured:?}");
    }
}

#[tokio::test]
async fn a_lost_file_is_told_once_for_each_reason_and_so_is_its_return() {
    let mut rig = Rig::new();
    let mut driver = rig.drive(1, "temperature");

    let first = rig.next().await.outcome;
    driver.wait_for(|state| state.reads > 3).await;
    assert!(matches!(first, Err(NoReading::Absent(_))), "{first:?}");
    assert!(rig.observations.is_empty(), "it is told once");

    rig.write("temperature", "crc=00 NO");
    assert!(matches!(rig.next().await.outcome, Err(NoReading::Garbage(_))));
    // The file is replaced as a whole: a reader never sees a part.
    rig.write("other", "2000");
    fs::rename(rig.path("other"), rig.path("temperature")).unwrap();
    assert_eq!(rig.next().await.outcome, Ok(Measurement::Number(2.0)));
}

#[tokio::test]
async fn a_driver_ends_when_nobody_listens() {
    let mut rig = Rig::new();
    rig.write("temperature", "1");
    let _driver = rig.drive(1, "temperature");
    rig.observations.close();
    while rig.observations.recv().await.is_some() {}

    let ended = timeout(DEADLINE, rig.drivers.join_next()).await.expect("the driver ends");

    assert!(ended.is_some_and(|ended| ended.is_ok()));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_failed() {
    let mut rig = Rig::new();
    fs::create_dir(rig.path("temperature")).unwrap();
    let _driver = rig.drive(1, "temperature");

    let outcome = rig.next().await.outcome;

    assert!(matches!(outcome, Err(NoReading::Failed(_))), "{outcome:?}");
}

#[tokio::test]
async fn files_that_hang_hold_up_no_other_file() {
    let mut rig = Rig::new();
    let pipes: Vec<_> = (1..=20).map(|n| rig.make_pipe(&format!("dead-{n}"))).collect();
    let drivers: Vec<_> = (1..=20).map(|n| rig.drive(n, &format!("dead-{n}"))).collect();
    rig.write("good", "7000");
    let _driver = rig.drive(0, "good");

    for _ in 0..3 {
        assert_eq!(rig.next_of(0).await.outcome, Ok(Measurement::Number(7.0)));
    }
    for mut driver in drivers {
        driver.wait_for(|state| state.hung.is_some()).await;
    }
    drop(pipes);
}

#[tokio::test]
async fn a_hung_read_is_told_and_its_value_is_kept_when_it_returns() {
    let mut rig = Rig::new();
    let pipe = rig.make_pipe("temperature");
    let mut driver = rig.drive(1, "temperature");

    let hung = rig.next().await.outcome;
    let before = since_boot();
    fed(pipe.feed("7000")).await;
    let value = rig.next().await;

    let Err(NoReading::Hung { seconds, is_another }) = hung else { panic!("{hung:?}") };
    assert!(seconds >= 2 && !is_another);
    assert_eq!(value.outcome, Ok(Measurement::Number(7.0)));
    assert!(value.captured.is_some_and(|at| at >= before), "of when it came");
    driver.wait_for(|state| state.reads == 1 && state.took >= SHORTEST_PATIENCE).await;
}

#[tokio::test]
async fn files_of_one_bus_are_read_one_after_the_other_and_a_late_value_has_its_own_time() {
    let mut rig = Rig::on_one_bus();
    let (first, second) = (rig.make_pipe("first"), rig.make_pipe("second"));
    let _first = rig.drive(1, "first");
    let mut held = first.hold().await;
    let mut late = rig.drive(2, "second");
    let waiting = second.feed("2000");

    // Several points of the grid pass. No reading is missed before a read exceeds its time limit.
    sleep(4 * EVERY).await;
    while let Ok(observation) = rig.observations.try_recv() {
        let Err(NoReading::Hung { seconds, .. }) = observation.outcome else {
            panic!("the bus is held: {observation:?}");
        };
        assert!(seconds >= SHORTEST_PATIENCE.as_secs());
    }
    assert!(!waiting.is_finished(), "nobody reads the second file while the first is read");
    held.write_all(b"1000").unwrap();
    drop(held);
    let (next, last) = (rig.next_of(1).await, rig.next_of(2).await);
    fed(waiting).await;

    assert_eq!(next.outcome, Ok(Measurement::Number(1.0)));
    assert_eq!(last.outcome, Ok(Measurement::Number(2.0)));
    assert!(next.captured < last.captured, "each has its own time");
    late.wait_for(|state| state.reads == 1).await;
}

#[tokio::test]
async fn a_file_behind_one_that_hangs_is_told_why() {
    let mut rig = Rig::on_one_bus();
    let dead = rig.make_pipe("dead");
    let _dead = rig.drive(1, "dead");
    let hung = rig.next_of(1).await.outcome;
    rig.write("good", "7000");
    let _good = rig.drive(2, "good");

    let behind = rig.next_of(2).await.outcome;
    drop(dead);
    let after = rig.next_of(2).await.outcome;

    assert!(matches!(hung, Err(NoReading::Hung { is_another: false, .. })), "{hung:?}");
    assert!(matches!(behind, Err(NoReading::Hung { is_another: true, .. })), "{behind:?}");
    assert_eq!(after, Ok(Measurement::Number(7.0)));
}

#[tokio::test]
async fn a_thread_that_hangs_is_met_again_and_ends_when_it_can() {
    let mut rig = Rig::new();
    let pipe = rig.make_pipe("dead");
    for _ in 0..3 {
        let mut driver = rig.drive(1, "dead");
        driver.wait_for(|state| state.hung.is_some()).await;
        assert_eq!(threads("read dead"), 1, "one thread for a file, however often it is asked for");
        driver.task.abort();
        while rig.drivers.join_next().await.is_some() {}
    }

    drop(pipe);

    let gone = async {
        while threads("read dead") > 0 {
            sleep(EVERY).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("it ends, since nobody wants its file");
}

#[tokio::test]
async fn one_file_too_many_says_so_and_the_others_are_read() {
    let mut rig = Rig::new();
    for n in 0..MAX_BUSES {
        rig.write(&format!("{n}"), "1000");
    }
    let mut drivers = Vec::new();
    for n in 0..MAX_BUSES {
        drivers.push(rig.drive(u32::try_from(n).unwrap(), &format!("{n}")));
    }
    for driver in &mut drivers {
        // The channel is small, and is emptied while the test waits.
        while driver.states.borrow().reads == 0 {
            rig.next().await;
        }
    }

    rig.write("surplus", "1000");
    let _surplus = rig.drive(1_000, "surplus");

    let outcome = rig.next_of(1_000).await.outcome;
    assert!(matches!(outcome, Err(NoReading::Failed(_))), "{outcome:?}");
}

#[test]
fn patience_is_the_period_within_reason() {
    for (every, seconds) in [(1, 2), (10, 10), (3_600, 30)] {
        assert_eq!(hung_after(Duration::from_secs(every)), Duration::from_secs(seconds));
    }
}
