//! What happens to a device, as four bytes an input: proptest shortens and shrinks them, and the corpus
//! keeps them as hexadecimal digits.

use std::fmt::Write as _;

/// One input. The first byte chooses what happens, the others how.
pub(crate) type Bytes = [u8; 4];

/// Inputs as the corpus and the message of a failure write them.
pub(crate) fn to_hex(inputs: &[Bytes]) -> String {
    let mut text = String::new();
    for byte in inputs.iter().flatten() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// Inputs of the corpus; `None` if the text is not one of [`to_hex`].
pub(crate) fn from_hex(text: &str) -> Option<Vec<Bytes>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    let whole = bytes.len().is_multiple_of(4) && text.len().is_multiple_of(2);
    whole.then(|| bytes.as_chunks().0.to_vec())
}

/// What happens to the sensors, the clock and the agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A reading arrives, so long after the input before.
    Reading { pause_ms: u64, source: usize, word: u8, late_ms: i64 },
    /// Readings of one source arrive one after the other, every so often.
    Stretch { source: usize, count: u64, every_ms: u64, first: u8, then: u8 },
    /// Time passes and the agent does not look at the clock.
    Pause { ms: u64 },
    /// Time passes, and then the agent decides what only time decides.
    Tick { ms: u64 },
    /// The agent decides at the moment that it asked for, if that comes within so long.
    Deadline { within_ms: u64 },
    /// What was heard and decided becomes durable.
    Commit,
    /// The agent ends and starts again, after a commit or by a crash.
    Restart { crash: bool, pause_ms: u64 },
    /// The device ends and starts again.
    KernelStart { crash: bool, off_ms: u64 },
    /// The configuration is loaded again: in another order, with one rule more or less.
    Reload { toggled: Option<usize>, rotate: usize },
}

impl Step {
    pub(crate) fn of(bytes: Bytes) -> Self {
        let [what, a, b, c] = bytes;
        let (wide_a, wide_b, wide_c) = (u64::from(a), u64::from(b), u64::from(c));
        match what % 32 {
            0..=15 => Self::Reading {
                pause_ms: wide_c * 20,
                source: usize::from(a % 5),
                word: b,
                late_ms: lateness(a / 5),
            },
            16 | 17 => Self::Stretch {
                source: usize::from(a % 5),
                count: wide_a / 5 % 32 + 1,
                every_ms: if what % 2 == 0 { 1_000 } else { 250 },
                first: b,
                then: c,
            },
            18 => Self::Pause { ms: wide_a * 40 },
            19 | 20 => Self::Tick { ms: wide_a * 40 },
            21 => Self::Tick { ms: wide_a * 700 },
            22 | 23 => Self::Deadline { within_ms: wide_a * 500 },
            24 | 25 => Self::Commit,
            26..=28 => Self::Restart { crash: b % 2 == 1, pause_ms: wide_a * 20 },
            29 => Self::KernelStart { crash: b % 2 == 1, off_ms: 30_000 + wide_a * 100 },
            // Times that are exactly as far apart as a limit.
            31 => Self::Reading {
                pause_ms: u64::from(c % 16) * 1_000,
                source: usize::from(a % 5),
                word: b,
                late_ms: 0,
            },
            _ => Self::Reload {
                toggled: (b % 2 == 1).then_some(usize::from(c)),
                rotate: usize::from(wide_b > 127),
            },
        }
    }
}

/// Mostly in time, sometimes late but within what counts, seldom too late.
fn lateness(choice: u8) -> i64 {
    match choice {
        0..20 => 0,
        20..48 => i64::from(choice - 19) * 170,
        _ => i64::from(choice - 47) * 5_000,
    }
}
