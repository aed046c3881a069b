//! A reference for the decisions of the core: random inputs drive the real rules and visits and, beside
//! them, a slow and obvious reference, which works everything out anew from the whole history after each
//! input. Both must say the same: alerts with their values, windows and times, visits, and what stands.
//!
//! The reference shares no code with the core but its input and output types (`imports.rs`) and the
//! horizon of a rebuild, which the core gives. A restart, a reload of the rules or a crash changes the answer of the
//! reference only where the engine documents that it forgets: see `is_uncertain` in `decisions.rs` and `Entry::Began`
//! in `history.rs`.
//!
//! Delivery, batches and pace are driven in the same way, against a ledger of what became of each record
//! (`cloud.rs`): none is lost, none counts twice in one pass, alerts go first, and no topic that the broker
//! refuses holds up another.
//!
//! The timeline is compared with all that the clock ever said (`clock.rs`).
//!
//! `corpus.txt` keeps inputs that failed once and runs them first. `PULSEGATE_REFERENCE_CASES` is the number
//! of random cases, [`CASES`] without it; of delivery, which takes longer, an eighth of it.

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

/// Takes some seconds in a debug build.
const CASES: u32 = 200;
/// Inputs that failed once, each with a line that says what was wrong.
const CORPUS: &str = include_str!("corpus.txt");

/// How many random cases to run.
fn cases() -> u32 {
    let asked = std::env::var("PULSEGATE_REFERENCE_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(CASES)
}

/// Runs the inputs that the corpus keeps under `name`, then random ones.
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
