//! What a client is told.

use super::line::Fault;
use super::{Receipt, Refused};

/// The bad lines of one read: each with how many good ones came before it.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<(usize, Box<str>)>,
    bytes: usize,
}

impl Faults {
    pub(super) fn push(&mut self, good_before: usize, fault: &Fault) {
        let line = error_line(fault).into_boxed_str();
        self.bytes += line.len();
        self.faults.push((good_before, line));
    }

    pub(super) fn len(&self) -> usize {
        self.faults.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// What their answers take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the answers to these lines alone. Returns how many were stored: none.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> usize {
        self.faults.iter().for_each(|(_, line)| out.extend_from_slice(line.as_bytes()));
        0
    }

    /// Appends the answers to `good` lines with these among them. Returns how many were stored.
    pub(super) fn write_among(
        &self,
        out: &mut Vec<u8>,
        good: usize,
        verdict: &Result<Receipt, Refused>,
    ) -> usize {
        let mut answers = Answers::new(verdict);
        let mut answered = 0;
        for (good_before, line) in &self.faults {
            answers.write(out, good_before - answered);
            answered = *good_before;
            out.extend_from_slice(line.as_bytes());
        }
        answers.write(out, good - answered);
        if verdict.is_ok() { good } else { 0 }
    }
}

/// The answers to good lines, in order.
enum Answers {
    Ids { opening: String, seq: u64 },
    Error(String),
}

impl Answers {
    fn new(verdict: &Result<Receipt, Refused>) -> Self {
        match verdict {
            Ok(Receipt { start, first_seq }) => {
                Self::Ids { opening: format!("{{\"id\":\"{start}-"), seq: *first_seq }
            }
            Err(Refused(reason)) => Self::Error(error_line(&Fault::line(reason.clone()))),
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, count: usize) {
        match self {
            Self::Ids { opening, seq } => {
                let mut digits = itoa::Buffer::new();
                for _ in 0..count {
                    out.extend_from_slice(opening.as_bytes());
                    out.extend_from_slice(digits.format(*seq).as_bytes());
                    out.extend_from_slice(b"\"}\n");
                    *seq += 1;
                }
            }
            Self::Error(line) => (0..count).for_each(|_| out.extend_from_slice(line.as_bytes())),
        }
    }
}

fn error_line(fault: &Fault) -> String {
    let mut line = format!("{{\"error\":{}", quoted(&fault.error));
    if let Some(field) = &fault.field {
        line.push_str(",\"field\":");
        line.push_str(&quoted(field));
    }
    line.push_str("}\n");
    line
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(verdict: &Result<Receipt, Refused>, good: usize, faults: &Faults) -> String {
        let mut out = Vec::new();
        faults.write_among(&mut out, good, verdict);
        String::from_utf8(out).expect("UTF-8")
    }

    fn faults_after(good_before: &[usize]) -> Faults {
        let mut faults = Faults::default();
        for good in good_before {
            faults.push(*good, &Fault::field("a\"b", "wrong"));
        }
        faults
    }

    #[test]
    fn errors_stand_where_their_lines_stood() {
        let faults = faults_after(&[0, 1, 1, 2]);

        let text = written(&Ok(Receipt { start: "12k3f9x2ab".into(), first_seq: 99 }), 2, &faults);

        let wrong = "{\"error\":\"wrong\",\"field\":\"a\\\"b\"}\n";
        let expected = format!(
            "{wrong}{{\"id\":\"12k3f9x2ab-99\"}}\n{wrong}{wrong}{{\"id\":\"12k3f9x2ab-100\"}}\n{wrong}"
        );
        assert_eq!(text, expected);
        assert_eq!(faults.bytes(), 4 * wrong.len());
    }

    #[test]
    fn what_was_not_stored_is_an_error_on_each_line() {
        let text = written(&Err(Refused("disk full".to_owned())), 2, &Faults::default());

        assert_eq!(text, "{\"error\":\"disk full\"}\n".repeat(2));
    }
}
