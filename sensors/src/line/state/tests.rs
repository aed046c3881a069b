use proptest::prelude::*;

use super::*;

const LID: Role = Role::Lid { closed: Level::Low };
const DEBOUNCE: Duration = ms(20);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn edge(at_ms: u64, level: Level, seqno: u32) -> Edge {
    Edge { at: ms(at_ms), level, seqno }
}

fn change(state: LineState, at_ms: u64) -> Option<LineChange> {
    Some(LineChange { state, captured: Some(ms(at_ms)) })
}

/// A closed lid, opened at 0 ms.
fn closed_lid(kernel_debounces: bool) -> LineMachine {
    let mut machine = LineMachine::new(LID, DEBOUNCE);
    machine.handle_open(ms(0), Level::Low, kernel_debounces);
    machine
}

#[test]
fn the_first_level_is_the_first_measurement() {
    let mut machine = LineMachine::new(LID, DEBOUNCE);

    let first = machine.handle_open(ms(5), Level::High, true);

    assert_eq!(first, LineChange { state: LineState::Open, captured: None });
    assert_eq!(machine.counters().state, Some(LineState::Open));
}

#[test]
fn levels_mean_what_the_role_says() {
    let trigger = Role::Trigger { active: Level::High };

    assert_eq!(LID.state_for(Level::Low), LineState::Closed);
    assert_eq!(LID.state_for(Level::High), LineState::Open);
    assert_eq!(Role::Lid { closed: Level::High }.state_for(Level::Low), LineState::Open);
    assert_eq!(trigger.state_for(Level::High), LineState::Active);
    assert_eq!(trigger.state_for(Level::Low), LineState::Idle);
}

#[test]
fn twenty_ms_of_contact_bounce_is_one_opening_at_its_first_edge() {
    let mut machine = closed_lid(false);

    for (n, at_ms) in (100..=120).enumerate() {
        let level = if n % 2 == 0 { Level::High } else { Level::Low };
        assert_eq!(machine.handle_edge(edge(at_ms, level, u32::try_from(n).unwrap() + 1)), None);
    }

    assert_eq!(machine.due_at(), ms(140));
    assert_eq!(machine.handle_quiet(ms(139), Level::High), None);
    assert_eq!(machine.handle_quiet(ms(140), Level::High), change(LineState::Open, 100));
    assert_eq!(machine.handle_quiet(ms(141), Level::High), None);
    assert_eq!(machine.counters().edges, 21);
    assert_eq!(machine.counters().lost, 0);
}

#[test]
fn a_touch_that_falls_back_within_the_debounce_time_is_no_opening() {
    let mut machine = closed_lid(false);

    machine.handle_edge(edge(100, Level::High, 1));
    machine.handle_edge(edge(105, Level::Low, 2));

    assert_eq!(machine.handle_quiet(ms(125), Level::Low), None);
    assert_eq!(machine.counters().state, Some(LineState::Closed));
}

#[test]
fn edges_that_queued_up_while_the_thread_was_held_are_told_apart_by_their_own_times() {
    let mut machine = closed_lid(false);

    let mut told = Vec::new();
    told.extend(machine.handle_edge(edge(100, Level::High, 1)));
    told.extend(machine.handle_edge(edge(1_100, Level::Low, 2)));
    told.extend(machine.handle_edge(edge(2_100, Level::High, 3)));
    told.extend(machine.handle_edge(edge(3_100, Level::Low, 4)));
    told.extend(machine.handle_quiet(ms(9_000), Level::Low));

    let captured: Vec<_> = told.iter().filter_map(|change| change.captured).collect();
    assert_eq!(captured, [ms(100), ms(1_100), ms(2_100), ms(3_100)]);
}

#[test]
fn edges_that_the_kernel_debounced_count_at_once() {
    let mut machine = closed_lid(true);

    assert_eq!(machine.handle_edge(edge(100, Level::High, 1)), change(LineState::Open, 100));
    assert_eq!(machine.handle_edge(edge(101, Level::Low, 2)), change(LineState::Closed, 101));
}

#[test]
fn equal_states_are_told_once() {
    let mut machine = closed_lid(true);

    assert_eq!(machine.handle_edge(edge(100, Level::Low, 1)), None);
    assert!(machine.handle_edge(edge(101, Level::High, 2)).is_some());
    assert_eq!(machine.handle_edge(edge(102, Level::High, 3)), None);
}

#[test]
fn a_gap_in_the_kernels_numbers_is_counted_as_lost_edges() {
    let mut machine = closed_lid(true);

    machine.handle_edge(edge(100, Level::High, 3));
    machine.handle_edge(edge(200, Level::Low, 4));
    machine.handle_edge(edge(300, Level::Low, 6));

    assert_eq!(machine.counters().lost, 3);
    assert_eq!(machine.counters().edges, 3);
}

#[test]
fn numbers_wrap_and_one_that_runs_backwards_is_not_a_loss() {
    let mut machine = closed_lid(true);
    machine.seqno = u32::MAX - 1;

    machine.handle_edge(edge(100, Level::High, u32::MAX));
    machine.handle_edge(edge(101, Level::Low, 0));
    machine.handle_edge(edge(102, Level::High, 2));
    machine.handle_edge(edge(103, Level::Low, 1));

    assert_eq!(machine.counters().lost, 1);
}

#[test]
fn a_level_that_no_edge_told_of_is_corrected_and_counted_as_a_lost_edge() {
    let mut machine = closed_lid(true);

    assert_eq!(machine.handle_quiet(ms(999), Level::High), None);
    assert_eq!(machine.handle_quiet(ms(1_000), Level::High), None);
    assert_eq!(machine.due_at(), ms(1_000) + DEBOUNCE + EDGE_DELIVERY);
    let corrected = machine.handle_quiet(machine.due_at(), Level::High);

    assert_eq!(corrected, Some(LineChange { state: LineState::Open, captured: None }));
    assert_eq!(machine.counters().corrected, 1);
    assert_eq!(machine.counters().lost, 1);
}

#[test]
fn a_level_that_runs_ahead_of_its_edge_is_not_a_lost_edge() {
    let mut machine = closed_lid(true);
    machine.handle_quiet(ms(1_000), Level::High);

    assert_eq!(machine.handle_edge(edge(999, Level::High, 1)), change(LineState::Open, 999));
    machine.handle_quiet(ms(1_200), Level::High);

    assert_eq!(machine.counters().corrected, 0);
    assert_eq!(machine.counters().lost, 0);
}

#[test]
fn an_edge_lost_to_the_level_is_not_counted_again_by_its_number() {
    let mut machine = closed_lid(true);
    machine.handle_quiet(ms(1_000), Level::High);
    machine.handle_quiet(ms(1_120), Level::High);

    machine.handle_edge(edge(1_500, Level::Low, 2));

    assert_eq!(machine.counters().lost, 1);
    assert_eq!(machine.counters().state, Some(LineState::Closed));
}

#[test]
fn the_cross_check_waits_while_a_contact_bounces() {
    let mut machine = closed_lid(false);
    machine.handle_edge(edge(995, Level::High, 1));

    assert_eq!(machine.due_at(), ms(1_015));
    assert_eq!(machine.handle_quiet(ms(1_000), Level::High), None);
    assert_eq!(machine.handle_quiet(ms(1_015), Level::High), change(LineState::Open, 995));
    assert_eq!(machine.counters().corrected, 0);
}

#[test]
fn a_line_that_came_back_tells_its_state_again_and_numbers_begin_anew() {
    let mut machine = closed_lid(true);
    machine.handle_edge(edge(100, Level::High, 1));
    machine.handle_close();
    assert_eq!(machine.counters().state, None);

    let back = machine.handle_open(ms(5_000), Level::High, true);
    machine.handle_edge(edge(5_100, Level::Low, 3));

    assert_eq!(back, LineChange { state: LineState::Open, captured: None });
    assert_eq!(machine.counters().reopened, 1);
    assert_eq!(machine.counters().lost, 2);
}

#[test]
fn the_longest_debounce_overflows_nothing() {
    let mut machine = LineMachine::new(LID, Duration::MAX);
    machine.handle_open(ms(0), Level::Low, false);

    machine.handle_edge(edge(u64::MAX / 2, Level::High, 1));
    machine.handle_edge(edge(1, Level::Low, 2));
    machine.handle_quiet(machine.due_at(), Level::High);

    assert_eq!(machine.counters().edges, 2);
}

proptest! {
    /// States alternate for any bounces of a contact, and the last state is that of the settled
    /// level.
    #[test]
    fn states_alternate_and_end_at_the_settled_level(
        gaps in prop::collection::vec((0_u64..60, any::<bool>()), 0..200),
        kernel_debounces in any::<bool>(),
    ) {
        let mut machine = closed_lid(kernel_debounces);
        let (mut at, mut level, mut states) = (0, Level::Low, vec![LineState::Closed]);
        for (n, (gap_ms, high)) in gaps.into_iter().enumerate() {
            at += gap_ms;
            level = if high { Level::High } else { Level::Low };
            let seqno = u32::try_from(n).unwrap() + 1;
            states.extend(machine.handle_edge(edge(at, level, seqno)).map(|change| change.state));
        }
        states.extend(machine.handle_quiet(ms(at + 20), level).map(|change| change.state));

        prop_assert!(states.windows(2).all(|pair| pair[0] != pair[1]));
        prop_assert_eq!(states.last().copied(), Some(LID.state_for(level)));
        prop_assert_eq!(machine.counters().lost, 0);
    }
}
