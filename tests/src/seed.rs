//! Seeds of randomised tests.

#![expect(clippy::print_stdout, reason = "the seed of a failed test")]

/// Returns the seed of a randomised test, and prints it: the one that the variable `SEED` names, which
/// repeats a run that failed, or else a new one.
///
/// # Panics
/// When `SEED` is no number.
#[must_use]
pub fn choose_seed() -> u64 {
    let seed = given_seed().unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    seed
}

/// Returns the seed that the variable `SEED` names, if there is one.
///
/// # Panics
/// When it is no number.
#[must_use]
pub fn given_seed() -> Option<u64> {
    let seed = std::env::var("SEED").ok()?;
    Some(seed.parse().unwrap_or_else(|_| panic!("`SEED` must be a number, not `{seed}`")))
}
