//! Every configuration that passes the check runs: random rules with all keys, and random readings
//! for them.

use std::fmt::Write as _;

use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_core::rules::{KernelBoot, Rules, TimedReading};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{Source, SourceId, Sources};

use super::{LEAST, expect_fault, path, rules::rule, with};
use crate::config::Config;

/// So many that are accepted are run: about one in five is.
const ACCEPTED: usize = 300;
/// Of no generator that is worth its time so few are accepted.
const AT_MOST: usize = 20 * ACCEPTED;
const READINGS: usize = 120;
const SOURCES: [(&str, &str); 4] =
    [("7", "heart_rate"), ("7", "heart_rate.rmssd"), ("feeder", "lid"), ("air", "number")];

/// One that `SEED=` has again.
fn random() -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn one<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    random.choice(of).expect("there is one")
}

const THRESHOLDS: &[&str] = &["-40", "0", "1", "30", "40.5", "45", "90", "120", "1e300"];
const PERIODS: &[&str] = &["1s", "1500ms", "2s", "7s", "30s", "60s", "61s", "1h", "1d"];

/// One of `keys` or several, each with a threshold.
fn thresholds(random: &mut fastrand::Rng) -> String {
    let number = |random: &mut fastrand::Rng| one(random, THRESHOLDS);
    match random.u8(..6) {
        0 | 1 => format!("above = {}", number(random)),
        2 => format!("below = {}", number(random)),
        3 => format!("below = {}, above = {}", number(random), number(random)),
        _ => format!("outside = [{}, {}]", number(random), number(random)),
    }
}

/// A member of `all` or `any`.
fn member(random: &mut fastrand::Rng) -> String {
    let (source, kind) = *random.choice(&SOURCES).expect("there is one");
    let test = match (kind, random.u8(..20)) {
        ("lid", 1..) | (_, 0) => format!("is = \"{}\"", one(random, &["open", "closed"])),
        (_, _) => thresholds(random),
    };
    let on = if random.bool() { format!("on = \"{kind}\", ") } else { String::new() };
    format!("{{ source = \"{source}\", {on}{test} }}")
}

/// When the rule fires: mostly by one condition.
fn condition(random: &mut fastrand::Rng) -> String {
    let mut lines = String::new();
    let (source, kind) = *random.choice(&SOURCES).expect("there is one");
    let is_joint = random.u8(..5) == 0;
    if !is_joint || random.u8(..20) == 0 {
        match random.u8(..10) {
            0..5 => writeln!(lines, "on = \"{kind}\""),
            5..8 => writeln!(lines, "source = \"{source}\""),
            _ => writeln!(lines, "on = \"{kind}\"\nsource = \"{source}\""),
        }
        .expect("a string takes all");
    }
    for _ in 0..=random.usize(..20) / 19 {
        let word = match (is_joint, kind, random.u8(..20)) {
            (true, _, at) => {
                let members: Vec<String> =
                    (0..random.usize(1..5)).map(|_| member(random)).collect();
                let word = if at < 10 { "all" } else { "any" };
                format!("{word} = [{}]", members.join(", "))
            }
            (_, _, 0 | 1) => format!("silent_for = \"{}\"", one(random, PERIODS)),
            (_, "heart_rate" | "number", 2 | 3) => {
                format!(
                    "anomaly = {{ learn = \"{}\", score = 3 }}",
                    one(random, &["1m", "90s", "1d"])
                )
            }
            (_, "lid", 4..) | (_, _, 4) => {
                format!("is = \"{}\"", one(random, &["open", "closed", "ajar"]))
            }
            (_, _, 5) => String::new(),
            (_, _, _) => thresholds(random).replace(", above", "\nabove"),
        };
        writeln!(lines, "{word}").expect("a string takes all");
    }
    lines
}

/// What can be said besides.
fn additions(random: &mut fastrand::Rng) -> String {
    let mut lines = String::new();
    let mut add = |random: &mut fastrand::Rng,
                   in_so_many: u8,
                   line: &dyn Fn(&mut fastrand::Rng) -> String| {
        if random.u8(..in_so_many) == 0 {
            writeln!(lines, "{}", line(random)).expect("a string takes all");
        }
    };
    let period = |random: &mut fastrand::Rng| one(random, PERIODS);
    add(random, 4, &|random| {
        let take = one(random, &["mean", "min", "max", "count", "sum", "rate"]);
        let length = match random.u8(..3) {
            0 => format!("tumbling = \"{}\"", period(random)),
            1 => format!("sliding = \"{}\"", period(random)),
            _ => format!("sliding = \"{}\", every = \"{}\"", period(random), period(random)),
        };
        format!("window = {{ {length}, take = \"{take}\" }}")
    });
    add(random, 4, &|random| {
        let side = one(random, &["above", "below"]);
        let number = one(random, THRESHOLDS);
        match random.u8(..4) {
            0 => format!("clear = {{ for = \"{}\" }}", period(random)),
            1 => format!("clear = {{ above = {number}, below = {} }}", one(random, THRESHOLDS)),
            2 => format!("clear = {{ {side} = {number}, for = \"{}\" }}", period(random)),
            _ => format!("clear = {{ {side} = {number} }}"),
        }
    });
    add(random, 6, &|random| format!("for = \"{}\"", period(random)));
    add(random, 6, &|random| format!("at_most_every = \"{}\"", period(random)));
    add(random, 12, &|random| format!("within = \"{}\"", one(random, &["1s", "5s", "1h"])));
    add(random, 6, &|random| format!("severity = \"{}\"", one(random, &["info", "critical"])));
    add(random, 6, &|random| {
        let then = ["alert", "capture:nest", "record:10s"];
        format!("then = [\"{}\"]", one(random, &then))
    });
    add(random, 4, &|random| {
        let source = one(random, &["7", "air", "7", "9"]);
        format!("limits = [{{ source = \"{source}\", {} }}]", thresholds(random))
    });
    lines
}

fn readings(random: &mut fastrand::Rng, sources: &Sources) -> Vec<Reading> {
    let ids: Vec<SourceId> = SOURCES
        .map(|(id, kind)| {
            sources.intern_source(Source { name: id.into(), kind: kind.into() }).unwrap()
        })
        .to_vec();
    let mut now = 3_600_000;
    let numbers = [-1e308, -40.0, 0.0, 1.0, 39.0, 44.0, 46.0, 80.0, 121.0, 1e308];
    let mut reading = || {
        now += *random.choice(&[0, 1, 400, 1_000, 6_000, 70_000, 7_200_000]).expect("there is one");
        let at = random.usize(..SOURCES.len());
        let is_state = SOURCES[at].1 == "lid" || random.u8(..30) == 0;
        let late = *random.choice(&[0, 3_000, 20_000, -60_000]).expect("there is one");
        let value = if is_state {
            Value::State(one(random, &["open", "closed"]).into())
        } else {
            Value::Number(*random.choice(&numbers).expect("there is one"))
        };
        let time = random.bool().then_some(Wall(i64::try_from(now).unwrap() - late));
        Reading { source: ids[at], mono: Mono(now), time, value, detail: None }
    };
    (0..READINGS).map(|_| reading()).collect()
}

/// Runs the rules of a configuration over random readings.
fn run(config: &Config, text: &str, random: &mut fastrand::Rng) {
    let (sources, boot, mut out) = (Sources::default(), KernelBoot(1), Vec::new());
    let rules = Rules::new(config.rules.to_vec());
    let mut rules = rules.unwrap_or_else(|error| panic!("accepted, and {error}:\n{text}"));
    rules.await_sources(boot, Mono(3_600_000), Wall(3_600_000), &sources);
    for reading in readings(random, &sources) {
        let event = reading.time.unwrap_or(Wall(i64::try_from(reading.mono.0).unwrap()));
        rules.fold_reading(&TimedReading { reading: &reading, boot, event }, &sources, &mut out);
        if random.bool() {
            rules.advance_time(boot, reading.mono, &mut out);
        }
    }
    rules.advance_time(boot, Mono(u64::MAX / 4), &mut out);
}

#[test]
fn whatever_the_check_accepts_runs() {
    let mut random = random();
    let mut accepted = 0;
    let mut made = 0;
    while accepted < ACCEPTED {
        assert!(made < AT_MOST, "only {accepted} of {made} are accepted");
        made += 1;
        let open = if random.bool() { "inbox = [{ path = \"a\" }]\n" } else { "" };
        let mut text = format!("{LEAST}\n{open}{}", rule(&condition(&mut random)));
        text = text.replace("name = \"P\" }", "name = \"P\", variability = true }");
        text += &additions(&mut random);
        if random.u8(..4) == 0 {
            let name = one(&mut random, &["r", "s", "s"]);
            write!(text, "[[rule]]\nname = \"{name}\"\n{}", condition(&mut random)).unwrap();
            text += &additions(&mut random);
        }
        if let Ok((config, _)) = Config::from_str_at(&text, path()) {
            accepted += 1;
            run(&config, &text, &mut random);
        }
    }
}

#[test]
fn silence_of_a_source_that_was_never_heard_is_raised_for_every_kind() {
    for kind in ["heart_rate", "heart_rate.rmssd", "heart_rate.sdnn_5m"] {
        let text = rule(&format!("on = \"{kind}\"\nsilent_for = \"90s\""));
        let text = text.replace("name = \"P\" }", "name = \"P\", variability = true }");
        let (config, _) = with(&text);
        let (sources, boot, mut raised) = (Sources::default(), KernelBoot(1), Vec::new());
        let mut rules = Rules::new(config.rules.to_vec()).unwrap();

        rules.await_sources(boot, Mono(1_000), Wall(1_000), &sources);
        rules.advance_time(boot, Mono(90_999), &mut raised);
        assert_eq!(raised, [], "{kind}");
        rules.advance_time(boot, Mono(91_000), &mut raised);

        let of: Vec<_> = raised.iter().map(|raised| sources.get(raised.source).unwrap()).collect();
        assert_eq!(of, [Source { name: "7".into(), kind: kind.into() }.into()], "{kind}");
    }
}

/// This was accepted, and switched every rule off.
#[test]
fn a_rule_may_clear_above_a_threshold_that_only_a_limit_gives() {
    let lines = "on = \"heart_rate\"\nabove = 120\nclear = { above = 45 }\n\
                 limits = [{ source = \"7\", below = 40 }]";

    let (config, _) = with(&rule(lines));

    run(&config, lines, &mut random());
    let lines = lines.replace("below = 40", "above = 150");
    let message = "`above` of `clear` has no effect: no `below` raises an alert";
    expect_fault(&rule(&lines), message, "45 }");
}
