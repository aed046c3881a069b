//! Where lines become entries: the one buffer and the one memory that all clients share.
//!
//! Clients take turns at it, so its cost does not grow with their number. A client itself keeps
//! only the beginning of a line whose end has not come yet.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{self, AsyncRead, ReadBuf};

use super::answer::Faults;
use super::line::{self, Fault, Line, Value};
use super::stamp::Calendar;
use super::{Admission, Entry, EntryValue, MAX_LINE_BYTES};
use crate::forbidden::Forbidden;
use crate::{MAX_NAME_BYTES, Source, SourceId, Sources, is_kind};

/// What one read takes at most: large enough that its system calls do not count beside its lines.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// What a line takes at least, so that room for the entries is made once: `{"source":"7",...}`
/// with a short value and no time.
const USUAL_LINE_BYTES: usize = 48;
/// Bounds what a flood of bad lines costs: an error is longer than the line that it is about.
const MAX_FAULTS: usize = 256;
/// More programs' sources than a gateway usually has; a power of two.
const REMEMBERED: usize = 256;

const _: () = assert!(BUFFER_BYTES > MAX_LINE_BYTES && REMEMBERED.is_power_of_two());

/// What a client has sent of a line or lines that are not dealt with.
#[derive(Debug, Default)]
pub(super) struct Intake {
    kept: Vec<u8>,
    /// There may be complete lines in `kept`.
    unfinished: bool,
    /// The rest of an over-long line is still to come.
    skipping: bool,
    eof: bool,
}

impl Intake {
    /// Whether everything that the client will ever send was dealt with.
    pub(super) fn is_over(&self) -> bool {
        self.eof && !self.unfinished
    }
}

/// What the lines of one read said.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) faults: Faults,
    /// How much was read for it.
    pub(super) bytes: usize,
}

/// The buffer, and who is known at it.
#[derive(Debug)]
pub(super) struct Desk {
    buffer: Vec<u8>,
    register: Register,
}

impl Desk {
    pub(super) fn new(admission: Admission, forbidden: Forbidden, sources: Arc<Sources>) -> Self {
        let register = Register::new(admission, forbidden, sources);
        Self { buffer: vec![0; BUFFER_BYTES], register }
    }

    /// Reads once, behind what `intake` kept, and deals with all lines that are complete.
    pub(super) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        intake: &mut Intake,
    ) -> Poll<io::Result<Batch>> {
        let kept = intake.kept.len();
        let mut filled = kept;
        if !intake.unfinished {
            let mut buffer = ReadBuf::new(&mut self.buffer[kept..]);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            intake.eof = buffer.filled().is_empty();
            filled += buffer.filled().len();
        }
        self.buffer[..kept].copy_from_slice(&intake.kept);
        Poll::Ready(Ok(self.sort(intake, filled)))
    }

    /// Deals with the lines in the buffer; keeps in `intake` what it has to leave.
    fn sort(&mut self, intake: &mut Intake, filled: usize) -> Batch {
        let Self { buffer, register } = self;
        let mut rest = &buffer[..filled];
        let mut batch = Batch {
            entries: Vec::with_capacity(filled / USUAL_LINE_BYTES + 1),
            faults: Faults::default(),
            bytes: filled - intake.kept.len(),
        };
        intake.unfinished = false;
        while let Some((line, after)) = next_line(rest, intake.eof) {
            if batch.faults.len() == MAX_FAULTS {
                intake.unfinished = true;
                break;
            }
            rest = after;
            if !std::mem::take(&mut intake.skipping) {
                batch.take(register.entry(line));
            }
        }
        if !intake.unfinished && (intake.skipping || rest.len() > MAX_LINE_BYTES) {
            if !std::mem::replace(&mut intake.skipping, true) {
                batch.take(Some(Err(too_long())));
            }
            rest = &[];
        }
        intake.kept.clear();
        intake.kept.extend_from_slice(rest);
        batch
    }
}

impl Batch {
    fn take(&mut self, line: Option<Result<Entry, Fault>>) {
        match line {
            Some(Ok(entry)) => self.entries.push(entry),
            Some(Err(fault)) => self.faults.push(self.entries.len(), &fault),
            None => {}
        }
    }
}

/// The first line and what follows it. The end of everything also ends a line.
fn next_line(text: &[u8], eof: bool) -> Option<(&[u8], &[u8])> {
    match memchr::memchr(b'\n', text) {
        Some(end) => Some((&text[..end], &text[end + 1..])),
        None if eof && !text.is_empty() => Some((text, &[])),
        None => None,
    }
}

fn too_long() -> Fault {
    Fault::line(format!("longer than {MAX_LINE_BYTES} bytes"))
}

/// Turns what a line says into an entry.
#[derive(Debug)]
pub(super) struct Register {
    admission: Admission,
    forbidden: Forbidden,
    sources: Arc<Sources>,
    /// Sources that spoke lately, each at the place that its names hash to.
    known: Box<[Option<Known>]>,
    /// The place of the one that spoke last, and most likely speaks again.
    latest: usize,
    calendar: Calendar,
}

#[derive(Debug)]
struct Known {
    source: Box<str>,
    kind: Box<str>,
    id: SourceId,
}

impl Register {
    pub(super) fn new(admission: Admission, forbidden: Forbidden, sources: Arc<Sources>) -> Self {
        let known = (0..REMEMBERED).map(|_| None).collect();
        Self { admission, forbidden, sources, known, latest: 0, calendar: Calendar::default() }
    }

    /// `None`: there is nothing on the line.
    pub(super) fn entry(&mut self, line: &[u8]) -> Option<Result<Entry, Fault>> {
        if line.len() > MAX_LINE_BYTES {
            return Some(Err(too_long()));
        }
        if line.trim_ascii().is_empty() {
            return None;
        }
        Some(line::parse(line).and_then(|line| self.check(line)))
    }

    fn check(&mut self, line: Line<'_>) -> Result<Entry, Fault> {
        let time_ms = match line.time {
            Some(time) => Some(self.calendar.milliseconds(&time)?),
            None => None,
        };
        let value = match line.value {
            Value::Number(number) => EntryValue::Number(number),
            Value::State(word) => {
                self.opaque("value", &word)?;
                EntryValue::State(state(&word)?.into())
            }
        };
        // Last, so that a refused line takes no number from the table.
        let source = self.source(&line.source, &line.kind)?;
        Ok(Entry { source, time_ms, value })
    }

    fn source(&mut self, source: &str, kind: &str) -> Result<SourceId, Fault> {
        if let Some(id) = self.recall(self.latest, source, kind) {
            return Ok(id);
        }
        self.latest = place(source, kind);
        if let Some(id) = self.recall(self.latest, source, kind) {
            return Ok(id);
        }
        let id = self.intern(source, kind)?;
        self.known[self.latest] = Some(Known { source: source.into(), kind: kind.into(), id });
        Ok(id)
    }

    fn recall(&self, place: usize, source: &str, kind: &str) -> Option<SourceId> {
        let known = self.known[place].as_ref()?;
        (*known.source == *source && *known.kind == *kind).then_some(known.id)
    }

    fn intern(&self, source: &str, kind: &str) -> Result<SourceId, Fault> {
        let checked = Source::new(source, kind).map_err(|_| {
            if is_kind(kind) {
                Fault::field("source", "not 1 to 64 of A-Z a-z 0-9 . _ : -")
            } else {
                Fault::field("kind", "not 1 to 64 of a-z 0-9 _, a letter first")
            }
        })?;
        if !self.admission.admits(source) {
            return Err(Fault::field("source", "may not speak here"));
        }
        // Those that are known were looked at when they spoke first.
        self.opaque("source", source)?;
        self.opaque("kind", kind)?;
        self.sources.intern(checked).map_err(|full| Fault::field("source", full.to_string()))
    }

    /// Names nobody and no place that the operator knows of. The answer does not repeat the text.
    fn opaque(&self, field: &'static str, text: &str) -> Result<(), Fault> {
        if self.forbidden.is_in(text) {
            return Err(Fault::field(field, "a text that `privacy.forbidden` lists"));
        }
        Ok(())
    }
}

fn state(word: &str) -> Result<&str, Fault> {
    if !(1..=MAX_NAME_BYTES).contains(&word.len()) {
        return Err(Fault::field("value", "a word of 1 to 64 bytes"));
    }
    if word.chars().any(char::is_control) {
        return Err(Fault::field("value", "a word without control characters"));
    }
    Ok(word)
}

/// FNV-1a over the names: short, and good enough to keep neighbours apart.
fn place(source: &str, kind: &str) -> usize {
    let hash = source
        .bytes()
        .chain(kind.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).map_or(0, |hash| (hash ^ (hash >> 16)) % REMEMBERED)
}
