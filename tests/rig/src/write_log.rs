//! What dm-log-writes has logged: every write that reached a disk, with the flushes between them.
//!
//! From it comes what the disk could have held at any moment: a write is certain from the next flush on,
//! and any sector of it may be there or not before that. The log says nothing of writes that no flush
//! followed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};

/// Everything is counted in these, and a disk writes one of them whole or not at all.
const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct WriteLog {
    entries: Vec<Entry>,
}

/// One write, flush or mark.
#[derive(Debug)]
struct Entry {
    flags: u64,
    /// Where on the disk, in bytes.
    at: usize,
    bytes: Vec<u8>,
    mark: Option<String>,
}

/// What a disk could have held.
#[derive(Debug)]
pub(crate) struct Moment {
    /// All of it.
    pub(crate) disk: Vec<u8>,
    /// Sectors that were on their way, and are there.
    pub(crate) arrived: usize,
    /// Sectors that were on their way, and are not.
    pub(crate) lost: usize,
}

impl WriteLog {
    /// Reads a log that begins at `offset` of a file.
    ///
    /// # Errors
    /// It is none, or uses what is not known here.
    pub(crate) fn read(file: &File, offset: u64) -> Result<Self> {
        let head = read(file, offset, SECTOR)?;
        ensure!(number(&head, 0)? == MAGIC && number(&head, 1)? == VERSION, "this is no log");
        let (count, mut at, mut entries) = (number(&head, 2)?, 1, Vec::new());
        for _ in 0..count {
            let head = read(file, offset + sectors(at)?, SECTOR)?;
            let (sector, length) = (number(&head, 0)?, number(&head, 1)?);
            let (flags, text) = (number(&head, 2)?, usize::try_from(number(&head, 3)?)?);
            ensure!(flags & DISCARD == 0, "a discard: the disk was mounted or made with it");
            let bytes = read(file, offset + sectors(at + 1)?, usize::try_from(length)? * SECTOR)?;
            let text = head.get(32..32 + text).context("a mark is too long")?;
            let mark = (flags & MARK != 0).then(|| String::from_utf8_lossy(text).into_owned());
            entries.push(Entry { flags, at: usize::try_from(sectors(sector)?)?, bytes, mark });
            at += 1 + length;
        }
        Ok(Self { entries })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The marks and their places.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (usize, &str)> {
        let marks = self.entries.iter().enumerate();
        marks.filter_map(|(place, entry)| Some((place, entry.mark.as_deref()?)))
    }

    /// The disk after all that is logged.
    pub(crate) fn end(&self, base: &[u8]) -> Vec<u8> {
        let mut disk = base.to_vec();
        self.entries.iter().for_each(|entry| entry.write(&mut disk));
        disk
    }

    /// What the disk could have held when `place` entries were logged: what was flushed, and of what
    /// was not, up to the next flush, any sectors.
    pub(crate) fn moment(&self, base: &[u8], place: usize, random: &mut fastrand::Rng) -> Moment {
        let is_flush = |entry: &Entry| entry.flags & FLUSH != 0;
        let (before, after) = self.entries.split_at(place);
        let flushed = before.iter().rposition(is_flush).unwrap_or(0);
        // What comes after a write that went around the cache may have waited for it.
        let is_barrier = |entry: &Entry| entry.flags & (FLUSH | FUA) != 0;
        let next = after.iter().position(is_barrier).map_or(after.len(), |barrier| barrier + 1);
        let next = place + next;
        let mut moment = Moment { disk: base.to_vec(), arrived: 0, lost: 0 };
        for (index, entry) in self.entries[..next].iter().enumerate() {
            let is_certain = index < flushed || (index < place && entry.flags & FUA != 0);
            if is_certain {
                entry.write(&mut moment.disk);
            } else {
                moment.tear(entry, random);
            }
        }
        moment
    }
}

impl Entry {
    fn write(&self, disk: &mut [u8]) {
        disk[self.at..self.at + self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

impl Moment {
    fn tear(&mut self, entry: &Entry, random: &mut fastrand::Rng) {
        // Some writes are there or not as a whole, others in part.
        let share = [0.0, 0.5, 1.0][random.usize(..3)];
        for (index, sector) in entry.bytes.chunks(SECTOR).enumerate() {
            if random.f64() < share {
                let at = entry.at + index * SECTOR;
                self.disk[at..at + sector.len()].copy_from_slice(sector);
                self.arrived += 1;
            } else {
                self.lost += 1;
            }
        }
    }
}

fn sectors(count: u64) -> Result<u64> {
    count.checked_mul(u64::try_from(SECTOR)?).context("no disk is as large")
}

fn read(file: &File, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).context("the log ends amid an entry")?;
    Ok(bytes)
}

/// The number in this place of a row of them.
fn number(bytes: &[u8], place: usize) -> Result<u64> {
    let bytes = bytes.get(place * 8..place * 8 + 8).context("the log is too short")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test says what it expects")]

    use super::*;

    fn entry(flags: u64, sector: usize, content: u8) -> Entry {
        Entry { flags, at: sector * SECTOR, bytes: vec![content; SECTOR], mark: None }
    }

    /// Which of the sectors are there, over many moments after `place` entries: always, sometimes, never.
    fn there(entries: Vec<Entry>, place: usize) -> String {
        let (log, base) = (WriteLog { entries }, vec![0; 4 * SECTOR]);
        let mut random = fastrand::Rng::with_seed(1);
        let moments: Vec<_> = (0..100).map(|_| log.moment(&base, place, &mut random)).collect();
        let sector = |sector: usize| {
            let count = moments.iter().filter(|moment| moment.disk[sector * SECTOR] != 0).count();
            match count {
                0 => '-',
                100 => '+',
                _ => '?',
            }
        };
        (0..4).map(sector).collect()
    }

    #[test]
    fn a_write_is_certain_from_the_next_flush_on_and_may_be_there_before() {
        let log = || {
            let flush = Entry { flags: FLUSH, at: 0, bytes: Vec::new(), mark: None };
            let again = Entry { flags: FLUSH, at: 0, bytes: Vec::new(), mark: None };
            vec![entry(0, 0, 1), flush, entry(0, 1, 1), entry(0, 2, 1), again, entry(0, 3, 1)]
        };

        assert_eq!(there(log(), 1), "?---");
        assert_eq!(there(log(), 3), "+??-");
        assert_eq!(there(log(), 6), "+++?");
    }

    #[test]
    fn a_write_around_the_cache_is_certain_and_what_follows_it_does_not_come_before_it() {
        let log = || vec![entry(0, 0, 1), entry(FUA, 1, 1), entry(0, 2, 1), entry(0, 3, 1)];

        assert_eq!(there(log(), 1), "??--");
        assert_eq!(there(log(), 2), "?+??");
    }

    #[test]
    fn a_log_is_read_as_the_kernel_writes_it() {
        let row = |numbers: [u64; 4], text: &[u8]| {
            let mut bytes: Vec<u8> =
                numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.extend(text);
            bytes.resize(SECTOR, 0);
            bytes
        };
        let file = tempfile::tempfile().expect("a file");
        let parts = [
            row([MAGIC, VERSION, 2, 512], b""),
            row([3, 1, FUA, 0], b""),
            vec![7; SECTOR],
            row([0, 0, MARK, 4], b"told"),
        ];
        file.write_all_at(&parts.concat(), 4096).expect("written");

        let log = WriteLog::read(&file, 4096).expect("a log");

        assert_eq!(log.marks().collect::<Vec<_>>(), [(1, "told")]);
        assert_eq!(log.end(&[0; 4 * SECTOR])[3 * SECTOR..], [7; SECTOR]);
    }
}
