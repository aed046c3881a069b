//! The order of the system calls on which durability rests (P1): content reaches the disk before its name, its name
//! before the next step, and a reading before its answer. A file system in memory or a kernel that keeps running
//! would hide a missing sync, so the calls themselves are compared.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::certs::Certs;
use pulsegate_tests::inbox::reading;
use pulsegate_tests::trace::{Call, Trace, borrow_words};

/// A device without a link.
fn device(certs: &Certs) -> Device {
    let identity = certs.device("pi");
    Device::new("pi").identity(&identity.files).broker(1, &certs.ca())
}

fn traced(device: Device, trace: &Trace) -> Device {
    let words = trace.words();
    device.under(&borrow_words(&words))
}

/// Returns the state directory as the kernel names it.
fn state_dir(device: &Device) -> std::path::PathBuf {
    device.state_dir().canonicalize().expect("the state directory")
}

async fn store_reading(agent: &Agent, source: &str) {
    agent.inbox().await.store(&[reading(source, "count", 1.into()).to_string()]).await;
}

async fn stop(mut agent: Agent, trace: &Trace) -> Vec<Call> {
    let pid = agent.pid();
    agent.stop().await;
    trace.calls(pid).await
}

/// Checks each rename in `folder`: the last write to the file is synced before the rename, and the folder after it,
/// before the next rename. Returns the names of the renamed files.
fn assert_renames_durable(calls: &[Call], folder: &Path) -> Vec<String> {
    let renames: Vec<_> = calls.iter().filter_map(|call| Some((call, call.renamed()?))).collect();
    let mut names = Vec::new();
    for (rename, (from, to)) in renames.iter().filter(|(_, (_, to))| to.parent() == Some(folder)) {
        // The file may have been renamed before, as a salvaged store is.
        let earlier =
            renames.iter().find(|(before, (_, to))| before.is_before(rename) && to == from);
        let names_before = [Some(from), earlier.map(|(_, (from, _))| from)];
        let is_on = |matches: &dyn Fn(&Path) -> bool| {
            names_before.iter().flatten().any(|name| matches(name))
        };
        let written = calls
            .iter()
            .rfind(|call| is_on(&|name| call.is_write_to(name)) && call.is_before(rename));
        let synced = calls.iter().rfind(|call| {
            call.name == "fsync" && is_on(&|name| call.is_sync_of(name)) && call.is_before(rename)
        });
        let synced = synced.unwrap_or_else(|| panic!("{rename:?}: the content is not synced"));
        assert!(written.is_none_or(|written| written.is_before(synced)), "{rename:?}: {written:?}");
        let next = renames.iter().find(|(next, _)| rename.is_before(next));
        let named = calls.iter().find(|call| call.is_sync_of(folder) && rename.is_before(call));
        let named = named.unwrap_or_else(|| panic!("{rename:?}: the folder is not synced"));
        assert!(next.is_none_or(|(next, _)| named.is_before(next)), "{rename:?}: synced late");
        names.extend(to.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names
}

/// The mutants without an fsync of the file or of the folder change no content that a running kernel shows.
#[tokio::test]
async fn a_replaced_file_is_synced_before_its_rename_and_its_folder_after_it() {
    let Some(trace) = Trace::begin() else { return };
    let certs = Certs::new();
    let device = traced(device(&certs), &trace);
    let agent = device.started().await;
    store_reading(&agent, "meter").await;
    let calls = stop(agent, &trace).await;

    let names = assert_renames_durable(&calls, &state_dir(&device));

    for name in ["boot", "pulsegate.db.ballast"] {
        assert!(names.iter().any(|there| there == name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn a_reading_is_synced_to_the_log_before_it_is_answered() {
    let Some(trace) = Trace::begin() else { return };
    let certs = Certs::new();
    let device = traced(device(&certs), &trace);
    let agent = device.started().await;
    for source in ["probe-one", "probe-two", "probe-three"] {
        store_reading(&agent, source).await;
    }
    let calls = stop(agent, &trace).await;

    let log = state_dir(&device).join("pulsegate.db-wal");
    let answers: Vec<&Call> = calls.iter().filter(|call| is_answer(call)).collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    // The first page with the name of a source is that of its first reading's commit.
    for (source, answer) in ["probe-one", "probe-two", "probe-three"].into_iter().zip(answers) {
        let written =
            calls.iter().find(|call| call.is_write_to(&log) && call.text.contains(source));
        let written = written.unwrap_or_else(|| panic!("{source} is in no page"));
        // `fsync` would commit the journal of the file system as well: SQLite was compiled without fdatasync.
        let is_between = |call: &&Call| {
            call.name == "fdatasync"
                && call.is_sync_of(&log)
                && written.is_before(call)
                && call.is_before(answer)
        };
        assert!(calls.iter().any(|call| is_between(&call)), "{source}: {written:?}, {answer:?}");
    }
}

/// An answer with an id, on a socket.
fn is_answer(call: &Call) -> bool {
    matches!(&*call.name, "write" | "writev" | "sendto" | "sendmsg")
        && call.text.contains(r#"{\"id\":"#)
        && !call.text.contains("</")
}

/// The salvage writes a new store and moves it to its place in two renames.
#[tokio::test]
async fn a_salvaged_store_is_synced_before_it_takes_the_place_of_the_damaged_one() {
    let Some(trace) = Trace::begin() else { return };
    let certs = Certs::new();
    let device = device(&certs);
    let mut agent = device.started().await;
    store_reading(&agent, "meter").await;
    agent.stop().await;
    let database = device.state_dir().join("pulsegate.db");
    let file = std::fs::File::options().write(true).open(&database).expect("a store");
    // The page of the schema, behind the header.
    file.write_all_at(&[0xa5; 800], 100).expect("damages a page");

    let device = traced(device, &trace);
    let mut agent = device.started().await;
    let salvaged = |status: &serde_json::Value| status.to_string().contains("set aside");
    agent.wait_status("the damaged store is set aside", PATIENCE, salvaged).await;
    let calls = stop(agent, &trace).await;

    let names = assert_renames_durable(&calls, &state_dir(&device));

    let whole = names.iter().position(|name| name == "pulsegate.db.new").expect("a whole store");
    let placed = names.iter().position(|name| name == "pulsegate.db").expect("a store in place");
    assert!(whole < placed, "{names:?}");
    // SQLite syncs what it wrote; the size and the times of the finished file are synced once more.
    let writing = state_dir(&device).join("pulsegate.db.salvage");
    assert!(calls.iter().any(|call| call.name == "fsync" && call.is_sync_of(&writing)));
}
