//! A reference for the decisions of the core. Random inputs drive the real rules and visits, and a
//! slow and simple reference that computes all results from the complete history after each input.
//! Both must give the same alerts with their values, windows and times, the same visits, and the
//! same raised alarms.
//!
//! The reference shares no code with the core except the input and output types (`imports.rs`) and
//! the horizon of a rebuild. A restart, a reload of the rules or a crash changes the results of the
//! reference only if the engine documents a loss of state: see `is_uncertain` in `decisions.rs` and
//! `Entry::Began` in `history.rs`.
//!
//! Delivery, batches and pace are driven in the same way, against a ledger of the fate of each
//! record (`cloud.rs`): no record is lost, no record counts twice in one pass, alerts are sent
//! first, and no refused topic delays another topic.
//!
//! The timeline is compared with the complete history of the clock (`clock.rs`).
//!
//! `corpus.txt` lists inputs of earlier failures; each run begins with them.
//! `PULSEGATE_REFERENCE_CASES` sets the number of random cases, [`CASES`] by default. Delivery
//! takes longer and runs an eighth of the cases.

mod alarms;
mod clock;
mod cloud;
mod decisions;
mod device;
mod flapping;
mod history;
mod imports;
mod inputs;
mod rules;
mod scenario;
mod silence;
mod visits;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use inputs::Bytes;

/// The default number of random cases: takes some seconds in a debug build.
const CASES: u32 = 200;
/// The inputs of earlier failures, each with a comment on the fault.
const CORPUS: &str = include_str!("corpus.txt");

/// Returns the number of random cases.
fn cases() -> u32 {
    let asked = std::env::var("PULSEGATE_REFERENCE_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(CASES)
}

/// Runs the inputs of the corpus with the name `name`, then `cases` random inputs.
fn run(
    name: &str,
    cases: u32,
    check: impl Fn(&[Bytes]) -> Result<(), String>,
    words: impl Fn(&[Bytes]) -> String,
) {
    let mut kept = 0;
    for line in CORPUS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (of, hex) = line.split_once(' ').expect("a name and inputs");
        let inputs = inputs::from_hex(hex).expect("hexadecimal digits, eight an input");
        if of == name {
            kept += 1;
            check(&inputs).unwrap_or_else(|fault| panic!("{fault}\nin the corpus: {line}"));
        }
    }
    assert!(kept > 0, "the corpus has nothing of `{name}`");
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let inputs = proptest::collection::vec(any::<Bytes>(), 2..90);
    let outcome =
        TestRunner::new(config).run(&inputs, |inputs| check(&inputs).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(fault, inputs)) => {
            panic!(
                "{}\n{fault}\nfor the corpus: {name} {}",
                words(&inputs),
                inputs::to_hex(&inputs)
            );
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn rules_and_visits_say_what_the_reference_says() {
    run("decisions", cases(), decisions::check, decisions::words);
}

#[test]
fn delivery_does_to_each_record_what_the_ledger_says() {
    run("cloud", cases() / 8, cloud::check, cloud::words);
}

#[test]
fn the_timeline_says_what_all_looks_at_the_clock_together_say() {
    run("clock", cases(), clock::check, clock::words);
}

#[test]
fn inputs_are_kept_as_text() {
    let inputs = vec![[0, 1, 254, 255], [16, 0, 0, 9]];

    assert_eq!(inputs::from_hex(&inputs::to_hex(&inputs)), Some(inputs));
    assert_eq!(inputs::from_hex("00112"), None);
    assert_eq!(inputs::from_hex("zz112233"), None);
}
