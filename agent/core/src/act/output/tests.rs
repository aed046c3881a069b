//! Tests of the levels of outputs, with SQ-3 and NB-1 of the acceptance scenarios.

use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::*;
use crate::rules::KernelBoot;
use crate::visits::Moment;
use crate::visits::{First, Visit};

const PULSE: Duration = Duration::from_millis(500);
const NOON: Wall = Wall(1_795_176_000_000);

fn output(id: &str, most: u32, only: Option<Only>) -> OutputSpec {
    OutputSpec { id: id.into(), most, only, pulse: PULSE }
}

fn feeder(then: Vec<VisitAction>) -> VisitSpec {
    VisitSpec {
        source: "feeder".into(),
        opening: "open".into(),
        first: First::Level,
        gap: Duration::from_secs(90),
        units_per_opening: 1.0,
        live: false,
        then,
    }
}

fn wants(outputs: &[(&str, Drive)]) -> VisitSpec {
    let action = |(id, drive): &(&str, Drive)| VisitAction::Output((*id).into(), *drive);
    feeder(outputs.iter().map(action).collect())
}

/// A visit to the feeder with this number of openings; with 0 openings, no visit.
fn visit(standing: &mut Standing, openings: u32) {
    let visit = Visit {
        spec: Arc::new(feeder(Vec::new())),
        source: SourceId(0),
        start: Wall(10),
        end: Wall(10),
        openings,
        boot: Some(KernelBoot(1)),
    };
    standing.update_visits((openings > 0).then_some(visit).into_iter());
}

fn opening() -> ActionTrigger {
    ActionTrigger::Visit { source: "feeder".into(), visit: "v".into(), moment: Moment::Opening }
}

/// SQ-3.
#[test]
fn a_display_counts_the_openings_of_a_visit_and_goes_back_to_0() {
    let spec = wants(&[("digit", Drive::Count), ("lamp", Drive::On)]);
    let specs = vec![output("digit", 9, None), output("lamp", 1, None)];
    let mut outputs = Outputs::new(specs, &[], &[spec], None);
    let mut standing = Standing::default();

    for openings in (0..=9).chain([10, 0]) {
        visit(&mut standing, openings);
        let levels = outputs.compute_levels(&standing, Mono(1), None);

        let lamp = u32::from(openings > 0);
        assert_eq!(levels.values, [openings.min(9), lamp], "more than it can show is a 9");
        assert_eq!(levels.due, None);
    }
}

#[test]
fn an_output_is_on_while_anything_wants_it() {
    let (a, b) = (wants(&[("lamp", Drive::On)]), wants(&[("lamp", Drive::On)]));
    let other = VisitSpec { source: "door".into(), ..b };
    let mut outputs = Outputs::new(vec![output("lamp", 1, None)], &[], &[a, other.clone()], None);
    let mut standing = Standing::default();
    let at_door = Visit {
        spec: Arc::new(other),
        source: SourceId(1),
        start: Wall(20),
        end: Wall(20),
        openings: 1,
        boot: None,
    };
    let mut at = |visits: Vec<Visit>, standing: &mut Standing| {
        standing.update_visits(visits.into_iter());
        outputs.compute_levels(standing, Mono(1), None).values[0]
    };

    let mut feeder = at_door.clone();
    feeder.spec = Arc::new(wants(&[]));
    assert_eq!(at(vec![feeder.clone(), at_door.clone()], &mut standing), 1);
    assert_eq!(at(vec![at_door], &mut standing), 1, "the other still wants it");
    assert_eq!(at(vec![], &mut standing), 0);
}

#[test]
fn a_pulse_ends_by_itself_and_one_in_its_midst_makes_it_last() {
    let spec = wants(&[("buzzer", Drive::Pulse)]);
    let mut outputs = Outputs::new(vec![output("buzzer", 1, None)], &[], &[spec], None);
    let standing = Standing::default();

    outputs.handle_trigger(&opening(), Mono(1_000));
    let levels = outputs.compute_levels(&standing, Mono(1_000), None);
    assert_eq!(levels, Levels { values: vec![1], due: Some(Mono(1_500)) });
    outputs.handle_trigger(&opening(), Mono(1_300));
    assert_eq!(outputs.compute_levels(&standing, Mono(1_500), None).due, Some(Mono(1_800)));
    let levels = outputs.compute_levels(&standing, Mono(1_800), None);
    assert_eq!(levels, Levels { values: vec![0], due: None });
}

#[test]
fn only_openings_and_alerts_pulse() {
    let spec = wants(&[("buzzer", Drive::Pulse)]);
    let mut outputs = Outputs::new(vec![output("buzzer", 1, None)], &[], &[spec], None);

    for moment in [Moment::Begin, Moment::End] {
        let (source, visit) = ("feeder".into(), "v".into());
        outputs.handle_trigger(&ActionTrigger::Visit { source, visit, moment }, Mono(1));
    }
    outputs.handle_trigger(
        &ActionTrigger::Raised { rule: "feeder".into(), source: SourceId(0) },
        Mono(1),
    );

    assert_eq!(outputs.compute_levels(&Standing::default(), Mono(2), None).values, [0]);
}

/// A box with an IR filter and an IR lamp for the night, and a visible lamp for the day.
fn nest_box(night: NightSpec) -> Outputs {
    let specs = vec![
        output("filter", 1, Some(Only::Night)),
        output("infrared", 1, Some(Only::Night)),
        output("visible", 1, Some(Only::Day)),
    ];
    let on = ["filter", "infrared", "visible"].map(|id| (id, Drive::On));
    Outputs::new(specs, &[], &[wants(&on)], Some(night))
}

fn by_light() -> NightSpec {
    NightSpec { light: Some(Light { below: 10.0, above: 30.0 }), hours: None }
}

fn by_clock() -> NightSpec {
    let hours = Hours { from: 21 * 60, to: 6 * 60, zone: jiff::tz::TimeZone::UTC };
    NightSpec { light: None, hours: Some(hours) }
}

/// NB-1.
#[test]
fn at_night_a_visit_switches_infrared_and_never_visible_light() {
    let mut outputs = nest_box(by_light());
    let mut standing = Standing::default();
    visit(&mut standing, 1);
    let mut at = |light: f64| {
        standing.light = Some((light, Mono(0)));
        outputs.compute_levels(&standing, Mono(1), None).values
    };

    assert_eq!(at(50.0), [0, 0, 1], "day");
    assert_eq!(at(9.9), [1, 1, 0], "night falls");
    assert_eq!(at(20.0), [1, 1, 0], "the source sees the lamp: it is night as before");
    assert_eq!(at(30.0), [0, 0, 1], "day again");
    assert_eq!(at(20.0), [0, 0, 1], "still day");
    visit(&mut standing, 0);
    standing.light = Some((0.0, Mono(0)));
    assert_eq!(outputs.compute_levels(&standing, Mono(1), None).values, [0, 0, 0], "nobody there");
}

/// NB-1.
#[test]
fn as_long_as_nobody_knows_whether_it_is_night_nothing_is_switched() {
    let mut standing = Standing::default();
    visit(&mut standing, 1);
    let dark = [0, 0, 0];
    let mut by_light = nest_box(by_light());
    let mut by_clock = nest_box(by_clock());
    let late = Mono(0) + STALE_AFTER;

    assert_eq!(
        by_light.compute_levels(&standing, Mono(1), Some(NOON)).values,
        dark,
        "no reading yet"
    );
    standing.light = Some((20.0, Mono(0)));
    assert_eq!(
        by_light.compute_levels(&standing, Mono(1), None).values,
        dark,
        "neither dark nor bright"
    );
    standing.light = Some((50.0, Mono(0)));
    assert_eq!(by_light.compute_levels(&standing, Mono(1), None).values, [0, 0, 1]);
    assert_eq!(
        by_light.compute_levels(&standing, late, None).values,
        dark,
        "the sensor died at noon"
    );
    assert_eq!(
        by_clock.compute_levels(&standing, Mono(1), None).values,
        dark,
        "the clock is not set"
    );
}

/// NB-1.
#[test]
fn by_the_clock_night_goes_past_midnight_and_is_looked_at_while_it_matters() {
    let mut outputs = nest_box(by_clock());
    let mut standing = Standing::default();
    visit(&mut standing, 1);
    let hours = |hours: i64| Some(Wall(NOON.0 + hours * 3_600_000));
    let mut is_night = |wall| outputs.compute_levels(&standing, Mono(1), wall).values[0] == 1;

    let nights: Vec<i64> = (0..24).filter(|hour| is_night(hours(*hour))).collect();
    assert_eq!(nights, [9, 10, 11, 12, 13, 14, 15, 16, 17], "21:00 to 06:00, from noon");
    assert_eq!(
        outputs.compute_levels(&standing, Mono(1), hours(0)).due,
        Some(Mono(1) + LOOK_EVERY)
    );
    visit(&mut standing, 0);
    assert_eq!(outputs.compute_levels(&standing, Mono(1), hours(0)).due, None);
}

#[test]
fn the_clock_tells_while_the_light_is_not_known() {
    let both = NightSpec { hours: by_clock().hours, ..by_light() };
    let mut outputs = nest_box(both);
    let mut standing = Standing::default();
    visit(&mut standing, 1);

    assert_eq!(outputs.compute_levels(&standing, Mono(1), Some(NOON)).values, [0, 0, 1]);
    standing.light = Some((1.0, Mono(1)));
    assert_eq!(
        outputs.compute_levels(&standing, Mono(2), Some(NOON)).values,
        [1, 1, 0],
        "an eclipse"
    );
}
