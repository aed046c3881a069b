use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::{Observation, SourceId};

const RECORDED: &str = include_str!("../../../tests/data/rr-60min.csv");

fn belt() -> Simulated {
    Simulated {
        kind: SimulatedKind::HeartRate { mean_bpm: 72.0, spread: 5.0, rr: true },
        every: Some(Duration::from_secs(1)),
        seed: 7,
        steps: Vec::new(),
        faults: Faults::default(),
    }
}

fn lid(open: u64) -> Simulated {
    let open = Duration::from_secs(open);
    Simulated { kind: SimulatedKind::Line { open }, every: Some(Duration::from_secs(10)), ..belt() }
}

fn number() -> Simulated {
    Simulated { kind: SimulatedKind::Number { mean: 20.0, spread: 0.5 }, ..belt() }
}

fn story(simulated: &Simulated, steps: u64) -> Vec<Result<Measurement, NoReading>> {
    (0..steps).flat_map(|step| simulated.simulate_step(step)).collect()
}

fn heart(outcome: &Result<Measurement, NoReading>) -> &HeartRate {
    match outcome {
        Ok(Measurement::HeartRate(heart)) => heart,
        other => panic!("not a heart rate: {other:?}"),
    }
}

/// Returns the number of steps, of a thousand, for which `is_so` returns `true`.
fn share(simulated: &Simulated, is_so: impl Fn(&Result<Measurement, NoReading>) -> bool) -> usize {
    story(simulated, 1000).iter().filter(|outcome| is_so(outcome)).count()
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let faults =
        Faults { contact_lost: 0.1, spikes: 0.1, garbage: 0.1, bounces: 3, ..Faults::default() };
    for simulated in [belt(), lid(2), number()] {
        let simulated = Simulated { faults: faults.clone(), ..simulated };
        let other = Simulated { seed: 8, ..simulated.clone() };

        assert_eq!(story(&simulated, 500), story(&simulated, 500));
        assert_ne!(story(&simulated, 500), story(&other, 500));
    }
}

#[test]
fn a_heart_stays_near_its_mean_and_moves() {
    let story = story(&belt(), 1000);

    let rates: Vec<_> = story.iter().map(|outcome| heart(outcome).bpm).collect();
    assert!(rates.iter().all(|bpm| (67..=77).contains(bpm)), "{rates:?}");
    assert!(rates.iter().any(|bpm| *bpm < 70) && rates.iter().any(|bpm| *bpm > 74));
}

#[test]
fn intervals_add_up_to_the_time_that_passes() {
    let steady = Simulated {
        kind: SimulatedKind::HeartRate { mean_bpm: 72.0, spread: 0.0, rr: true },
        ..belt()
    };

    let ticks: u32 = story(&steady, 600)
        .iter()
        .flat_map(|packet| &heart(packet).rr)
        .map(|rr| u32::from(*rr))
        .sum();

    let seconds = f64::from(ticks) / 1024.0;
    assert!((595.0..605.0).contains(&seconds), "{seconds} s of beats in 600 s");
}

#[test]
fn a_beat_ends_in_every_second_of_a_day() {
    let steady = Simulated {
        kind: SimulatedKind::HeartRate { mean_bpm: 60.0, spread: 0.0, rr: true },
        ..belt()
    };

    let without =
        (0..86_400).find(|step| steady.simulate_step(*step).iter().any(|p| heart(p).rr.is_empty()));

    assert_eq!(without, None);
}

#[test]
fn the_mean_follows_its_steps() {
    let seconds = Duration::from_secs;
    let simulated = Simulated { steps: vec![(seconds(8), 150.0), (seconds(20), 72.0)], ..belt() };

    let rates: Vec<_> = story(&simulated, 30).iter().map(|outcome| heart(outcome).bpm).collect();

    let high: Vec<_> =
        (0_u8..30).zip(&rates).filter(|(_, bpm)| **bpm > 140).map(|(at, _)| at).collect();
    assert_eq!(high, (8..20).collect::<Vec<_>>());
}

#[test]
fn faults_come_as_often_as_wanted() {
    let near = |count: usize| (150..250).contains(&count);
    let with = |simulated: Simulated, faults: Faults| Simulated { faults, ..simulated };
    let lost = with(belt(), Faults { contact_lost: 0.2, ..Faults::default() });
    let spikes = with(belt(), Faults { spikes: 0.2, ..Faults::default() });
    let far = with(number(), Faults { spikes: 0.2, ..Faults::default() });
    let garbage = Faults { garbage: 0.2, ..Faults::default() };

    assert!(near(share(&lost, |outcome| heart(outcome).contact == Contact::Lost)));
    assert!(near(share(&spikes, |outcome| matches!(heart(outcome).bpm, 0 | 300))));
    assert!(near(share(&far, |outcome| {
        matches!(outcome, Ok(Measurement::Number(number)) if (number - 20.0).abs() > 5.0)
    })));
    for sensor in [belt(), number()] {
        let sensor = with(sensor, garbage.clone());
        assert!(near(share(&sensor, |outcome| matches!(outcome, Err(NoReading::Garbage(_))))));
    }
}

#[test]
fn silence_is_said_once_and_ends() {
    let seconds =
        |range: Range<u64>| Duration::from_secs(range.start)..Duration::from_secs(range.end);
    let silences = vec![seconds(0..2), seconds(5..9)];
    let simulated = Simulated { faults: Faults { silences, ..Faults::default() }, ..belt() };

    let said: String = (0..12)
        .map(|step| match simulated.simulate_step(step).as_slice() {
            [] => ' ',
            [Err(NoReading::Silent { seconds: 1 })] => '!',
            [Ok(_)] => '.',
            other => panic!("{other:?}"),
        })
        .collect();

    assert_eq!(said, "! ...!   ...");
}

#[test]
fn a_lid_opens_at_the_end_of_each_period() {
    let lid = lid(2);

    let moves: Vec<_> = (0..5)
        .map(|step| (lid.step_offset(step).as_secs(), lid.simulate_step(step).remove(0)))
        .collect();

    let closed = Ok(Measurement::Line(LineState::Closed));
    let open = Ok(Measurement::Line(LineState::Open));
    assert_eq!(
        moves,
        [(0, closed.clone()), (8, open.clone()), (10, closed.clone()), (18, open), (20, closed)]
    );
}

#[test]
fn a_bouncing_contact_ends_where_the_lid_is() {
    let lid = Simulated { faults: Faults { bounces: 3, ..Faults::default() }, ..lid(2) };

    let edges: Vec<_> = (1..200).map(|step| lid.simulate_step(step)).collect();

    assert!(edges.iter().all(|edges| edges.len() % 2 == 1 && edges.first() == edges.last()));
    assert!(edges.iter().any(|edges| edges.len() == 7) && edges.iter().any(|e| e.len() == 1));
}

#[test]
fn a_replay_says_every_recorded_beat_once_and_in_order() {
    let recording = Arc::new(Recording::parse_csv(RECORDED).expect("a recording"));
    let packets = u64::try_from(recording.packet_count()).expect("a length");
    let simulated = Simulated { kind: SimulatedKind::Replay(recording), ..belt() };

    let story = story(&simulated, packets);

    let beats_ms: Vec<_> = story
        .iter()
        .flat_map(|packet| &heart(packet).rr)
        .map(|ticks| (u32::from(*ticks) * 1000 + 512) / 1024)
        .collect();
    let recorded: Vec<u32> =
        RECORDED.lines().skip(1).map(|line| line.parse().expect("a number")).collect();
    assert_eq!(beats_ms.len(), 4684);
    assert_eq!(beats_ms, recorded);
    assert_eq!(packets, 3600, "one packet a second for 3599.365 s");
    assert_eq!(simulated.simulate_step(packets), simulated.simulate_step(0), "it begins again");
    assert!(story.iter().skip(2).all(|packet| (40..140).contains(&heart(packet).bpm)));
}

#[test]
fn a_file_that_is_no_recording_is_refused_with_its_line() {
    let not = |line, text: &str| NotARecording::NotAnInterval { line, text: text.to_owned() };

    assert_eq!(Recording::parse_csv(""), Err(NotARecording::NoHeader));
    assert_eq!(Recording::parse_csv("800\n"), Err(NotARecording::NoHeader));
    assert_eq!(Recording::parse_csv("rr_ms\n\n"), Err(NotARecording::Empty));
    assert_eq!(Recording::parse_csv("rr_ms\n800\n0.8\n"), Err(not(3, "0.8")));
    assert_eq!(Recording::parse_csv("rr_ms\n99\n"), Err(not(2, "99")));
    assert_eq!(Recording::parse_csv("rr_ms\n60001\n"), Err(not(2, "60001")));
}

/// Runs a sensor under a paused clock. Returns its output before `until`, with the times.
async fn heard(
    simulated: Simulated,
    until: Duration,
) -> Vec<(Duration, Result<Measurement, NoReading>)> {
    let (sender, mut observations) = mpsc::channel::<Observation>(1);
    let start = Instant::now();
    let mut heard = Vec::new();
    let listen = async {
        while let Some(observation) = observations.recv().await {
            heard.push((start.elapsed(), observation.outcome));
        }
    };
    tokio::select! {
        biased;
        () = time::sleep(until) => {}
        () = run_simulation(simulated, Outlet::new(SourceId(1), sender)) => {}
        () = listen => {}
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn each_step_is_said_at_its_time() {
    let heard = heard(lid(2), Duration::from_secs(21)).await;

    let seconds: Vec<_> = heard.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(seconds, [0, 8, 10, 18, 20]);
}

#[tokio::test(start_paused = true)]
async fn flat_out_takes_no_time_and_ends_when_nobody_listens() {
    let (sender, mut observations) = mpsc::channel(16);
    let simulated = Simulated { every: None, ..belt() };
    let start = Instant::now();
    let listen = async move {
        for _ in 0..10_000 {
            observations.recv().await.expect("an observation");
        }
    };

    tokio::join!(run_simulation(simulated, Outlet::new(SourceId(1), sender)), listen);

    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn flat_out_and_silent_leaves_the_thread_to_others() {
    let silences = vec![Duration::ZERO..Duration::MAX];
    let faults = Faults { silences, ..Faults::default() };
    let (sender, mut observations) = mpsc::channel(16);
    let simulated = Simulated { every: None, faults, ..belt() };

    tokio::select! {
        () = run_simulation(simulated, Outlet::new(SourceId(1), sender)) => panic!("it ended"),
        first = observations.recv() => assert!(first.expect("one").outcome.is_err()),
    }
}

proptest! {
    #[test]
    fn no_settings_cause_a_panic(
        mean in any::<f64>(), spread in any::<f64>(), every in any::<Option<Duration>>(),
        open in any::<Duration>(), seed in any::<u64>(), step in any::<u64>(), chance in any::<f64>(),
    ) {
        let faults = Faults {
            contact_lost: chance, spikes: chance, garbage: chance, bounces: u8::MAX, silences: vec![],
        };
        for kind in [
            SimulatedKind::HeartRate { mean_bpm: mean, spread, rr: true },
            SimulatedKind::Number { mean, spread },
            SimulatedKind::Line { open },
        ] {
            let faults = faults.clone();
            let simulated = Simulated { kind, every, seed, steps: vec![(open, mean)], faults };

            prop_assert!(!simulated.simulate_step(step).is_empty());
        }
    }

    #[test]
    fn no_text_causes_a_panic(text in "(rr_ms\n)?([0-9]{1,6}\r?\n|\\PC{0,4}\n){0,20}") {
        if let Ok(recording) = Recording::parse_csv(&text) {
            prop_assert!(recording.packet_count() > 0);
        }
    }
}
