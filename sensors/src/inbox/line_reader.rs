//! Turns lines into entries, with one buffer and one table of recent sources for all clients.
//!
//! Clients use the buffer in turn, so its cost does not grow with their number. A client keeps only
//! the beginning of an unfinished line.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{self, AsyncRead, ReadBuf};

use super::answer::LineFaults;
use super::fault::{Code, LineFault, LineField, Wrong};
use super::line::{self, InboxLine, LineValue};
use super::rights::Rights;
use super::stamp::TimeParser;
use super::{Entry, EntryValue, MAX_LINE_BYTES, SourceAdmission, WallClock};
use crate::forbidden::Forbidden;
use crate::{MAX_NAME_BYTES, Source, SourceId, Sources, is_kind};

/// The largest size of one read, in bytes: large enough that the system calls are cheap beside the
/// lines.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// The smallest size of one read, in bytes, used when little memory is free.
const LEAST_READ_BYTES: usize = 512;
/// The smallest usual length of a line, `{"source":"7",...}` with a short value and no time; used
/// to reserve space for the entries once.
const USUAL_LINE_BYTES: usize = 48;
/// The heap bytes of a chunk besides its lines: the answer on its way, and allocations.
const CHUNK_BYTES: usize = 512;
/// The maximum number of heap bytes for a byte read. A line `x\n` becomes a code of six bytes; a
/// good line of 36 bytes becomes an [`Entry`] of 40 bytes in a vector of up to twice the capacity,
/// and a word.
const HEAP_FOR_A_BYTE: usize = 4;
/// The overhead of an allocation, in bytes.
const WORD_BYTES: usize = 16;
/// The largest accepted lead of a time over the clock: more than two clocks differ that were set.
const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;
/// The size of the table of recent sources: more than the programs of a gateway usually have; a
/// power of two.
const REMEMBERED: usize = 256;

const _: () = assert!(BUFFER_BYTES > 2 * MAX_LINE_BYTES && REMEMBERED.is_power_of_two());
const _: () = assert!(size_of::<Entry>() <= 40 && size_of::<(u16, Code)>() == 6);
const _: () = assert!(heap_bytes(LEAST_READ_BYTES) + MAX_LINE_BYTES <= super::memory::SHARE_BYTES);

/// Returns the maximum number of heap bytes for a read of `read` bytes and the beginning of an
/// earlier line.
const fn heap_bytes(read: usize) -> usize {
    CHUNK_BYTES + 2 * size_of::<Entry>() + read * HEAP_FOR_A_BYTE
}

/// The memory that a read needs at least, in bytes.
pub(super) const LEAST_ROOM: usize = heap_bytes(LEAST_READ_BYTES);
/// The memory that a read can use at most, in bytes.
pub(super) const MOST_ROOM: usize = heap_bytes(BUFFER_BYTES);

/// The received beginning of a client's unfinished line.
#[derive(Debug, Default)]
pub(super) struct PartialLine {
    /// At most [`MAX_LINE_BYTES`].
    kept: Vec<u8>,
    /// `true` while the rest of an overlong line is skipped.
    skipping: bool,
    eof: bool,
}

impl PartialLine {
    /// Returns `true` after the client's last line was handled.
    pub(super) fn is_over(&self) -> bool {
        self.eof
    }

    /// Returns `true` if a line is unfinished.
    pub(super) fn has_begun(&self) -> bool {
        self.skipping || !self.kept.is_empty()
    }
}

/// The lines of one read.
#[derive(Debug)]
pub(super) struct LineBatch {
    pub(super) entries: Vec<Entry>,
    pub(super) faults: LineFaults,
    /// The number of bytes read.
    pub(super) bytes: usize,
    /// The heap bytes of the words among the values.
    words: usize,
}

/// The shared buffer and the table of recent sources.
#[derive(Debug)]
pub(super) struct LineReader {
    buffer: Vec<u8>,
    register: EntryParser,
}

impl LineReader {
    pub(super) fn new(register: EntryParser) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], register }
    }

    /// Reads once, after the beginning kept in `intake`, as many bytes as `room` bytes of heap
    /// allow, and handles all complete lines. Returns `None` if there is nothing to read.
    pub(super) fn read_batch(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        intake: &mut PartialLine,
        room: usize,
    ) -> io::Result<Option<LineBatch>> {
        let kept = intake.kept.len();
        let most = room.saturating_sub(heap_bytes(0)) / HEAP_FOR_A_BYTE;
        let end = (kept + most).clamp(kept + 1, BUFFER_BYTES);
        let mut buffer = ReadBuf::new(&mut self.buffer[kept..end]);
        let Poll::Ready(read) = Pin::new(stream).poll_read(cx, &mut buffer) else {
            return Ok(None);
        };
        read?;
        let read = buffer.filled().len();
        intake.eof = read == 0;
        self.register.refresh_limits();
        self.buffer[..kept].copy_from_slice(&intake.kept);
        Ok(Some(self.process_lines(intake, kept + read)))
    }

    /// Handles the lines in the buffer; keeps the beginning of an unfinished line in `intake`.
    fn process_lines(&mut self, intake: &mut PartialLine, filled: usize) -> LineBatch {
        let Self { buffer, register } = self;
        let mut rest = &buffer[..filled];
        let read = filled - intake.kept.len();
        let mut batch = LineBatch {
            entries: Vec::with_capacity(read / USUAL_LINE_BYTES + 1),
            faults: LineFaults::default(),
            bytes: read,
            words: 0,
        };
        while let Some((line, after)) = next_line(rest, intake.eof) {
            rest = after;
            if !std::mem::take(&mut intake.skipping) {
                batch.push_line(register.parse_entry(line));
            }
        }
        if intake.skipping || rest.len() > MAX_LINE_BYTES {
            if !std::mem::replace(&mut intake.skipping, true) {
                batch.push_line(Some(Err(too_long())));
            }
            rest = &[];
        }
        intake.kept.clear();
        intake.kept.reserve_exact(rest.len());
        intake.kept.extend_from_slice(rest);
        batch.faults.shrink_to_fit();
        batch
    }
}

impl LineBatch {
    fn push_line(&mut self, line: Option<Result<Entry, LineFault>>) {
        match line {
            Some(Ok(entry)) => {
                if let EntryValue::State(word) = &entry.value {
                    self.words += word.len() + WORD_BYTES;
                }
                self.entries.push(entry);
            }
            Some(Err(fault)) => self.faults.push_fault(self.entries.len(), &fault),
            None => {}
        }
    }

    pub(super) fn has_line(&self) -> bool {
        !self.entries.is_empty() || !self.faults.is_empty()
    }

    /// Returns the heap bytes of the batch until its answer.
    pub(super) fn heap_bytes(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>();
        CHUNK_BYTES + entries + self.words + self.faults.heap_bytes()
    }
}

/// Returns the first line and the text after it. The end of the stream also ends a line.
fn next_line(text: &[u8], eof: bool) -> Option<(&[u8], &[u8])> {
    match memchr::memchr(b'\n', text) {
        Some(end) => Some((&text[..end], &text[end + 1..])),
        None if eof && !text.is_empty() => Some((text, &[])),
        None => None,
    }
}

fn too_long() -> LineFault {
    LineFault::from_code(Code::TooLong)
}

/// Turns parsed lines into entries, and checks their names, words and times.
#[derive(Debug)]
pub(super) struct EntryParser {
    admission: SourceAdmission,
    forbidden: Forbidden,
    sources: Arc<Sources>,
    /// Recent sources, each at the index of its hashed names.
    known: Box<[Option<RecentSource>]>,
    /// The index of the last source, which most likely comes again.
    latest: usize,
    calendar: TimeParser,
    /// `None` for lines from a file: any source may be named.
    rights: Option<Rights>,
    clock: Option<WallClock>,
    /// The latest accepted time, in milliseconds since 1970; `None` without a trusted clock.
    latest_ms: Option<i64>,
}

#[derive(Debug)]
struct RecentSource {
    source: Box<str>,
    kind: Box<str>,
    id: SourceId,
}

impl EntryParser {
    pub(super) fn new(
        admission: SourceAdmission,
        forbidden: Forbidden,
        sources: Arc<Sources>,
    ) -> Self {
        let known = (0..REMEMBERED).map(|_| None).collect();
        Self {
            admission,
            forbidden,
            sources,
            known,
            latest: 0,
            calendar: TimeParser::default(),
            rights: None,
            clock: None,
            latest_ms: None,
        }
    }

    /// Adds the checks of an inbox: sources of other owners and times in the future are refused.
    pub(super) fn with_rights(self, rights: Rights, clock: WallClock) -> Self {
        Self { rights: Some(rights), clock: Some(clock), ..self }
    }

    /// Reads the clock, and forgets the recent sources after a change of the rights.
    fn refresh_limits(&mut self) {
        let now = self.clock.as_ref().and_then(WallClock::now_ms);
        self.latest_ms = now.map(|now| now.saturating_add(MAX_AHEAD_MS));
        if let Some(rights) = &mut self.rights
            && rights.refresh_counts(&self.admission, &self.sources)
        {
            self.known.fill_with(|| None);
        }
    }

    /// Parses and checks a line; returns `None` for an empty line.
    pub(super) fn parse_entry(&mut self, line: &[u8]) -> Option<Result<Entry, LineFault>> {
        if line.len() > MAX_LINE_BYTES {
            return Some(Err(too_long()));
        }
        if line.trim_ascii().is_empty() {
            return None;
        }
        Some(line::parse_line(line).and_then(|line| self.check_line(line)))
    }

    fn check_line(&mut self, line: InboxLine<'_>) -> Result<Entry, LineFault> {
        let time_ms = match line.time {
            Some(time) => Some(self.calendar.parse_time(&time)?),
            None => None,
        };
        if self.latest_ms.is_some() && time_ms > self.latest_ms {
            return Err(LineFault::in_field(LineField::Time, Wrong::Ahead));
        }
        let value = match line.value {
            LineValue::Number(number) => EntryValue::Number(number),
            LineValue::State(word) => {
                self.check_forbidden(LineField::Value, &word)?;
                EntryValue::State(check_word(&word)?.into())
            }
        };
        // Last, since a refused line must take no number from the table.
        let source = self.resolve_source(&line.source, &line.kind)?;
        Ok(Entry { source, time_ms, value })
    }

    fn resolve_source(&mut self, source: &str, kind: &str) -> Result<SourceId, LineFault> {
        if let Some(id) = self.recall_source(self.latest, source, kind) {
            return Ok(id);
        }
        self.latest = cache_slot(source, kind);
        if let Some(id) = self.recall_source(self.latest, source, kind) {
            return Ok(id);
        }
        let id = self.register_source(source, kind)?;
        self.known[self.latest] =
            Some(RecentSource { source: source.into(), kind: kind.into(), id });
        Ok(id)
    }

    fn recall_source(&self, place: usize, source: &str, kind: &str) -> Option<SourceId> {
        let known = self.known[place].as_ref()?;
        (*known.source == *source && *known.kind == *kind).then_some(known.id)
    }

    fn register_source(&mut self, source: &str, kind: &str) -> Result<SourceId, LineFault> {
        let checked = Source::new(source, kind).map_err(|_| {
            if is_kind(kind) {
                LineFault::in_field(LineField::Source, Wrong::NotName)
            } else {
                LineFault::in_field(LineField::Kind, Wrong::NotKind)
            }
        })?;
        if !self.admission.allows_source(source) {
            return Err(LineFault::in_field(LineField::Source, Wrong::NotAdmitted));
        }
        if self.rights.as_ref().is_some_and(|rights| rights.is_of_sensor(source)) {
            return Err(LineFault::in_field(LineField::Source, Wrong::OfSensor));
        }
        // The names of recent sources were checked at their first line.
        self.check_forbidden(LineField::Source, source)?;
        self.check_forbidden(LineField::Kind, kind)?;
        let id = match &mut self.rights {
            Some(rights) => rights.intern_source(checked, &self.admission, &self.sources),
            None => self.sources.intern_source(checked).ok(),
        };
        id.ok_or(LineFault::in_field(LineField::Source, Wrong::NoRoom))
    }

    /// Refuses a text that contains a forbidden text. The answer does not repeat the text.
    fn check_forbidden(&self, field: LineField, text: &str) -> Result<(), LineFault> {
        if self.forbidden.is_in(text) {
            return Err(LineFault::in_field(field, Wrong::Forbidden));
        }
        Ok(())
    }
}

fn check_word(word: &str) -> Result<&str, LineFault> {
    if !(1..=MAX_NAME_BYTES).contains(&word.len()) {
        return Err(LineFault::in_field(LineField::Value, Wrong::WordLength));
    }
    if word.chars().any(char::is_control) {
        return Err(LineFault::in_field(LineField::Value, Wrong::WordControl));
    }
    Ok(word)
}

/// Returns the index of a source in the table of recent sources: FNV-1a over both names, which is
/// short, and good enough to keep similar names apart.
fn cache_slot(source: &str, kind: &str) -> usize {
    let hash = source
        .bytes()
        .chain(kind.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).map_or(0, |hash| (hash ^ (hash >> 16)) % REMEMBERED)
}
