//! The disk below the store: the room for the store, and faults in words.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rustix::fs::{Access, Advice, StatVfs, StatVfsMountFlags, access, fadvise, statvfs};
use rustix::io::Errno;

use super::ballast;
use crate::platform::durable;

/// Below this room, a failure is explained by a full disk: SQLite reports some such failures as I/O
/// errors, or as a file that cannot be opened.
const LITTLE_BYTES: u64 = 64 << 10;
/// Bytes read at both ends of a file to test the disk: some pages each, and few enough for a slow
/// disk.
const PROBE_BYTES: u64 = 64 << 10;
/// Names and numbers of users.
const USERS: &str = "/etc/passwd";

/// The log is moved into the database at this size, or at a share of the partition if smaller. A
/// larger log wears the card less.
const LOG_BYTES: u64 = 4 << 20;
/// The share of the partition, see [`LOG_BYTES`]. [`MIN_LOG_BYTES`] is the least, because a smaller
/// log would be moved by each commit.
const LOG_SHARE: u64 = 16;
const MIN_LOG_BYTES: u64 = 128 << 10;
/// Bytes by which the log is filled in advance: a hundred commits, and a quarter of a second of
/// writing on a slow card.
const FILL_BYTES: u64 = 256 << 10;
/// Bytes of the ballast beyond the log: for the index of the log, without which nothing can be
/// read, and for a log of forgetting some delivered readings.
const INDEX_BYTES: u64 = 256 << 10;
/// Reserve for a commit larger than estimated.
const MARGIN_BYTES: u64 = 128 << 10;

/// The room for the store on the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes allowed for records, with the log, the ballast and a commit beside them.
    pub(crate) cap_bytes: u64,
    /// Free bytes of the partition.
    pub(crate) free_bytes: u64,
    /// Bytes of the store's files.
    pub(crate) own_bytes: u64,
    /// Bytes of the partition, without the reserve for root.
    pub(crate) partition_bytes: u64,
    /// Size of the log at which the log is moved into the database, in bytes.
    pub(crate) log_bytes: u64,
    /// Present size of the log, in bytes.
    pub(crate) log: u64,
    /// Bytes of the ballast. With this room alone, a log of twice `log_bytes` can be moved into the
    /// database, even if all of its pages extend the database.
    pub(crate) ballast_bytes: u64,
}

impl Room {
    /// Measures the partition of the store at `path`; `None` if the file system does not answer.
    pub(crate) fn measure_at(path: &Path) -> Option<Self> {
        let partition = statvfs(path.parent()?).ok()?;
        let [database, log, ballast] = ["", "-wal", ballast::SUFFIX].map(|suffix| {
            std::fs::metadata(with_suffix(path, suffix)).map_or(0, |file| file.len())
        });
        let own_bytes = database + log + ballast;
        let room = Self::share_bytes(own_bytes + free_bytes(&partition), log);
        let (free_bytes, partition_bytes) = (free_bytes(&partition), partition_bytes(&partition));
        Some(Self { free_bytes, own_bytes, partition_bytes, ..room })
    }

    /// Returns the room for a store in `folder` on an otherwise empty partition; `None` if the file
    /// system does not answer. For a missing folder, the partition of the nearest existing parent
    /// counts.
    pub(crate) fn at_most(folder: &Path) -> Option<Self> {
        let partition = folder.ancestors().find_map(|folder| statvfs(folder).ok())?;
        let partition_bytes = partition_bytes(&partition);
        let room = Self::share_bytes(partition_bytes, 0);
        Some(Self { free_bytes: partition_bytes, partition_bytes, ..room })
    }

    /// Shares `given` bytes between records, log and ballast, where the log takes `log` bytes already.
    fn share_bytes(given: u64, log: u64) -> Self {
        let log_bytes = (given / LOG_SHARE).clamp(MIN_LOG_BYTES, LOG_BYTES);
        let ballast_bytes = 2 * log_bytes + INDEX_BYTES;
        let usual_log = usual_log_bytes(log_bytes);
        // A log that once grew further keeps its room for good, at the expense of records.
        let surplus = log.saturating_sub(usual_log);
        let reserve = usual_log + ballast_bytes + MARGIN_BYTES + surplus;
        let cap_bytes = given.saturating_sub(reserve);
        let (free_bytes, own_bytes, partition_bytes) = (0, 0, 0);
        Self { cap_bytes, free_bytes, own_bytes, partition_bytes, log_bytes, log, ballast_bytes }
    }
}

impl Room {
    /// Returns the bytes allowed for records. `others_before` is the size of other files when the
    /// store last had room to spare. Room taken by other programs since then lowers no cap, so they
    /// cost no stored record: if necessary, writes fail until there is room again. `None` means
    /// that the store never had room to spare, and returns no cap.
    pub(crate) fn cap_beside(&self, others_before: Option<u64>) -> u64 {
        let Some(before) = others_before else { return u64::MAX };
        let others = before.min(self.others_bytes());
        Self::share_bytes(self.partition_bytes.saturating_sub(others), self.log).cap_bytes
    }

    /// Returns true if a store with `used_bytes` has room to spare: [`MARGIN_BYTES`] below its cap,
    /// and on the partition at least `log_bytes` and [`MARGIN_BYTES`] free.
    pub(crate) fn is_spare(&self, used_bytes: u64) -> bool {
        used_bytes.saturating_add(MARGIN_BYTES) <= self.cap_bytes
            && self.free_bytes >= self.log_bytes + MARGIN_BYTES
    }

    /// Returns the bytes kept by the log. A transaction with a larger log gives the rest back.
    pub(crate) fn log_limit_bytes(&self) -> u64 {
        usual_log_bytes(self.log_bytes)
    }

    /// Returns the length in bytes to which the log is filled in advance; `None` if the log needs no filling. A
    /// commit that lengthens its log also writes metadata of the file system, up to six times the bytes of a
    /// small commit. A log that grew since it had `before` bytes is therefore filled ahead of the commits, if the
    /// store with `used_bytes` has room to spare.
    pub(crate) fn log_length_ahead(&self, before: u64, used_bytes: u64) -> Option<u64> {
        let length = (self.log + FILL_BYTES).min(self.log_limit_bytes());
        (self.log > before && length > self.log && self.is_spare(used_bytes)).then_some(length)
    }

    /// Returns whether the log is larger than `max_bytes`, or, with less than `log_bytes` free on the partition, larger
    /// than usual and than `before` bytes.
    pub(crate) fn is_log_beyond(&self, max_bytes: u64, before: u64) -> bool {
        let is_usual = self.log <= before.max(self.log_limit_bytes());
        self.log > max_bytes || (!is_usual && self.free_bytes < self.log_bytes)
    }

    /// Returns true if another program took the room left free by the store. By itself the store
    /// keeps its log and ballast free, and passes its cap by a commit at most.
    pub(crate) fn is_taken_by_others(&self, used_bytes: u64) -> bool {
        self.is_full()
            || self.cap_bytes < MARGIN_BYTES
            || used_bytes > self.cap_bytes.saturating_add(MARGIN_BYTES / 2)
    }

    /// Returns true if less is free than the store leaves free by itself.
    pub(crate) fn is_full(&self) -> bool {
        self.free_bytes < MARGIN_BYTES / 2
    }

    /// Returns the bytes used by other files.
    pub(crate) fn others_bytes(&self) -> u64 {
        self.partition_bytes.saturating_sub(self.free_bytes + self.own_bytes)
    }
}

/// Returns the usual size of the log in bytes: `log_bytes`, and a quarter for the commit before the
/// log is moved into the database.
fn usual_log_bytes(log_bytes: u64) -> u64 {
    log_bytes + log_bytes / 4
}

/// The reason for which the store's file cannot be opened or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// No room is left.
    Full { folder: PathBuf, free_bytes: u64 },
    /// The file system has no place for another file.
    NoInodes { folder: PathBuf },
    /// The file system takes no writes: mounted read-only, or switched by the kernel after an
    /// error.
    ReadOnly { folder: PathBuf },
    /// A file, or the directory, belongs to another user.
    Owner { path: PathBuf, owner: String, agent: String },
    /// The agent's own user may not write.
    Permission { path: PathBuf, mode: u32 },
    /// The state directory is not there.
    Missing { folder: PathBuf },
    /// The card or its driver reports an error.
    Io { folder: PathBuf, error: String },
    /// Another program has the store open and wrote to it.
    InUse { path: PathBuf, pid: u32 },
    /// The store is damaged, and its readable rows are being carried over into a new store.
    Damaged { path: PathBuf },
    /// The store is damaged again, soon after it was replaced.
    DamagedAgain { path: PathBuf },
    /// Anything else.
    Other(String),
}

impl DiskFault {
    /// Finds the reason for which the store at `path` could not be opened or written.
    pub(crate) fn find_fault(path: &Path, error: &anyhow::Error) -> Self {
        let sqlite = error.chain().find_map(|cause| cause.downcast_ref::<rusqlite::Error>());
        let code = sqlite.and_then(rusqlite::Error::sqlite_error_code);
        let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
        let errno = io.and_then(Errno::from_io_error);
        Self::judge_error(path, code, errno, format!("{error:#}"))
    }

    /// As [`DiskFault::find_fault`], of an error of SQLite.
    pub(crate) fn find_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        Self::judge_error(path, error.sqlite_error_code(), None, error.to_string())
    }

    /// Looks for a fault of the disk when the store at `path` seems damaged: SQLite also reports an
    /// unreadable page as damage. A missing file is no fault of the disk.
    pub(crate) fn probe_disk(path: &Path) -> Option<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        match statvfs(folder) {
            Ok(room) if !room.f_flag.contains(StatVfsMountFlags::RDONLY) => {}
            Ok(_) => return Some(Self::ReadOnly { folder: folder.to_owned() }),
            Err(error) => {
                return Some(Self::judge_error(path, None, Some(error), error.to_string()));
            }
        }
        let error = check_readable(path).err()?;
        Some(Self::judge_error(path, None, Errno::from_io_error(&error), error.to_string()))
    }

    fn judge_error(
        path: &Path,
        code: Option<ErrorCode>,
        errno: Option<Errno>,
        error: String,
    ) -> Self {
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let room = match statvfs(&folder) {
            Ok(room) => room,
            Err(Errno::NOENT | Errno::NOTDIR) => return Self::Missing { folder },
            Err(_) => {
                return Self::find_denied(path, &folder).unwrap_or(Self::Io { folder, error });
            }
        };
        if room.f_flag.contains(StatVfsMountFlags::RDONLY) || errno == Some(Errno::ROFS) {
            return Self::ReadOnly { folder };
        }
        let full =
            matches!(errno, Some(Errno::NOSPC | Errno::DQUOT)) || code == Some(ErrorCode::DiskFull);
        let free_bytes = free_bytes(&room);
        if (full || free_bytes >= LITTLE_BYTES) && has_no_inodes(&room) {
            return Self::NoInodes { folder };
        }
        if full {
            return Self::Full { folder, free_bytes };
        }
        if let Some(denied) = Self::find_denied(path, &folder) {
            return denied;
        }
        if free_bytes < LITTLE_BYTES {
            return Self::Full { folder, free_bytes };
        }
        match code {
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { folder },
            Some(ErrorCode::SystemIoFailure) => Self::Io { folder, error },
            _ if errno.is_some_and(is_of_device) => Self::Io { folder, error },
            _ => Self::Other(error),
        }
    }

    /// Finds the first path without write permission among the directory and the store's files.
    fn find_denied(path: &Path, folder: &Path) -> Option<Self> {
        let files = ["", "-wal", "-shm"].map(|suffix| with_suffix(path, suffix));
        let wanted =
            std::iter::once((folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK));
        let all = wanted.chain(files.iter().map(|f| (&**f, Access::READ_OK | Access::WRITE_OK)));
        for (path, wanted) in all {
            if access(path, wanted) != Err(Errno::ACCESS) {
                continue;
            }
            let path = path.to_owned();
            let agent = rustix::process::geteuid().as_raw();
            let metadata = std::fs::metadata(&path).ok();
            return Some(match metadata.map(|file| (file.uid(), file.mode() & 0o7777)) {
                Some((owner, mode)) if owner == agent => Self::Permission { path, mode },
                Some((owner, _)) => {
                    Self::Owner { path, owner: user_name(owner), agent: user_name(agent) }
                }
                None => Self::Permission { path, mode: 0 },
            });
        }
        None
    }

    /// Returns true if freeing room could help.
    pub(crate) fn wants_room(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoInodes { .. } | Self::Io { .. } | Self::Other(_) => true,
            Self::ReadOnly { .. }
            | Self::Owner { .. }
            | Self::Permission { .. }
            | Self::Missing { .. }
            | Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::DamagedAgain { .. } => false,
        }
    }

    /// Returns true if a connection opened before the fault may fail for ever.
    pub(crate) fn wants_connection(&self) -> bool {
        matches!(self, Self::Io { .. }) || !self.wants_room()
    }

    /// Returns the word for the fault in `status` and in events.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::NoInodes { .. } => "no_inodes",
            Self::ReadOnly { .. } => "read_only",
            Self::Owner { .. } => "owner",
            Self::Permission { .. } => "permission",
            Self::Missing { .. } => "missing",
            Self::Io { .. } => "io_error",
            Self::InUse { .. } => "in_use",
            Self::Damaged { .. } => "damaged",
            Self::DamagedAgain { .. } => "damaged_again",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { folder, free_bytes } => {
                let folder = folder.display();
                write!(f, "full: {free_bytes} bytes are free for `{folder}`; remove other files")
            }
            Self::NoInodes { folder } => {
                let folder = folder.display();
                write!(f, "no inode is left for `{folder}`; remove small files (`df -i {folder}`)")
            }
            Self::ReadOnly { folder } => write!(
                f,
                "the file system of `{0}` is read-only, perhaps after an error of the card (`dmesg`); \
                 remount it or replace the card",
                folder.display()
            ),
            Self::Owner { path, owner, agent } => {
                let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
                write!(
                    f,
                    "`{}` belongs to `{owner}`, and the agent runs as `{agent}`: \
                     `sudo chown -R {agent}: {}`",
                    path.display(),
                    folder.display()
                )
            }
            Self::Permission { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "`{path}` has mode {mode:04o} and cannot be written: `sudo chmod u+rwX {path}`"
                )
            }
            Self::Missing { folder } => {
                let folder = folder.display();
                write!(f, "the state directory `{folder}` is not there; mount or make it")
            }
            Self::Io { folder, error } => write!(
                f,
                "reading or writing in `{}` fails ({error}); look at `dmesg`, the card may be worn out",
                folder.display()
            ),
            Self::InUse { path, pid } => {
                write!(f, "another program (pid {pid}) writes to `{}`; end it", path.display())
            }
            Self::Damaged { path } => write!(
                f,
                "the store `{}` is damaged; what can be read of it is being carried over into a new one",
                path.display()
            ),
            Self::DamagedAgain { path } => write!(
                f,
                "the store `{}` is damaged again, soon after it was replaced; replace the card",
                path.display()
            ),
            Self::Other(error) => f.write_str(error),
        }
    }
}

/// Returns the path of the write-ahead log of the database at `path`.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

/// Returns `path` with `suffix` appended to the file name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes the permissions of group and others from the store's files, as set by an earlier
/// version. Ignores errors: opening the files reports them.
pub(crate) fn make_private(path: &Path) {
    let Some(folder) = path.parent() else { return };
    let begin = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&begin) || name == crate::platform::boot::FILE {
            durable::make_private(&entry.path());
        }
    }
}

/// Checks that the disk delivers both ends of the store at `path` and of its log. Missing files are
/// fine.
pub(crate) fn check_readable(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal"] {
        match read_ends(&with_suffix(path, suffix)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads both ends of a file from the disk, past the page cache.
fn read_ends(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = vec![0; usize::try_from(PROBE_BYTES).unwrap_or(0)];
    for start in [0, length.saturating_sub(PROBE_BYTES)] {
        // A file system without a cache to drop serves the read from its memory.
        fadvise(&file, start, NonZeroU64::new(PROBE_BYTES), Advice::DontNeed).ok();
        file.read_at(&mut bytes, start)?;
    }
    Ok(())
}

/// Returns true if an error comes from the device, its driver or the file system.
fn is_of_device(errno: Errno) -> bool {
    let of_device = [
        Errno::IO,
        Errno::NXIO,
        Errno::NODEV,
        Errno::SHUTDOWN,
        Errno::STALE,
        Errno::BADMSG,
        // ext4: the structure needs cleaning.
        Errno::UCLEAN,
    ];
    of_device.contains(&errno)
}

fn free_bytes(room: &StatVfs) -> u64 {
    room.f_bavail.saturating_mul(room.f_frsize)
}

fn partition_bytes(room: &StatVfs) -> u64 {
    let for_root = room.f_bfree.saturating_sub(room.f_bavail);
    room.f_blocks.saturating_sub(for_root).saturating_mul(room.f_frsize)
}

/// Formats `bytes` for people, such as `9.2 MiB`.
pub(crate) fn format_mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Returns true if no file can be made. Some file systems do not count inodes, and report 0 of 0.
fn has_no_inodes(room: &StatVfs) -> bool {
    room.f_files > 0 && room.f_favail == 0
}

/// Returns the name of a user, or the number if there is no name.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string(USERS).unwrap_or_default();
    let number = uid.to_string();
    let line = users.lines().find(|line| line.split(':').nth(2) == Some(&number));
    line.and_then(|line| line.split(':').next()).map_or(number.clone(), str::to_owned)
}
