//! The inputs of a device, each of four bytes: proptest shrinks the bytes, and the corpus stores
//! them as hexadecimal digits.

use std::fmt::Write as _;

/// One input. The first byte selects the kind, the others give the details.
pub(crate) type Bytes = [u8; 4];

/// Returns the hexadecimal text of inputs, for the corpus and the messages of failures.
pub(crate) fn to_hex(inputs: &[Bytes]) -> String {
    let mut text = String::new();
    for byte in inputs.iter().flatten() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// Parses the text of [`to_hex`]; `None` for any other text.
pub(crate) fn from_hex(text: &str) -> Option<Vec<Bytes>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = text.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    let whole = bytes.len().is_multiple_of(4) && text.len().is_multiple_of(2);
    whole.then(|| bytes.as_chunks().0.to_vec())
}

/// An input for the sensors, the clock or the agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// A reading arrives `pause_ms` after the previous input.
    Reading { pause_ms: u64, source: usize, word: u8, late_ms: i64 },
    /// Readings of one source arrive at regular intervals.
    Stretch { source: usize, count: u64, every_ms: u64, first: u8, then: u8 },
    /// Time passes without a tick.
    Pause { ms: u64 },
    /// Time passes, followed by a tick.
    Tick { ms: u64 },
    /// A tick follows at the next deadline, if the deadline lies within `within_ms`.
    Deadline { within_ms: u64 },
    /// All readings and decisions become durable.
    Commit,
    /// The agent restarts, after a commit or by a crash.
    Restart { crash: bool, pause_ms: u64 },
    /// The device restarts.
    KernelStart { crash: bool, off_ms: u64 },
    /// The configuration is loaded again: with the rules in another order, or with one rule more or
    /// less.
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
            // Whole seconds, to meet the limits exactly.
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

/// Returns a delay in milliseconds: mostly 0, sometimes within the lateness, seldom above.
fn lateness(choice: u8) -> i64 {
    match choice {
        0..20 => 0,
        20..48 => i64::from(choice - 19) * 170,
        _ => i64::from(choice - 47) * 5_000,
    }
}
