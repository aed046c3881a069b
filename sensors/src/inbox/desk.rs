//! Where lines become entries: the one buffer and the one memory that all clients share.
//!
//! Clients take turns at it, so its cost does not grow with their number. A client itself keeps
//! only the beginning of a line whose end has not come yet.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{self, AsyncRead, ReadBuf};

use super::answer::Faults;
use super::fault::{Code, Fault, Field, Wrong};
use super::line::{self, Line, Value};
use super::rights::Rights;
use super::stamp::Calendar;
use super::{Admission, Clock, Entry, EntryValue, MAX_LINE_BYTES};
use crate::forbidden::Forbidden;
use crate::{MAX_NAME_BYTES, Source, SourceId, Sources, is_kind};

/// What one read takes at most: large enough that its system calls do not count beside its lines.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// What one read takes at least, when there is little room for its lines.
const LEAST_READ_BYTES: usize = 512;
/// What a line takes at least, so that room for the entries is made once: `{"source":"7",...}`
/// with a short value and no time.
const USUAL_LINE_BYTES: usize = 48;
/// What a chunk takes besides its lines: its answer on the way, and allocations.
const CHUNK_BYTES: usize = 512;
/// Bytes of heap for a byte that was read, at most. A line `x\n` becomes a code of six bytes; a good
/// line of 36 bytes an [`Entry`] of 40 in a vector of up to twice as many, and a word of its own.
const HEAP_FOR_A_BYTE: usize = 4;
/// What an allocation takes besides its bytes.
const WORD_BYTES: usize = 16;
/// How far ahead of the clock a time may be: more than clocks of programs that have one differ.
const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;
/// More programs' sources than a gateway usually has; a power of two.
const REMEMBERED: usize = 256;

const _: () = assert!(BUFFER_BYTES > 2 * MAX_LINE_BYTES && REMEMBERED.is_power_of_two());
const _: () = assert!(size_of::<Entry>() <= 40 && size_of::<(u16, Code)>() == 6);
const _: () = assert!(heap_bytes(LEAST_READ_BYTES) + MAX_LINE_BYTES <= super::memory::SHARE_BYTES);

/// What the lines of a read take on the heap at most: of the bytes that are read, and of the
/// beginning of a line that was kept before.
const fn heap_bytes(read: usize) -> usize {
    CHUNK_BYTES + 2 * size_of::<Entry>() + read * HEAP_FOR_A_BYTE
}

/// The room that a read needs, and the room that it can use.
pub(super) const LEAST_ROOM: usize = heap_bytes(LEAST_READ_BYTES);
/// See [`LEAST_ROOM`].
pub(super) const MOST_ROOM: usize = heap_bytes(BUFFER_BYTES);

/// The beginning of a line that a client has sent and not ended.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// At most [`MAX_LINE_BYTES`].
    kept: Vec<u8>,
    /// The rest of an over-long line is still to come.
    skipping: bool,
    eof: bool,
}

impl Intake {
    /// Whether everything that the client will ever send was dealt with.
    pub(super) fn is_over(&self) -> bool {
        self.eof
    }

    /// Whether a line was begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.skipping || !self.kept.is_empty()
    }
}

/// The lines of one read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) faults: Faults,
    /// How much was read for it.
    pub(super) bytes: usize,
    /// What the words among the values take.
    words: usize,
}

/// The buffer, and who is known at it.
#[derive(Debug)]
pub(super) struct Desk {
    buffer: Vec<u8>,
    register: Register,
}

impl Desk {
    pub(super) fn new(register: Register) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], register }
    }

    /// Reads once, behind what `intake` kept, as much as `room` bytes of heap are enough for, and
    /// deals with all lines that are complete. `None`: there is nothing to read now.
    pub(super) fn read_batch(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        intake: &mut Intake,
        room: usize,
    ) -> io::Result<Option<Batch>> {
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
        self.register.look_around();
        self.buffer[..kept].copy_from_slice(&intake.kept);
        Ok(Some(self.sort(intake, kept + read)))
    }

    /// Deals with the lines in the buffer; keeps in `intake` the beginning of one that has no end.
    fn sort(&mut self, intake: &mut Intake, filled: usize) -> Batch {
        let Self { buffer, register } = self;
        let mut rest = &buffer[..filled];
        let read = filled - intake.kept.len();
        let mut batch = Batch {
            entries: Vec::with_capacity(read / USUAL_LINE_BYTES + 1),
            faults: Faults::default(),
            bytes: read,
            words: 0,
        };
        while let Some((line, after)) = next_line(rest, intake.eof) {
            rest = after;
            if !std::mem::take(&mut intake.skipping) {
                batch.take(register.entry(line));
            }
        }
        if intake.skipping || rest.len() > MAX_LINE_BYTES {
            if !std::mem::replace(&mut intake.skipping, true) {
                batch.take(Some(Err(too_long())));
            }
            rest = &[];
        }
        intake.kept.clear();
        intake.kept.reserve_exact(rest.len());
        intake.kept.extend_from_slice(rest);
        batch.faults.shrink();
        batch
    }
}

impl Batch {
    fn take(&mut self, line: Option<Result<Entry, Fault>>) {
        match line {
            Some(Ok(entry)) => {
                if let EntryValue::State(word) = &entry.value {
                    self.words += word.len() + WORD_BYTES;
                }
                self.entries.push(entry);
            }
            Some(Err(fault)) => self.faults.push(self.entries.len(), &fault),
            None => {}
        }
    }

    pub(super) fn has_line(&self) -> bool {
        !self.entries.is_empty() || !self.faults.is_empty()
    }

    /// What it takes on the heap until it is answered.
    pub(super) fn heap_bytes(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>();
        CHUNK_BYTES + entries + self.words + self.faults.heap_bytes()
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
    Fault::line(Code::TooLong)
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
    /// `None` where lines come from a file: any source may be named.
    rights: Option<Rights>,
    clock: Option<Clock>,
    /// No time may be later, in milliseconds since 1970; `None` while no clock can tell.
    latest_ms: Option<i64>,
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
        Self {
            admission,
            forbidden,
            sources,
            known,
            latest: 0,
            calendar: Calendar::default(),
            rights: None,
            clock: None,
            latest_ms: None,
        }
    }

    /// From now on keeps what is others', and the future, out.
    pub(super) fn guarded(self, rights: Rights, clock: Clock) -> Self {
        Self { rights: Some(rights), clock: Some(clock), ..self }
    }

    /// Looks at the clock, and whether another configuration changed the rights.
    fn look_around(&mut self) {
        let now = self.clock.as_ref().and_then(Clock::milliseconds);
        self.latest_ms = now.map(|now| now.saturating_add(MAX_AHEAD_MS));
        if let Some(rights) = &mut self.rights
            && rights.follow(&self.admission, &self.sources)
        {
            self.known.fill_with(|| None);
        }
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
        if self.latest_ms.is_some() && time_ms > self.latest_ms {
            return Err(Fault::field(Field::Time, Wrong::Ahead));
        }
        let value = match line.value {
            Value::Number(number) => EntryValue::Number(number),
            Value::State(word) => {
                self.opaque(Field::Value, &word)?;
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

    fn intern(&mut self, source: &str, kind: &str) -> Result<SourceId, Fault> {
        let checked = Source::new(source, kind).map_err(|_| {
            if is_kind(kind) {
                Fault::field(Field::Source, Wrong::NotName)
            } else {
                Fault::field(Field::Kind, Wrong::NotKind)
            }
        })?;
        if !self.admission.admits(source) {
            return Err(Fault::field(Field::Source, Wrong::NotAdmitted));
        }
        if self.rights.as_ref().is_some_and(|rights| rights.is_of_sensor(source)) {
            return Err(Fault::field(Field::Source, Wrong::OfSensor));
        }
        // Those that are known were looked at when they spoke first.
        self.opaque(Field::Source, source)?;
        self.opaque(Field::Kind, kind)?;
        let id = match &mut self.rights {
            Some(rights) => rights.intern(checked, &self.admission, &self.sources),
            None => self.sources.intern(checked).ok(),
        };
        id.ok_or(Fault::field(Field::Source, Wrong::NoRoom))
    }

    /// Names nobody and no place that the operator knows of. The answer does not repeat the text.
    fn opaque(&self, field: Field, text: &str) -> Result<(), Fault> {
        if self.forbidden.is_in(text) {
            return Err(Fault::field(field, Wrong::Forbidden));
        }
        Ok(())
    }
}

fn state(word: &str) -> Result<&str, Fault> {
    if !(1..=MAX_NAME_BYTES).contains(&word.len()) {
        return Err(Fault::field(Field::Value, Wrong::WordLength));
    }
    if word.chars().any(char::is_control) {
        return Err(Fault::field(Field::Value, Wrong::WordControl));
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
