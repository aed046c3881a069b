//! The answers to the lines of one read. Answers are kept as codes and converted to text in parts,
//! as the client reads them.

use super::fault::{Code, LineFault};
use super::{ChunkRefused, Receipt};

/// The bad lines of one read, each with the number of good lines before.
#[derive(Debug, Default)]
pub(super) struct LineFaults {
    codes: Vec<(u16, Code)>,
    /// The names of unknown fields, concatenated; the codes hold their lengths.
    names: String,
}

impl LineFaults {
    pub(super) fn push_fault(&mut self, good_before: usize, fault: &LineFault) {
        let good_before = u16::try_from(good_before).expect("bounded by BUFFER_BYTES");
        self.codes.push((good_before, fault.code));
        self.names.push_str(fault.name.as_deref().unwrap_or_default());
    }

    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Frees unused capacity.
    pub(super) fn shrink_to_fit(&mut self) {
        self.codes.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.codes.capacity() * size_of::<(u16, Code)>() + self.names.capacity()
    }
}

/// The answers to one read, and the part already written.
#[derive(Debug)]
pub(super) struct Answers {
    good: usize,
    faults: LineFaults,
    opening: String,
    /// The text after the sequence number.
    closing: &'static str,
    /// `None`: no good line was stored, and `opening` is the complete answer to each good line.
    first_seq: Option<u64>,
    written: AnswerPosition,
}

/// A position in the answers.
#[derive(Debug, Clone, Copy, Default)]
struct AnswerPosition {
    good: usize,
    faults: usize,
    /// The number of bytes of `faults.names` before this position.
    names: usize,
    /// The number of bytes of the next answer before this position.
    bytes: usize,
}

impl Answers {
    /// Creates the answers to a read of `good` good lines; `verdict` is `None` if there was no good
    /// line.
    pub(super) fn new(
        verdict: Option<Result<Receipt, ChunkRefused>>,
        good: usize,
        faults: LineFaults,
    ) -> Self {
        let (opening, closing, first_seq) = match verdict {
            Some(Ok(Receipt { start, first_seq, is_durable })) => {
                let closing = if is_durable { "\"}\n" } else { "\",\"durable\":false}\n" };
                (format!("{{\"id\":\"{start}-"), closing, Some(first_seq))
            }
            Some(Err(ChunkRefused(reason))) => (error_line(&reason, None), "", None),
            None => (String::new(), "", None),
        };
        Self { good, faults, opening, closing, first_seq, written: AnswerPosition::default() }
    }

    /// Returns the number of stored lines.
    pub(super) fn stored_lines(&self) -> usize {
        if self.first_seq.is_some() { self.good } else { 0 }
    }

    /// Appends the unwritten answers until `out` holds at least `limit` bytes. Returns `true` if no
    /// answer is left.
    pub(super) fn encode_pending(&self, out: &mut Vec<u8>, limit: usize) -> bool {
        let mut at = self.written;
        let start = out.len();
        let mut digits = itoa::Buffer::new();
        while out.len() < limit {
            if !self.is_fault_next(at) {
                if at.good == self.good {
                    break;
                }
                out.extend_from_slice(self.opening.as_bytes());
                if let Some(first_seq) = self.first_seq {
                    let seq = first_seq + u64::try_from(at.good).unwrap_or(0);
                    out.extend_from_slice(digits.format(seq).as_bytes());
                    out.extend_from_slice(self.closing.as_bytes());
                }
            } else if let Some((_, code)) = self.faults.codes.get(at.faults) {
                let name = self.field_name(at, *code);
                out.extend_from_slice(error_line(&code.to_string(), name).as_bytes());
            }
            self.skip_answer(&mut at);
        }
        out.drain(start..start + self.written.bytes.min(out.len() - start));
        at.good == self.good && at.faults == self.faults.len()
    }

    /// Marks `written`, a prefix of the encoded text, as written.
    pub(super) fn skip_written(&mut self, written: &[u8]) {
        let mut at = self.written;
        for _ in memchr::memchr_iter(b'\n', written) {
            self.skip_answer(&mut at);
        }
        at.bytes = match memchr::memrchr(b'\n', written) {
            Some(end) => written.len() - end - 1,
            None => at.bytes + written.len(),
        };
        self.written = at;
    }

    fn is_fault_next(&self, at: AnswerPosition) -> bool {
        let next = self.faults.codes.get(at.faults);
        next.is_some_and(|(good_before, _)| usize::from(*good_before) == at.good)
    }

    fn field_name(&self, at: AnswerPosition, code: Code) -> Option<&str> {
        if let Code::UnknownField(length) = code {
            return self.faults.names.get(at.names..at.names + usize::from(length));
        }
        code.field_name()
    }

    /// Moves the position past one answer.
    fn skip_answer(&self, at: &mut AnswerPosition) {
        match self.faults.codes.get(at.faults) {
            Some((good_before, code)) if usize::from(*good_before) == at.good => {
                at.faults += 1;
                if let Code::UnknownField(length) = code {
                    at.names += usize::from(*length);
                }
            }
            _ => at.good += 1,
        }
    }
}

fn error_line(error: &str, field: Option<&str>) -> String {
    let mut line = format!("{{\"error\":{}", quote_json(error));
    if let Some(field) = field {
        line.push_str(",\"field\":");
        line.push_str(&quote_json(field));
    }
    line.push_str("}\n");
    line
}

fn quote_json(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

#[cfg(test)]
mod tests {
    use super::super::fault::{LineField, Wrong};
    use super::*;

    fn written(mut answers: Answers, piece: usize) -> String {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        loop {
            out.clear();
            let is_all = answers.encode_pending(&mut out, piece);
            let taken = piece.min(out.len());
            answers.skip_written(&out[..taken]);
            all.extend_from_slice(&out[..taken]);
            if is_all && taken == out.len() {
                return String::from_utf8(all).expect("UTF-8");
            }
        }
    }

    fn faults_after(good_before: &[usize]) -> LineFaults {
        let mut faults = LineFaults::default();
        for good in good_before {
            faults.push_fault(*good, &LineFault::unknown_field("a\"b"));
        }
        faults.push_fault(2, &LineFault::in_field(LineField::Value, Wrong::Missing));
        faults
    }

    #[test]
    fn errors_stand_where_their_lines_stood_in_whatever_pieces_they_are_read() {
        let unknown = "{\"error\":\"unknown field\",\"field\":\"a\\\"b\"}\n";
        let missing = "{\"error\":\"missing\",\"field\":\"value\"}\n";
        let expected = format!(
            "{unknown}{{\"id\":\"12-99\"}}\n{unknown}{unknown}{{\"id\":\"12-100\"}}\n{unknown}{missing}"
        );
        for piece in 1..expected.len() + 1 {
            let receipt = Receipt { start: "12".into(), first_seq: 99, is_durable: true };
            let verdict = Some(Ok(receipt));

            let text = written(Answers::new(verdict, 2, faults_after(&[0, 1, 1, 2])), piece);

            assert_eq!(text, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_not_durable_is_answered_as_such() {
        let receipt = Receipt { start: "12".into(), first_seq: 9, is_durable: false };
        let expected =
            "{\"id\":\"12-9\",\"durable\":false}\n{\"id\":\"12-10\",\"durable\":false}\n";

        for piece in 1..expected.len() + 1 {
            let answers = Answers::new(Some(Ok(receipt.clone())), 2, LineFaults::default());

            assert_eq!(written(answers, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_was_not_stored_is_an_error_on_each_line() {
        let verdict = Some(Err(ChunkRefused("disk full".to_owned())));

        let answers = Answers::new(verdict, 2, LineFaults::default());

        assert_eq!(answers.stored_lines(), 0);
        assert_eq!(written(answers, 7), "{\"error\":\"disk full\"}\n".repeat(2));
    }

    #[test]
    fn a_bad_line_costs_six_bytes_until_its_answer_is_written() {
        let mut faults = LineFaults::default();
        for _ in 0..1000 {
            faults.push_fault(0, &LineFault::in_field(LineField::Value, Wrong::Missing));
        }
        faults.shrink_to_fit();

        assert_eq!(faults.heap_bytes(), 6000);
    }
}
