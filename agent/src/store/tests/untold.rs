//! Gaps whose event was given up itself: reported once in the end, at a bounded cost (P3, P10).

use pulsegate_core::record::lane::{DropReason, Gap};

use super::*;
use crate::db::database::{CommitWork, Database};
use crate::db::retention::{self, RetentionView};

/// A store, and what the cloud has heard of gaps: lane and count.
struct Cloud {
    database: Database,
    heard: Vec<(String, u64)>,
    now: Mono,
}

impl Cloud {
    fn new(device: &Device) -> Self {
        let options = device.options();
        let sources = Arc::new(Sources::default());
        sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
        let database =
            Database::open_database(&options.path, &options.identity, sources, &options.pulse)
                .unwrap();
        Self { database, heard: Vec::new(), now: Mono(1_000) }
    }

    fn later(&mut self, pause: Duration) {
        self.now = self.now + pause;
    }

    fn commit(&mut self, work: CommitWork) {
        self.database.commit_work(&CommitWork { now: self.now, ..work }).unwrap();
    }

    fn event(&mut self) {
        self.events(1);
    }

    fn events(&mut self, count: usize) {
        let event = EventRow { event: Event::StoreLost, mono: self.now };
        self.commit(CommitWork { events: vec![event; count], ..CommitWork::default() });
    }

    /// The places and members of what is pending of a lane.
    fn pending(&self, lane: Lane) -> Vec<(u64, String)> {
        let row = self.database.lanes[lane.index()];
        let members = if lane == Lane::Events { "event || members" } else { "''" };
        let select =
            format!("SELECT seq, {members} FROM {} WHERE seq > ?1 ORDER BY seq", lane.as_str());
        let mut select = self.database.connection.prepare(&select).unwrap();
        let rows = select.query_map([row.watermark], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The broker hangs up on every message of a lane.
    fn refuse(&mut self, lane: Lane) {
        let mark = |(seq, _): (u64, String)| {
            let reason = DropReason::Quarantine { topic: "t".into() };
            let gap = Gap { lane, first: Seq(seq), last: Seq(seq), count: 1, reason };
            Mark { lane, through: Seq(seq), delivered: 0, filtered: 0, gaps: vec![gap] }
        };
        let marks = self.pending(lane).into_iter().map(mark).collect();
        self.commit(CommitWork { marks, ..CommitWork::default() });
    }

    /// The broker takes every event.
    fn take_events(&mut self) {
        let pending = self.pending(Lane::Events);
        let Some((through, _)) = pending.last() else { return };
        let (lane, through) = (Lane::Events, Seq(*through));
        for gap in pending.iter().filter_map(|(_, text)| text.strip_prefix("gap")) {
            let gap: Json = serde_json::from_str(&format!("{{{gap}}}")).unwrap();
            let lane = gap["lane"].as_str().unwrap().to_owned();
            self.heard.push((lane, gap["count"].as_u64().unwrap()));
        }
        let delivered = pending.len() as u64;
        let mark = Mark { lane, through, delivered, filtered: 0, gaps: Vec::new() };
        self.commit(CommitWork { marks: vec![mark], ..CommitWork::default() });
    }

    /// What the cloud has heard adds up to what was dropped.
    fn assert_all_is_told(&self) {
        for lane in Lane::ALL {
            let told = self.heard.iter().filter(|(of, _)| of == lane.as_str());
            let told: u64 = told.map(|(_, count)| count).sum();
            assert_eq!(
                told,
                self.database.lanes[lane.index()].dropped,
                "{lane:?}: {:?}",
                self.heard
            );
        }
    }
}

#[test]
fn a_cloud_that_takes_no_events_for_a_while_hears_of_every_loss_once_in_the_end() {
    let device = Device::new();
    let mut cloud = Cloud::new(&device);
    let readings = (0..5).map(|at| number(SourceId(0), Mono(at), 72.0)).collect();
    cloud.commit(CommitWork { readings, ..CommitWork::default() });
    cloud.refuse(Lane::Readings);
    (0..3).for_each(|_| cloud.event());

    // Sixteen minutes without events.
    for _ in 0..240 {
        cloud.refuse(Lane::Events);
        cloud.later(Duration::from_secs(4));
    }
    let recorded = cloud.database.lanes[Lane::Events.index()].recorded;
    assert!(recorded <= 5 + 3 + 3 + 4, "{recorded} events for eight losses");

    for _ in 0..3 {
        cloud.event();
        cloud.take_events();
        cloud.later(Duration::from_secs(61));
    }
    cloud.take_events();
    cloud.assert_all_is_told();
    assert_eq!(cloud.pending(Lane::Events), []);
    let left: u64 = cloud
        .database
        .connection
        .query_row("SELECT count(*) FROM untold_gaps", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn what_is_untold_is_told_after_a_restart_too() {
    let device = Device::new();
    let mut cloud = Cloud::new(&device);
    cloud.event();
    // The visit, and then the event that tells of its loss.
    cloud.refuse(Lane::Events);
    cloud.refuse(Lane::Events);
    assert_eq!(cloud.pending(Lane::Events), []);
    drop(cloud);

    let mut cloud = Cloud::new(&device);
    assert!(cloud.database.untold.is_due(cloud.now));
    cloud.commit(CommitWork::default());
    cloud.take_events();

    assert_eq!(cloud.heard, [("events".to_owned(), 2)]);
    cloud.assert_all_is_told();
}

#[test]
fn an_event_of_a_gap_that_is_given_up_for_room_loses_nothing_of_what_it_told() {
    let device = Device::new();
    let mut cloud = Cloud::new(&device);
    let readings = (0..5).map(|at| number(SourceId(0), Mono(at), 72.0)).collect();
    cloud.commit(CommitWork { readings, ..CommitWork::default() });
    cloud.refuse(Lane::Readings);
    cloud.events(3_000);

    let keep = Buffer { max_bytes: 60_000, ..device.keep };
    let cap_bytes = keep.max_bytes;
    let look = RetentionView { keep: &keep, cap_bytes, in_hand: [Seq(0); 3], now: cloud.now };
    let steps = (0..100).take_while(|_| retention::run_step(&mut cloud.database, &look).unwrap());
    assert!(steps.count() < 100, "retention comes to an end");

    assert!(cloud.database.lanes[Lane::Events.index()].dropped > 5);
    for _ in 0..3 {
        cloud.event();
        cloud.take_events();
        cloud.later(Duration::from_secs(61));
    }
    cloud.take_events();
    cloud.assert_all_is_told();
}
