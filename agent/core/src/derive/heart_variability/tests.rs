//! Heart-rate variability compared with reference figures, and with ectopic and lost beats.

use super::*;

const RECORDING: &str = include_str!("../../../../../tests/data/rr-60min.csv");
const REFERENCE: &str = include_str!("../../../../../tests/data/hrv-reference.json");

fn recording() -> Vec<f64> {
    RECORDING.lines().skip(1).map(|line| line.parse().expect("milliseconds")).collect()
}

fn reference(key: &str) -> f64 {
    let reference: serde_json::Value = serde_json::from_str(REFERENCE).expect("JSON");
    reference[key].as_f64().expect("a number")
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

fn packet(rr: &[u16]) -> HeartDetail {
    HeartDetail { contact: Contact::Unsupported, energy_kj: None, rr: rr.to_vec() }
}

/// Converts an interval from milliseconds to the raw unit, 1/1024 s.
fn raw(rr_ms: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let raw = (rr_ms * 1.024).round() as u16;
    raw
}

/// Adds one packet per beat, each at the end of its interval, and returns the figures.
fn follow(heart: &mut HeartVariability, rr_ms: impl IntoIterator<Item = f64>) -> Told {
    let (mut told, mut now) = (Vec::new(), heart.heard.unwrap_or(Mono(1_000)));
    for rr_ms in rr_ms {
        now = now + Duration::from_secs_f64(rr_ms / 1000.0);
        heart.add_packet(now, &packet(&[raw(rr_ms)]), &mut told);
    }
    told
}

type Told = Vec<(Derived, f64)>;

fn all(told: &Told, derived: Derived) -> Vec<f64> {
    told.iter().filter(|(what, _)| *what == derived).map(|(_, value)| *value).collect()
}

/// Returns the intervals of a calm heart with a slight influence of breathing.
fn calm(beats: u32) -> impl Iterator<Item = f64> {
    (0..beats).map(|beat| if beat % 2 == 0 { 800.0 } else { 840.0 })
}

#[test]
fn an_hour_of_a_heart_gives_the_figures_of_the_reference() {
    let recording = recording();

    let figures = Figures::from_rr_ms(&recording).expect("figures");

    assert_eq!(f64::from(u32::try_from(recording.len()).unwrap()), reference("beats"));
    assert_near(figures.mean_rr_ms, reference("mean_rr_ms"), 1e-9);
    assert_near(figures.sdnn_ms, reference("sdnn_ms"), 1e-9);
    assert_near(figures.rmssd_ms, reference("rmssd_ms"), 1e-9);
    assert_near(figures.pnn50_percent, reference("pnn50_percent_of_differences"), 1e-9);
}

#[test]
fn no_difference_no_figures() {
    assert_eq!(Figures::from_rr_ms(&[]), None);
    assert_eq!(Figures::from_rr_ms(&[800.0]), None);
    assert!(Figures::from_rr_ms(&[800.0, 810.0]).is_some());
}

#[test]
fn a_minute_of_a_calm_heart_is_what_arithmetic_says() {
    let told = follow(&mut HeartVariability::default(), calm(74));

    let (low, high) = (f64::from(raw(800.0)) / 1.024, f64::from(raw(840.0)) / 1.024);
    assert_eq!(all(&told, Derived::MeanRr).len(), 1);
    assert_near(all(&told, Derived::MeanRr)[0], f64::midpoint(low, high), 0.3);
    assert_near(all(&told, Derived::Rmssd)[0], high - low, 1e-9);
    assert_near(all(&told, Derived::Pnn50)[0], 0.0, 0.0);
    assert_near(all(&told, Derived::MeanRate)[0], 73.17, 0.05);
    assert_eq!(all(&told, Derived::Lost), [0.0]);
    assert!(all(&told, Derived::Rmssd5).is_empty());
}

#[test]
fn an_hour_is_sixty_minutes_and_twelve_times_five() {
    let told = follow(&mut HeartVariability::default(), recording());

    assert_eq!(all(&told, Derived::Ectopic).len(), 59, "3599.365 s");
    assert_eq!(all(&told, Derived::Sdnn5).len(), 11);
    let set_aside: f64 =
        all(&told, Derived::Ectopic).iter().chain(&all(&told, Derived::Lost)).sum();
    assert!(set_aside < 0.03 * reference("beats"), "{set_aside} of a healthy heart");
    let means = all(&told, Derived::MeanRr5);
    let mean = means.iter().sum::<f64>() / to_f64(means.len());
    assert_near(mean, reference("mean_rr_ms"), 10.0);
}

#[test]
fn an_ectopic_beat_is_set_aside_counted_and_no_difference_is_taken_across_it() {
    let early = [500.0, 1180.0];
    let beats = calm(20).chain(early).chain(calm(53));

    let told = follow(&mut HeartVariability::default(), beats);

    assert_eq!(all(&told, Derived::Ectopic), [2.0]);
    let calm = follow(&mut HeartVariability::default(), calm(74));
    assert_near(all(&told, Derived::Rmssd)[0], all(&calm, Derived::Rmssd)[0], 1e-9);
}

#[test]
fn lost_beats_are_counted_from_long_intervals_and_from_holes() {
    let mut heart = HeartVariability::default();
    let mut told = follow(&mut heart, calm(20).chain([1640.0]));
    let after_a_hole = heart.heard.unwrap() + Duration::from_secs(5);
    heart.add_packet(after_a_hole, &packet(&[raw(820.0)]), &mut told);
    told.extend(follow(&mut heart, calm(60)));

    assert_eq!(all(&told, Derived::Lost), [1.0 + 5.0], "1, and 4.2 s of beats");
    assert_eq!(all(&told, Derived::Ectopic), [0.0]);
}

#[test]
fn a_long_hole_begins_the_minute_anew() {
    let mut heart = HeartVariability::default();
    let mut told = follow(&mut heart, calm(60));
    heart.add_packet(
        heart.heard.unwrap() + Duration::from_secs(60),
        &packet(&[raw(820.0)]),
        &mut told,
    );
    told.extend(follow(&mut heart, calm(60)));

    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_new_pace_is_believed_after_a_few_beats() {
    let pace = |rr_ms| std::iter::repeat_n(rr_ms, 100);

    let told = follow(&mut HeartVariability::default(), pace(900.0).chain(pace(600.0)));

    assert_eq!(all(&told, Derived::Ectopic).iter().sum::<f64>(), 5.0);
}

#[test]
fn a_minute_of_which_most_was_set_aside_has_counts_but_no_figures() {
    let told = follow(&mut HeartVariability::default(), std::iter::repeat_n(250.0, 250));

    assert_eq!(all(&told, Derived::Ectopic).len(), 1);
    assert!(all(&told, Derived::Rmssd).is_empty());
}

#[test]
fn without_contact_beats_tell_nothing() {
    let mut heart = HeartVariability::default();
    let mut told = Vec::new();
    for second in 0..200 {
        let contact = if second % 2 == 0 { Contact::Detected } else { Contact::Lost };
        let detail = HeartDetail { contact, ..packet(&[1024]) };
        heart.add_packet(Mono(second * 1000), &detail, &mut told);
    }

    assert_eq!(all(&told, Derived::Ectopic).len(), 1);
    assert_near(all(&told, Derived::Contact)[0], 50.0, 1.0);
    assert!(all(&told, Derived::Rmssd).is_empty(), "no two beats followed each other");
}

#[test]
fn energy_is_what_was_spent_also_across_a_reset() {
    let mut heart = HeartVariability::default();
    let mut told = Vec::new();
    for (second, energy) in (0..60).map(|second| (second, if second < 30 { 100 } else { 7 })) {
        let detail = HeartDetail { energy_kj: Some(energy), ..packet(&[1024]) };
        heart.add_packet(Mono(second * 1000), &detail, &mut told);
    }

    assert_eq!(all(&told, Derived::Energy), [7.0]);
}

#[test]
fn energy_of_a_long_hole_belongs_to_no_minute() {
    for is_in_the_first_packet in [true, false] {
        let (mut heart, mut told) = (HeartVariability::default(), Vec::new());
        let mut hear = |second: u64, energy_kj| {
            let detail = HeartDetail { energy_kj, ..packet(&[1024]) };
            heart.add_packet(Mono(second * 1000), &detail, &mut told);
        };
        (0..10).for_each(|second| hear(second, Some(100)));
        for second in 600..660 {
            let energy = if second < 630 { 500 } else { 507 };
            hear(second, (second > 600 || is_in_the_first_packet).then_some(energy));
        }

        assert_eq!(all(&told, Derived::Energy), [7.0], "{is_in_the_first_packet}");
    }
}

#[test]
fn no_bytes_of_a_packet_do_harm() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut heart, mut told, mut now) = (HeartVariability::default(), Vec::new(), 0);
    for _ in 0..20_000 {
        now += random.u64(0..12_000);
        let rr: Vec<u16> = (0..random.usize(0..9)).map(|_| random.u16(..)).collect();
        let energy_kj = random.bool().then(|| random.u16(..));
        let contact = random.choice([Contact::Lost, Contact::Detected]).unwrap();
        heart.add_packet(Mono(now), &HeartDetail { contact, energy_kj, rr }, &mut told);
    }

    assert!(heart.intervals.len() < 1_100);
    assert!(told.iter().all(|(_, value)| value.is_finite() && *value >= 0.0));
}
