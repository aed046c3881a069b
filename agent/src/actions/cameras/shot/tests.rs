#![expect(clippy::disallowed_methods, reason = "a test may write files, and measures time")]

use std::time::Instant;

use super::*;

const LARGEST: u64 = 1 << 20;

fn recipe(script: &str, deadline: Duration) -> Recipe {
    // Dash replaces itself with its last command; `:` prevents that.
    let script = format!("{script}\n:");
    let command = ["sh", "-c", script.as_str(), "sh", "{path}"].map(str::to_owned);
    Recipe { command: command.to_vec(), deadline }
}

async fn taken(recipe: Recipe, folder: &Path) -> Result<Picture, String> {
    let quota = Quota { largest: LARGEST, ..Quota::new(u64::MAX, 1) };
    let taken = take_picture(recipe, PictureStore::new(folder), "1.jpg".to_owned(), quota).await;
    taken.map(|(picture, _)| picture)
}

async fn outcome(script: &str, deadline: Duration) -> (Result<Picture, String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let taken = taken(recipe(script, deadline), folder.path()).await;
    let names = fs::read_dir(folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    (taken, names.collect())
}

#[tokio::test]
async fn what_the_program_wrote_is_the_picture() {
    let (taken, names) = outcome("printf jpeg > \"$1\"", Duration::from_secs(60)).await;

    assert_eq!(taken.unwrap().bytes, 4);
    assert_eq!(names, ["1.jpg"]);
}

#[tokio::test]
async fn whatever_is_no_picture_has_its_reason_and_leaves_nothing() {
    for (script, reason) in [
        ("true", "there is no picture"),
        ("> \"$1\"", "the picture is empty"),
        ("printf jpeg > \"$1\"; exit 3", "`sh` ended with 3"),
        ("kill -9 $$", "`sh` was ended by signal 9"),
        ("ln -s /etc/passwd \"$1\"", "there is no picture but something else"),
        (
            "head -c 2000000 /dev/zero > \"$1\"",
            "the picture is larger than 1024 KiB: raise `pictures.max_bytes`",
        ),
    ] {
        let (taken, names) = outcome(script, Duration::from_secs(60)).await;

        assert_eq!(taken.unwrap_err(), reason, "{script}");
        assert_eq!(names, [""; 0], "{script}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let recipe = Recipe { command: vec!["no-such".to_owned()], deadline: Duration::from_secs(1) };
    let folder = tempfile::tempdir().unwrap();

    let taken = taken(recipe, folder.path()).await;

    let reason = taken.unwrap_err();
    assert!(reason.starts_with("`no-such` cannot be run: "), "{reason}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {}; wait", pids.display());
    let began = Instant::now();

    let (taken, _) = outcome(&script, Duration::from_millis(500)).await;

    assert_eq!(taken.unwrap_err(), "`sh` took more than 0 s");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    ended(&pids, began).await;
}

#[tokio::test]
async fn what_the_program_leaves_running_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {}; printf jpeg > \"$1\"", pids.display());
    let began = Instant::now();

    let (taken, _) = outcome(&script, Duration::from_secs(60)).await;

    assert_eq!(taken.unwrap().bytes, 4);
    ended(&pids, began).await;
}

/// Waits for the end of the process whose id is in the file.
async fn ended(pids: &Path, began: Instant) {
    let started = fs::read_to_string(pids).unwrap();
    let is_gone = || {
        let about = fs::read_to_string(format!("/proc/{}/stat", started.trim()));
        // A zombie counts as gone: the process may have no parent that reaps it.
        about.map_or(true, |about| about.contains(") Z ") || about.contains(") X "))
    };
    while !is_gone() {
        assert!(began.elapsed() < Duration::from_secs(60), "it still runs");
        tokio::task::yield_now().await;
    }
}
