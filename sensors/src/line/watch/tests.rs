use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::line::edge_pipe::{self, EdgeReceiver, EdgeSender};
use crate::line::port::{LinePort, OpenedLine};
use crate::line::state::Edge;
use crate::line::{Bias, Level, Role};
use crate::{LineState, Observation, SourceId};

const LID: Role = Role::Lid { closed: Level::Low };
const DEADLINE: Duration = Duration::from_secs(20);

fn monotonic() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).expect("it began at zero")
}

/// A switch on a wire of sockets, since the machine of a test may have no GPIO.
struct Wire {
    edges: EdgeReceiver,
    high: Arc<AtomicBool>,
}

impl LinePort for Wire {
    fn fd(&self) -> BorrowedFd<'_> {
        self.edges.as_fd()
    }

    fn read_edge(&mut self) -> Result<Edge, NoReading> {
        self.edges.receive_edge().map_err(|_| NoReading::Failed("the wire is cut".to_owned()))
    }

    fn read_level(&self) -> Result<Level, NoReading> {
        Ok(if self.high.load(Ordering::SeqCst) { Level::High } else { Level::Low })
    }
}

/// A watched line: opens each wire in turn, and is "not found" without a wire.
struct Rig {
    watch: LineWatch,
    observations: mpsc::Receiver<Observation>,
    high: Arc<AtomicBool>,
    wires: Arc<Mutex<VecDeque<EdgeReceiver>>>,
    tries: watch::Receiver<u32>,
}

impl Rig {
    fn new(debounce: Duration) -> Self {
        let (sender, observations) = mpsc::channel(4);
        let high = Arc::new(AtomicBool::new(false));
        let wires = Arc::new(Mutex::new(VecDeque::new()));
        let (level, waiting) = (Arc::clone(&high), Arc::clone(&wires));
        let (trying, tries) = watch::channel(0);
        let open = move || {
            trying.send_modify(|tries| *tries += 1);
            let edges = waiting.lock().unwrap().pop_front();
            let edges = edges.ok_or_else(|| NoReading::Absent("a wire".to_owned()))?;
            let port = Box::new(Wire { edges, high: Arc::clone(&level) });
            Ok(OpenedLine { port, kernel_debounces: debounce.is_zero() })
        };
        let outlet = Outlet::new(SourceId(3), sender);
        let machine = LineMachine::new(LID, debounce);
        let watch = start_thread("line-17".to_owned(), machine, open, outlet, monotonic).unwrap();
        Self { watch, observations, high, wires, tries }
    }

    fn plug(&self) -> EdgeSender {
        let (sender, receiver) = edge_pipe::new().unwrap();
        self.wires.lock().unwrap().push_back(receiver);
        sender
    }

    async fn next(&mut self) -> Observation {
        let next = timeout(DEADLINE, self.observations.recv()).await;
        next.expect("nothing before the deadline").expect("the thread runs")
    }

    async fn expect(&mut self, state: LineState) -> Option<Duration> {
        let Observation { captured, outcome, .. } = self.next().await;
        assert_eq!(outcome, Ok(Measurement::Line(state)));
        captured
    }

    /// Skips the "not found" before the first wire is plugged in, and the retry.
    async fn expect_found(&mut self, state: LineState) {
        if self.next().await.outcome.is_err() {
            self.expect(state).await;
        }
    }
}

fn edge(at: Duration, level: Level, seqno: u32) -> Edge {
    Edge { at, level, seqno }
}

#[tokio::test]
async fn the_first_level_is_told_and_then_each_edge_with_the_kernels_time() {
    let mut rig = Rig::new(Duration::ZERO);
    let mut wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    let at = monotonic();
    rig.high.store(true, Ordering::SeqCst);
    wire.send_edge(edge(at, Level::High, 1)).unwrap();

    assert_eq!(rig.expect(LineState::Open).await, Some(at));
    assert_eq!(rig.watch.counters().state, Some(LineState::Open));
    assert_eq!(rig.watch.counters().edges, 1);
}

#[tokio::test]
async fn bounce_is_one_opening_where_the_kernel_does_not_debounce() {
    let mut rig = Rig::new(Duration::from_millis(20));
    let mut wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    let at = monotonic();
    rig.high.store(true, Ordering::SeqCst);
    for (level, seqno) in [(Level::High, 1), (Level::Low, 2), (Level::High, 3)] {
        wire.send_edge(edge(at + Duration::from_millis(seqno.into()), level, seqno)).unwrap();
    }

    assert_eq!(rig.expect(LineState::Open).await, Some(at + Duration::from_millis(1)));
    drop(wire);
    assert_eq!(rig.next().await.outcome, Err(NoReading::Failed("the wire is cut".to_owned())));
}

#[tokio::test]
async fn an_edge_that_never_comes_is_corrected_by_the_cross_check() {
    let mut rig = Rig::new(Duration::ZERO);
    let _wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    rig.high.store(true, Ordering::SeqCst);

    assert_eq!(rig.expect(LineState::Open).await, None);
    assert_eq!((rig.watch.counters().corrected, rig.watch.counters().lost), (1, 1));
}

#[tokio::test]
async fn a_line_that_dies_is_told_once_and_opened_again() {
    let mut rig = Rig::new(Duration::ZERO);
    let wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    drop(wire);
    assert_eq!(rig.next().await.outcome, Err(NoReading::Failed("the wire is cut".to_owned())));
    assert_eq!(rig.watch.counters().state, None);
    rig.high.store(true, Ordering::SeqCst);
    let wire = rig.plug();

    rig.expect(LineState::Open).await;
    assert_eq!(rig.watch.counters().reopened, 1);
    drop(wire);
    assert_eq!(rig.next().await.outcome, Err(NoReading::Failed("the wire is cut".to_owned())));
}

#[tokio::test]
async fn a_line_that_stays_away_is_told_once_however_often_it_is_tried() {
    let mut rig = Rig::new(Duration::ZERO);
    assert!(rig.next().await.outcome.is_err());

    let third = timeout(DEADLINE, rig.tries.wait_for(|tries| *tries >= 3)).await;
    third.expect("it is tried again").expect("the thread runs");
    let _wire = rig.plug();

    rig.expect(LineState::Closed).await;
}

#[tokio::test]
async fn a_line_that_is_not_there_is_told_and_can_be_stopped() {
    let mut rig = Rig::new(Duration::ZERO);

    assert_eq!(rig.next().await.outcome, Err(NoReading::Absent("a wire".to_owned())));

    timeout(DEADLINE, rig.watch.stop_thread()).await.expect("the thread ends");
    assert_eq!(rig.observations.recv().await, None);
}

#[tokio::test]
async fn a_stopped_line_is_given_back_before_stop_returns() {
    let mut rig = Rig::new(Duration::ZERO);
    let mut wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    timeout(DEADLINE, rig.watch.stop_thread()).await.expect("the thread ends");

    assert!(wire.send_edge(edge(Duration::ZERO, Level::High, 1)).is_err());
}

#[tokio::test]
async fn a_thread_ends_when_nobody_listens() {
    let mut rig = Rig::new(Duration::ZERO);
    let _wire = rig.plug();
    rig.expect_found(LineState::Closed).await;

    drop(rig.observations);

    timeout(DEADLINE, rig.watch.wait_until_ended()).await.expect("the thread ends");
}

#[tokio::test]
async fn a_configured_line_without_hardware_says_so() {
    let line = Line {
        pin: 17,
        chip: Some("/dev/no-such-chip".to_owned()),
        debounce: Duration::from_millis(20),
        role: LID,
        bias: Bias::PullUp,
    };
    let (sender, mut observations) = mpsc::channel(4);

    let watch =
        spawn_line(line, Backend::Auto, Outlet::new(SourceId(3), sender), monotonic).unwrap();
    let first = timeout(DEADLINE, observations.recv()).await.expect("a reason").unwrap();

    assert_eq!(first.source, SourceId(3));
    assert!(matches!(first.outcome, Err(NoReading::Absent(_))), "{first:?}");
    timeout(DEADLINE, watch.stop_thread()).await.expect("the thread ends");
}
