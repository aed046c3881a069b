use proptest::prelude::*;

use super::*;

const SILENCE: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns the rungs climbed for a monitor that stays silent after every cure.
fn climb(times: u64, reach: Reach) -> Vec<Rung> {
    let mut ladder = Ladder::new(SILENCE);
    let silent = |step: u64| {
        ladder.handle_input(LadderInput::Subscribed, at(10 * step), reach);
        ladder.handle_input(LadderInput::Tick, at(10 * step + 10), reach).expect("it is silent")
    };
    (0..times).map(silent).collect()
}

#[test]
fn each_silence_climbs_one_rung() {
    use Rung::{Forget, PowerCycle, Reconnect, Report, Subscribe};

    let rungs = climb(5, Reach::Everything);

    assert_eq!(rungs, [Subscribe, Reconnect, Forget, PowerCycle, Report]);
}

#[test]
fn an_adapter_with_a_monitor_that_is_well_is_left_on() {
    assert_eq!(climb(6, Reach::Monitor)[2..], [Rung::Forget; 4]);
}

#[test]
fn nothing_is_reported_while_another_adapter_works() {
    assert_eq!(climb(5, Reach::Adapter)[3..], [Rung::PowerCycle, Rung::Forget]);
}

#[test]
fn a_packet_leads_back_to_the_foot() {
    let mut ladder = Ladder::new(SILENCE);
    ladder.handle_input(LadderInput::Subscribed, at(0), Reach::Everything);
    ladder.handle_input(LadderInput::Tick, at(10), Reach::Everything);
    ladder.handle_input(LadderInput::Subscribed, at(11), Reach::Everything);

    ladder.handle_input(LadderInput::Packet, at(12), Reach::Everything);

    assert_eq!(ladder.handle_input(LadderInput::Tick, at(21), Reach::Everything), None);
    assert_eq!(
        ladder.handle_input(LadderInput::Tick, at(22), Reach::Everything),
        Some(Rung::Subscribe)
    );
}

#[test]
fn a_lost_link_is_made_again_rather_than_subscribed_to() {
    let mut ladder = Ladder::new(SILENCE);
    ladder.handle_input(LadderInput::Subscribed, at(0), Reach::Everything);

    assert_eq!(
        ladder.handle_input(LadderInput::Failed, at(1), Reach::Everything),
        Some(Rung::Reconnect)
    );
    assert_eq!(
        ladder.handle_input(LadderInput::Failed, at(2), Reach::Everything),
        Some(Rung::Forget)
    );
}

#[test]
fn a_monitor_that_is_not_there_climbs_nothing() {
    let mut ladder = Ladder::new(SILENCE);

    assert_eq!(ladder.handle_input(LadderInput::Tick, at(1_000_000), Reach::Everything), None);
}

#[test]
fn every_rung_is_counted_by_its_name() {
    let mut climbs = Climbs::default();
    for rung in climb(5, Reach::Everything) {
        climbs.count_climb(rung);
    }

    let once = Climbs { subscribe: 1, reconnect: 1, forget: 1, power_cycle: 1, report: 1 };
    assert_eq!(climbs, once);
}

fn any_input() -> impl Strategy<Value = LadderInput> {
    prop_oneof![
        Just(LadderInput::Subscribed),
        Just(LadderInput::Packet),
        Just(LadderInput::Tick),
        Just(LadderInput::Failed)
    ]
}

proptest! {
    #[test]
    fn what_others_need_is_never_disturbed(inputs in prop::collection::vec((any_input(), 0_u64..20), 0..60)) {
        let mut ladder = Ladder::new(SILENCE);
        let mut now = 0;
        for (input, passed) in inputs {
            now += passed;
            let rung = ladder.handle_input(input, at(now), Reach::Monitor);

            prop_assert!(rung.is_none_or(|rung| rung <= Rung::Forget));
        }
    }
}
