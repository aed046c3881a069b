//! The files of the store belong to the agent alone, and a disk that takes no writes is reported
//! with the cause.

use std::os::unix::fs::{PermissionsExt as _, chown};

use rusqlite::config::DbConfig;

use super::*;
use crate::db::disk::Room;
use crate::db::schema;

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mode = |entry: &std::fs::DirEntry| entry.metadata().unwrap().permissions().mode() & 0o777;
    let mut modes: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), mode(&entry)))
        .collect();
    modes.sort();
    modes
}

#[tokio::test]
async fn every_file_of_the_store_is_for_its_user_alone_and_an_older_one_is_narrowed() {
    let device = Device::new();
    let agent = device.start();
    agent.append([72.0]).await;
    let new = modes(device.folder.path());
    assert!(new.len() >= 4 && new.iter().all(|(_, mode)| *mode == 0o600), "{new:?}");
    let old = device.killed();
    agent.stop().await;
    for (name, _) in modes(old.folder.path()) {
        let path = old.folder.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    let agent = old.start();
    agent.append([73.0]).await;

    let narrowed = modes(old.folder.path());
    assert!(narrowed.iter().all(|(_, mode)| *mode == 0o600), "{narrowed:?}");
    assert_eq!(agent.take_all(Lane::Readings, 0).await.len(), 2);
    agent.stop().await;
}

#[test]
fn sqlite_distrusts_the_file_for_writing_and_for_reading() {
    let device = Device::new();
    let writer = schema::open_writer(&device.path(), &Pulse::default()).unwrap();
    let reader = schema::open_reader(&device.path()).unwrap();

    for connection in [writer, reader] {
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert!(!connection.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA).unwrap());
    }
}

/// What a writer that cannot open its file says of it.
fn fault_of(path: &Path) -> DiskFault {
    let sources = Arc::new(Sources::default());
    let device = Device::new();
    let options = StoreOptions { path: path.to_owned(), ..device.options() };
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    let fault = store.watch_progress().borrow().fault.clone();
    drop(store);
    thread.join().unwrap();
    fault.expect("a fault")
}

#[test]
fn a_state_directory_that_is_not_there_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();

    let fault = fault_of(&folder.path().join("not").join("mounted").join(FILE));

    assert_eq!(fault.as_str(), "missing", "{fault}");
}

/// As large as the partition of the root directory has room for; its log is empty.
fn any_room() -> Room {
    Room::at_most(Path::new("/")).unwrap()
}

#[test]
fn a_log_that_grew_is_filled_ahead_up_to_its_usual_length_and_only_into_room_to_spare() {
    const KIB: u64 = 1 << 10;
    let ahead = |log, before, free_bytes| {
        let mut room = any_room();
        (room.cap_bytes, room.log_bytes) = (64 << 20, 4 << 20);
        (room.log, room.free_bytes) = (log, free_bytes);
        room.log_length_ahead(before, 1 << 20)
    };
    let free = 100 << 20;

    assert_eq!(ahead(100 * KIB, 60 * KIB, free), Some(356 * KIB));
    assert_eq!(ahead(100 * KIB, 100 * KIB, free), None, "no commit lengthened the log");
    assert_eq!(ahead(5_100 * KIB, 5_000 * KIB, free), Some(5_120 * KIB), "to a quarter above");
    assert_eq!(ahead(5_120 * KIB, 5_000 * KIB, free), None);
    assert_eq!(ahead(9_000 * KIB, 5_000 * KIB, free), None, "a long reader held the log");
    assert_eq!(ahead(100 * KIB, 60 * KIB, 4 << 20), None, "the room is for commits");
}

#[test]
fn a_store_stops_at_its_cap_unless_another_program_took_the_room_beside_it() {
    const MIB: u64 = 1 << 20;
    let partition_bytes = 200 * MIB;
    // All that is no one else's, a commit and the parts of a reserve apart.
    let at_most = |others: u64| {
        let given = partition_bytes - others;
        let mut room = any_room();
        (room.free_bytes, room.partition_bytes) = (given, partition_bytes);
        room.cap_beside(Some(others))
    };
    let cap = |cap_bytes, free_bytes, used_bytes, before: Option<u64>| {
        let mut room = any_room();
        (room.cap_bytes, room.free_bytes) = (cap_bytes, free_bytes);
        (room.own_bytes, room.partition_bytes) = (used_bytes, partition_bytes);
        room.cap_beside(before)
    };

    // Squeezed from its start on.
    assert_eq!(cap(50 * MIB, MIB, 100 * MIB, None), u64::MAX);
    // Others used 50 MiB when there was room to spare: what they took since lowers no cap, nor does a store that
    // passed it by what it took up from memory lift it.
    for (cap_bytes, free_bytes, used_bytes) in [
        (100 * MIB, 0, 100 * MIB),
        (90 * MIB, MIB, 91 * MIB),
        (0, 0, 0),
        (130 * MIB, 10 * MIB, 140 * MIB),
    ] {
        let found = cap(cap_bytes, free_bytes, used_bytes, Some(50 * MIB));
        assert_eq!(found, at_most(50 * MIB), "{cap_bytes} {free_bytes}");
    }
    assert!((130 * MIB..150 * MIB).contains(&at_most(50 * MIB)), "{}", at_most(50 * MIB));
    // What they gave back raises it.
    assert_eq!(cap(100 * MIB, 170 * MIB, 10 * MIB, Some(50 * MIB)), at_most(20 * MIB));
}

#[test]
fn a_store_is_squeezed_if_nothing_is_free_or_it_is_too_large_for_what_others_leave() {
    const MIB: u64 = 1 << 20;
    let is_squeezed = |cap_bytes, free_bytes, used_bytes| {
        let mut room = any_room();
        (room.cap_bytes, room.free_bytes) = (cap_bytes, free_bytes);
        room.is_taken_by_others(used_bytes)
    };

    // By itself the store leaves room for a commit beside its log and its ballast.
    assert!(!is_squeezed(100 * MIB, MIB, 50 * MIB));
    assert!(!is_squeezed(100 * MIB, MIB, 100 * MIB));
    assert!(is_squeezed(100 * MIB, 0, 100 * MIB), "nothing is left");
    assert!(is_squeezed(50 * MIB, MIB, 100 * MIB), "the cap fell below what it uses");
    assert!(is_squeezed(0, MIB, 0), "a young store has no share of what is left");
}

#[test]
fn each_fault_of_the_disk_has_a_word_and_a_cure_of_its_own() {
    let folder = PathBuf::from("/state");
    let (path, error) = (folder.join(FILE), String::from("disk I/O error"));
    let (owner, agent) = (String::from("root"), String::from("pulsegate"));
    let faults = [
        (DiskFault::Full { folder: folder.clone(), free_bytes: 0 }, "full", "remove other files"),
        (DiskFault::NoInodes { folder: folder.clone() }, "no_inodes", "remove small files"),
        (DiskFault::ReadOnly { folder: folder.clone() }, "read_only", "remount it or replace"),
        (
            DiskFault::Owner { path: path.clone(), owner, agent },
            "owner",
            "sudo chown -R pulsegate:",
        ),
        (
            DiskFault::Permission { path: path.clone(), mode: 0o400 },
            "permission",
            "sudo chmod u+rwX",
        ),
        (DiskFault::Missing { folder: folder.clone() }, "missing", "mount or make it"),
        (DiskFault::Io { folder, error }, "io_error", "the card may be worn out"),
        (
            DiskFault::InUse { path, pid: 7 },
            "in_use",
            "(pid 7) writes to `/state/pulsegate.db`; end it",
        ),
    ];
    for (fault, word, cure) in &faults {
        assert_eq!(fault.as_str(), *word);
        let told = faults.iter().filter(|(other, ..)| other.to_string().contains(cure)).count();
        assert!(fault.to_string().contains(cure) && told == 1, "{fault}");
    }
}

/// Needs another user or a file system of its own, and so a process of its own: see `full_disk`.
#[test]
fn another_owner_no_permission_no_inodes_and_a_read_only_disk_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let own_mount = r#"mount -t tmpfs -o size=4m none "$0" && exec "$@""#;
    if rustix::process::geteuid().is_root() {
        let as_nobody = format!(r#"exec setpriv --reuid={NOBODY} --clear-groups "$@""#);
        let device = tempfile::tempdir().unwrap();
        std::fs::write(device.path().join(FILE), "").unwrap();
        chown(device.path().join(FILE), Some(1), None).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(device.path(), open).unwrap();
        full_disk::run_child_test(
            &as_nobody,
            "store::tests::disk::child_of_another_owner",
            device.path(),
        );
        let device = tempfile::tempdir().unwrap();
        chown(device.path(), Some(NOBODY), None).unwrap();
        let closed = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(device.path(), closed).unwrap();
        full_disk::run_child_test(
            &as_nobody,
            "store::tests::disk::child_without_permission",
            device.path(),
        );
    }
    if full_disk::may_mount() {
        let few_inodes = own_mount.replace("size=4m", "size=4m,nr_inodes=8");
        let shell =
            format!(r#"exec unshare -rm sh -c '{few_inodes}' "${}" "$@""#, full_disk::CHILD);
        full_disk::run_child_test(
            &shell,
            "store::tests::disk::child_without_inodes",
            folder.path(),
        );
        let shell = format!(r#"exec unshare -rm sh -c '{own_mount}' "${}" "$@""#, full_disk::CHILD);
        full_disk::run_child_test(
            &shell,
            "store::tests::disk::child_on_a_read_only_disk",
            folder.path(),
        );
    }
}

#[test]
fn child_of_another_owner() {
    let Ok(folder) = std::env::var(full_disk::CHILD) else { return };

    let fault = fault_of(&Path::new(&folder).join(FILE));

    assert_eq!(fault.as_str(), "owner", "{fault}");
    let text = fault.to_string();
    assert!(
        text.contains("sudo chown -R nobody: ") && text.contains("belongs to `daemon`"),
        "{text}"
    );
    println!("the child came to its end");
}

#[test]
fn child_without_permission() {
    let Ok(folder) = std::env::var(full_disk::CHILD) else { return };

    let fault = fault_of(&Path::new(&folder).join(FILE));

    assert_eq!(fault.as_str(), "permission", "{fault}");
    assert!(fault.to_string().contains("sudo chmod u+rwX"), "{fault}");
    println!("the child came to its end");
}

#[test]
fn child_without_inodes() {
    let Ok(folder) = std::env::var(full_disk::CHILD) else { return };
    let folder = PathBuf::from(folder);
    let file = |number: u32| std::fs::write(folder.join(number.to_string()), "");
    (0..100).take_while(|number| file(*number).is_ok()).for_each(drop);

    let fault = fault_of(&folder.join(FILE));

    assert_eq!(fault.as_str(), "no_inodes", "{fault}");
    println!("the child came to its end");
}

#[test]
fn child_on_a_read_only_disk() {
    let Ok(folder) = std::env::var(full_disk::CHILD) else { return };
    let remount = std::process::Command::new("mount").args(["-o", "remount,ro", &folder]).status();
    assert!(remount.unwrap().success());

    let fault = fault_of(&Path::new(&folder).join(FILE));

    assert_eq!(fault.as_str(), "read_only", "{fault}");
    println!("the child came to its end");
}
