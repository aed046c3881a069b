//! Visits at their limits, and independent of the order of arrival (SQ-1, NB-1, P8).

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::record::reading::{Reading, Value};

const BOOT: KernelBoot = KernelBoot(1);
const FEEDER: SourceId = SourceId(0);
/// The start of the reference axis of [`BOOT`], in milliseconds since 1970.
const START: i64 = 1_795_000_000_000;

fn spec() -> VisitSpec {
    VisitSpec {
        source: "feeder".into(),
        opening: "open".into(),
        first: First::Change,
        gap: Duration::from_secs(90),
        units_per_opening: 0.5,
        live: false,
        then: Vec::new(),
    }
}

fn sources() -> Sources {
    let sources = Sources::default();
    sources.intern_source(Source::new("feeder", "lid").unwrap()).unwrap();
    sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
    sources
}

/// A state of the feeder, with its kernel start, its arrival, and its own time, if any.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Said {
    boot: KernelBoot,
    arrival: u64,
    own: Option<i64>,
    open: bool,
}

fn said(seconds: f64, open: bool) -> Said {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    Said { boot: BOOT, arrival: (seconds * 1000.0) as u64, own: None, open }
}

fn fold(visits: &mut Visits, said: &Said, out: &mut Vec<VisitEvent>) {
    let reading = Reading {
        source: FEEDER,
        mono: Mono(said.arrival),
        time: said.own.map(Wall),
        value: Value::State(if said.open { "open" } else { "closed" }.into()),
        detail: None,
    };
    let axis = START + i64::from(said.boot.0) * 100_000_000;
    let event = said.own.map_or(Wall(axis + i64::try_from(said.arrival).unwrap()), Wall);
    visits.fold_reading(
        &TimedReading { reading: &reading, boot: said.boot, event },
        &sources(),
        out,
    );
}

/// Returns openings at the given times in seconds, each with a closing 0.1 s later.
fn openings(at: &[f64]) -> Vec<Said> {
    at.iter().flat_map(|at| [said(*at, true), said(*at + 0.1, false)]).collect()
}

/// Folds all states and ticks long after the last. Returns start, end and openings of each visit.
fn visits_of(spec: VisitSpec, told: &[Said]) -> Vec<(i64, i64, u32)> {
    let (mut visits, mut out) = (Visits::new(vec![spec]), Vec::new());
    told.iter().for_each(|said| fold(&mut visits, said, &mut out));
    visits.advance_time(told.last().map_or(BOOT, |said| said.boot), Mono(u64::MAX / 4), &mut out);
    ended(&out)
}

fn ended(out: &[VisitEvent]) -> Vec<(i64, i64, u32)> {
    let ended = |happening: &VisitEvent| match happening {
        VisitEvent::Ended(visit) => Some((visit.start.0, visit.end.0, visit.openings)),
        VisitEvent::Began(_) => None,
    };
    out.iter().filter_map(ended).collect()
}

fn lengths(spec: VisitSpec, told: &[Said]) -> Vec<(i64, u32)> {
    visits_of(spec, told).iter().map(|(start, end, openings)| (end - start, *openings)).collect()
}

#[test]
fn a_gap_of_89_seconds_is_the_same_visit_and_of_90_a_new_one() {
    assert_eq!(lengths(spec(), &openings(&[10.0, 99.0])), [(89_000, 2)]);
    assert_eq!(lengths(spec(), &openings(&[10.0, 99.999])), [(89_999, 2)]);
    assert_eq!(lengths(spec(), &openings(&[10.0, 100.0])), [(0, 1), (0, 1)]);
}

#[test]
fn a_visit_is_told_at_its_last_opening_and_the_gap_not_at_the_next_opening() {
    let (mut visits, mut out) = (Visits::new(vec![spec()]), Vec::new());
    openings(&[10.0, 20.0]).iter().for_each(|said| fold(&mut visits, said, &mut out));

    let due = visits.next_due().unwrap();
    visits.advance_time(BOOT, Mono(due.0 - 1), &mut out);
    assert!(out.is_empty());
    visits.advance_time(BOOT, due, &mut out);

    assert_eq!(due, Mono(110_000) + SETTLING);
    assert_eq!(ended(&out).len(), 1);
    assert_eq!(visits.next_due(), None);
}

#[test]
fn units_are_counted_by_the_opening() {
    let (mut visits, mut out) = (Visits::new(vec![spec()]), Vec::new());
    openings(&[1.0, 2.0, 3.0]).iter().for_each(|said| fold(&mut visits, said, &mut out));
    visits.advance_time(BOOT, Mono(200_000), &mut out);

    let [VisitEvent::Ended(visit)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(visit.units().to_bits(), 1.5f64.to_bits());
    assert_eq!(visit.boot, Some(BOOT));
}

#[test]
fn an_opening_repeated_after_the_line_was_opened_again_is_none() {
    let told = [said(1.0, true), said(2.0, true), said(3.0, false), said(4.0, true)];

    assert_eq!(lengths(spec(), &told), [(3_000, 2)]);
}

#[test]
fn the_first_level_of_a_line_is_no_opening_and_the_first_word_of_a_program_is() {
    let told = [said(1.0, true), said(2.0, false), said(3.0, true)];

    assert_eq!(lengths(VisitSpec { first: First::Level, ..spec() }, &told), [(0, 1)]);
    assert_eq!(lengths(spec(), &told), [(2_000, 2)]);
}

#[test]
fn another_source_ticks_but_does_not_visit() {
    let (mut visits, mut out) = (Visits::new(vec![spec()]), Vec::new());
    openings(&[1.0]).iter().for_each(|said| fold(&mut visits, said, &mut out));
    let beat = Reading {
        source: SourceId(1),
        mono: Mono(100_000),
        time: None,
        value: Value::Number(72.0),
        detail: None,
    };
    visits.fold_reading(
        &TimedReading { reading: &beat, boot: BOOT, event: Wall(0) },
        &sources(),
        &mut out,
    );

    assert_eq!(ended(&out).len(), 1);
}

#[test]
fn a_start_of_the_kernel_ends_the_visit_of_a_line_once() {
    let mut told = openings(&[10.0, 20.0]);
    let after = openings(&[5.0]);
    told.extend(after.iter().map(|said| Said { boot: KernelBoot(2), ..*said }));

    assert_eq!(lengths(spec(), &told), [(10_000, 2), (0, 1)]);

    let (mut visits, mut out) = (Visits::new(vec![spec()]), Vec::new());
    openings(&[10.0]).iter().for_each(|said| fold(&mut visits, said, &mut out));
    visits.advance_time(KernelBoot(2), Mono(1), &mut out);
    visits.advance_time(KernelBoot(2), Mono(500_000), &mut out);

    assert_eq!(ended(&out).len(), 1);
    let VisitEvent::Ended(visit) = &out[0] else { panic!("{out:?}") };
    assert_eq!(visit.boot, Some(BOOT));
}

#[test]
fn a_live_source_tells_the_beginning_at_once_and_once() {
    let (mut visits, mut out) = (Visits::new(vec![VisitSpec { live: true, ..spec() }]), Vec::new());

    fold(&mut visits, &said(10.0, true), &mut out);
    assert!(matches!(&out[..], [VisitEvent::Began(visit)] if visit.openings == 1));
    openings(&[20.0, 30.0]).iter().for_each(|said| fold(&mut visits, said, &mut out));

    assert_eq!(out.len(), 1);
}

#[test]
fn a_backlog_with_its_own_times_gives_the_visits_that_there_were() {
    let own = |at: i64, open| Said { own: Some(START + at * 1000), ..said(5_000.0, open) };
    let told = [own(0, true), own(1, false), own(60, true), own(61, false), own(300, true)];

    assert_eq!(lengths(spec(), &told), [(60_000, 2), (0, 1)]);
}

#[test]
fn what_was_told_before_the_start_is_not_told_again() {
    let told = openings(&[10.0, 20.0]);
    let resumed = |known: ReportedVisits| {
        let (mut visits, mut out) =
            (Visits::new(vec![VisitSpec { live: true, ..spec() }]), Vec::new());
        told.iter().for_each(|said| fold(&mut visits, said, &mut out));
        out.clear();
        visits.finish_rebuild(|_| known);
        visits.advance_time(BOOT, Mono(1_000_000), &mut out);
        fold(&mut visits, &said(2_000.0, true), &mut out);
        visits.advance_time(BOOT, Mono(3_000_000), &mut out);
        ended(&out).len()
    };
    let start = Wall(START + 100_000_000 + 10_000);

    assert_eq!(resumed(ReportedVisits::default()), 2);
    assert_eq!(resumed(ReportedVisits { began: Some(start), ended: Some(start) }), 1);
}

#[test]
fn a_visit_that_was_told_to_have_ended_is_not_under_way_after_a_start() {
    let told = [Said { own: Some(START), ..said(10.0, true) }];
    let (mut visits, mut out) = (Visits::new(vec![spec()]), Vec::new());
    told.iter().for_each(|said| fold(&mut visits, said, &mut out));

    visits.finish_rebuild(|_| ReportedVisits { began: None, ended: Some(Wall(START)) });
    visits.advance_time(KernelBoot(2), Mono(5_000), &mut out);

    assert_eq!(visits.under_way().count(), 0);
    visits.advance_time(KernelBoot(2), Mono(500_000), &mut out);
    assert_eq!(out, []);
}

/// Generates changes of the lid in the order of their times, each with its time and its delay.
fn history() -> impl Strategy<Value = Vec<(i64, u64)>> {
    let step = prop_oneof![20 => 1i64..20_000, 2 => 85_000i64..95_000];
    vec((step, 0u64..5_000), 1..120).prop_map(|steps| {
        let mut time = 0;
        let told = steps.into_iter().map(|(step, delay)| {
            time += step;
            (time, delay)
        });
        told.collect()
    })
}

fn with_own_times(history: &[(i64, u64)], late: bool) -> Vec<Said> {
    let mut told: Vec<Said> = history
        .iter()
        .enumerate()
        .map(|(index, (time, delay))| Said {
            boot: BOOT,
            arrival: u64::try_from(*time).unwrap() + if late { *delay } else { 0 },
            own: Some(START + time),
            open: index % 2 == 0,
        })
        .collect();
    told.sort_by_key(|said| said.arrival);
    told
}

proptest! {
    #[test]
    fn shuffled_and_late_by_up_to_five_seconds_gives_the_same_visits(history in history()) {
        let in_order = visits_of(spec(), &with_own_times(&history, false));
        let shuffled = visits_of(spec(), &with_own_times(&history, true));

        prop_assert_eq!(in_order, shuffled);
    }

    /// Ticks anywhere, and a restart after any reading with some of the decisions of ticks stored.
    #[test]
    fn a_restart_anywhere_tells_every_visit_exactly_once(
        history in history(),
        own in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        tick_after in 0u64..200_000,
    ) {
        let mut told = with_own_times(&history, own);
        if !own {
            told.iter_mut().for_each(|said| said.own = None);
        }
        let whole = visits_of(spec(), &told);
        let cut = cut.index(told.len()) + 1;
        let (mut before, mut stored) = (Visits::new(vec![spec()]), Vec::new());
        told[..cut].iter().for_each(|said| fold(&mut before, said, &mut stored));
        let next = told.get(cut).map_or(u64::MAX / 4, |said| said.arrival);
        let now = Mono((told[cut - 1].arrival + tick_after).min(next));
        before.advance_time(BOOT, now, &mut stored);

        let (mut after, mut dropped) = (Visits::new(vec![spec()]), Vec::new());
        told[..cut].iter().for_each(|said| fold(&mut after, said, &mut dropped));
        let last = ended(&stored).last().map(|(start, ..)| Wall(*start));
        after.finish_rebuild(|_| ReportedVisits { began: None, ended: last });
        told[cut..].iter().for_each(|said| fold(&mut after, said, &mut stored));
        after.advance_time(BOOT, Mono(u64::MAX / 4), &mut stored);

        prop_assert_eq!(ended(&stored), whole);
    }
}
