//! Rules about the source itself: which crate may use which, who owns which edge of the world, what
//! never enters git. ARCHITECTURE.md gives the reasons.
//!
//! Comments and test modules are left out where a rule is about production code. The reading is by
//! line and by word, not by grammar: it is there to catch a slip, not an opponent.

mod rooms;
mod walks;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What `pulsegate-core` may use: none of it does I/O, asks for the time, or starts anything.
const CORE_MAY_USE: [&str; 7] =
    ["pulsegate-sensors", "thiserror", "jiff", "itoa", "serde", "serde_json", "schemars"];

/// Which of our crates uses which.
const DIRECTION: [(&str, &[&str]); 7] = [
    ("regex", &[]),
    ("pulsegate-sensors", &[]),
    ("pulsegate-core", &["pulsegate-sensors"]),
    ("pulsegate", &["pulsegate-sensors", "pulsegate-core", "pulsegate-standin"]),
    ("pulsegate-standin", &[]),
    ("pulsegate-tests", &["pulsegate-sensors", "pulsegate-standin"]),
    ("pulsegate-rig", &["pulsegate-tests"]),
];

/// Words that only the owner of an edge may say, and the files that own it, by their beginnings.
const OWNERS: [(&[&str], &[&str]); 7] = [
    (&["rumqttc"], &["agent/src/cloud/mqtt"]),
    (&["rusqlite"], &["agent/src/db"]),
    (&["sd_notify"], &["agent/src/platform/systemd"]),
    (
        // Some are planned: uploads, updates, credentials.
        &["reqwest"],
        &[
            "agent/src/cloud/uploader",
            "agent/src/platform/updater",
            "agent/src/cloud/credentials",
            "agent/src/cloud/tls",
        ],
    ),
    (
        &["SystemTime::now", "Timestamp::now", "Zoned::now", "std::time::Instant::now"],
        &["agent/src/platform/clock"],
    ),
    (
        &["fs::rename", "sync_all(", "sync_data(", "fsync(", "fdatasync(", "renameat"],
        &["agent/src/platform/durable"],
    ),
    (&["\"pulsegate/{"], &["agent/core/src/cloud/topic"]),
];

/// The beginning of a path, and why it is on a list.
type Module = (&'static str, &'static str);

/// Words by which work gets onto a thread, or waits for one of the runtime's pool, which all who use it
/// share; the modules that may say one, by the beginnings of their paths, and why nothing else hangs there.
const THREADS: [(&[&str], &[Module]); 4] = [
    (
        &["spawn_blocking", "block_in_place"],
        &[(
            "sensors/src/heart_rate/bluez/call.rs",
            "the pool is of a runtime that only BlueZ uses",
        )],
    ),
    (&["tokio::fs", "tokio::{fs", "net::lookup_host"], &[]),
    (
        &["ToSocketAddrs", "to_socket_addrs", "TcpStream", "UdpSocket"],
        &[(
            "agent/src/cloud/mqtt/dial.rs",
            "names are looked up on the resolver's thread: `Aside`",
        )],
    ),
    (
        &["thread::spawn", "thread::Builder", "thread::scope"],
        &[
            ("agent/src/platform/aside.rs", "a thread a kind of work, with a deadline"),
            ("agent/src/agent/opening.rs", "the start waits for it beside the signals"),
            (
                "agent/src/platform/clock/witnesses.rs",
                "the clock chip; whoever asks waits for a limited time",
            ),
            ("agent/src/store/writer.rs", "the store"),
            ("agent/src/store/writer/salvaging.rs", "a salvage, for which nothing waits"),
            ("agent/src/store/check.rs", "a look through the whole store, which ends by itself"),
            ("sensors/src/heart_rate/bluez.rs", "BlueZ"),
            ("sensors/src/line/watch.rs", "a line"),
            ("sensors/src/number/bus.rs", "a bus of numbers"),
        ],
    ),
];

/// What has no place in a crate that decides and does nothing.
const NOT_IN_CORE: [&str; 12] = [
    "std::fs",
    "std::net",
    "stdin(",
    "stdout(",
    "stderr(",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "async fn",
    "tokio",
];

/// Names that say nothing.
const EMPTY_WORDS: [&str; 7] = ["Manager", "Helper", "Util", "Utils", "Handler", "Info", "Data"];

/// Beyond it nobody reads a file to its end.
const MAX_FILE_LINES: usize = 600;
/// The part that everybody must know.
const MAX_CORE_LINES: usize = 7_150;
const PROMISES: usize = 13;

/// Files whose tests may contain dates, by the beginnings of their paths, and why none of them depends on
/// today. Elsewhere `// fixed date: REASON` on the line, or on a line of its own above it, allows one.
const FIXED_DATES: [(&str, &str); 10] = [
    ("agent/core/", "core has no clock: `now` is passed in"),
    ("agent/src/store/tests", "the time of the kernel start is passed in with the options"),
    ("agent/src/platform/clock/witnesses.rs", "the time of the build is passed in"),
    ("agent/src/agent/state_dir.rs", "the number of a kind of file system"),
    ("sensors/src/grid.rs", "the wall clock is passed in"),
    ("sensors/src/inbox/line.rs", "only the form of a line is parsed"),
    ("sensors/src/inbox/stamp.rs", "only the form of a time is parsed"),
    ("sensors/src/inbox/tests.rs", "no clock: the reading keeps the time of its line"),
    ("sensors/src/number/read_schedule.rs", "the wall clock is passed in"),
    ("tests/bench/", "the same bytes in every run; nothing is kept for an age"),
];
/// Dates from here on are near today, to [`LAST_YEAR`]: 2025, before this software existed.
const FIRST_YEAR: i64 = 2025;
/// Later ones stand for no day on which a test runs.
const LAST_YEAR: i64 = 2040;

/// Second TLS stacks.
const BANNED_CRATES: [&str; 5] =
    ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"];

#[test]
fn dependencies_between_our_crates_point_one_way() {
    let packages = packages();

    assert_eq!(packages.len(), DIRECTION.len(), "a crate without a place in DIRECTION");
    for (name, allowed) in DIRECTION {
        for dependency in dependencies(&packages, name) {
            let dependency = dependency["name"].as_str().unwrap();
            assert!(
                !dependency.starts_with("pulsegate") || allowed.contains(&dependency),
                "`{name}` must not use `{dependency}`"
            );
        }
    }
}

#[test]
fn core_uses_nothing_that_acts() {
    for dependency in dependencies(&packages(), "pulsegate-core") {
        let name = dependency["name"].as_str().unwrap();
        assert!(CORE_MAY_USE.contains(&name), "core must not use `{name}`");
        if name == "pulsegate-sensors" {
            assert_eq!(dependency["features"], Value::Array(Vec::new()), "core sees no driver");
            assert_eq!(dependency["uses_default_features"], false, "core sees no driver");
        }
    }
    let mut offences = Vec::new();
    for file in sources("agent/core/src/") {
        offences.extend(file.saying(&NOT_IN_CORE));
    }
    assert_none(&offences, "core does no I/O and asks for no time");
}

#[test]
fn every_edge_has_one_owner() {
    let mut offences = Vec::new();
    for file in sources("agent/") {
        for (words, owners) in OWNERS {
            if !owners.iter().any(|owner| file.path.starts_with(owner)) {
                offences.extend(file.saying(words));
            }
        }
    }
    assert_none(&offences, "said by somebody who does not own that edge");
}

#[test]
fn what_may_hang_shares_no_thread() {
    let files: Vec<Source> = ["agent/", "sensors/src/"].into_iter().flat_map(sources).collect();
    let offences: Vec<String> = files.iter().flat_map(threads_of_others).collect();
    assert_none(&offences, "`Aside` runs work that may hang on a thread of its kind");
    for (words, (module, _)) in
        THREADS.iter().flat_map(|(words, may)| may.iter().map(move |may| (words, may)))
    {
        let says = |file: &Source| file.path.starts_with(module) && !file.saying(words).is_empty();
        assert!(files.iter().any(says), "THREADS lists `{module}`, which says none of {words:?}");
    }
}

#[test]
fn work_on_a_thread_of_others_is_found() {
    let found = |path: &str, line: &str| {
        let file = Source { path: path.to_owned(), lines: production(line) };
        threads_of_others(&file).len()
    };
    let lines = [
        "    let text = tokio::fs::read_to_string(path).await?;",
        "use tokio::{fs, io};",
        "    tokio::task::spawn_blocking(move || read(path)).await",
        "    let found = tokio::net::lookup_host((host, 443)).await?;",
        "    let found = (host, 443).to_socket_addrs()?;",
        "    let stream = TcpStream::connect((host, 443)).await?;",
        "    std::thread::spawn(move || read(path));",
    ];
    for line in lines {
        assert_eq!(found("agent/src/cloud/publisher.rs", line), 1, "{line}");
        assert_eq!(found("agent/src/cloud/publisher.rs", &format!("// {line}")), 0, "{line}");
    }
    let asks = "    let found = address.to_socket_addrs();";
    assert_eq!(found("agent/src/cloud/mqtt/dial.rs", asks), 0);
    assert_eq!(found("agent/src/cloud/mqtt/dial.rs", lines[0]), 1, "only what it is listed with");
}

#[test]
fn production_code_does_not_unwrap() {
    let mut offences = Vec::new();
    for file in ["agent/", "sensors/", "tests/standin/"].into_iter().flat_map(sources) {
        offences.extend(file.saying(&[".unwrap()"]));
    }
    assert_none(&offences, "`expect` says why it cannot be");
}

#[test]
fn no_test_is_switched_off() {
    let attribute = concat!("#[", "ignore");
    for path in tracked("").into_iter().filter(|path| is_rust(path)) {
        assert!(!read(&path).contains(attribute), "{path} switches a test off");
    }
}

#[test]
fn tests_do_not_depend_on_today() {
    let mut offences = Vec::new();
    let mut used = [false; FIXED_DATES.len()];
    for path in tracked("").into_iter().filter(|path| is_rust(path)) {
        let dates = fixed_dates(&test_code(&path, &read(&path)));
        match FIXED_DATES.iter().position(|(allowed, _)| path.starts_with(allowed)) {
            Some(listed) => used[listed] |= !dates.is_empty(),
            None => {
                offences.extend(dates.iter().map(|(line, date)| format!("{path}:{line}: {date}")))
            }
        }
    }
    assert_none(&offences, "a fixed date fails some day; `pulsegate_tests::date` counts from now");
    for ((path, _), used) in FIXED_DATES.iter().zip(used) {
        assert!(used, "FIXED_DATES lists `{path}`, which has no date any more");
    }
}

/// Lines of tests that failed a week after they were written, and their like.
#[test]
fn a_date_near_today_is_found_in_a_test() {
    let found = |path: &str, text: &str| -> Vec<usize> {
        fixed_dates(&test_code(path, text)).iter().map(|(line, _)| *line).collect()
    };
    let day = concat!("2026", "-11-20");
    let replay = [
        concat!("const BEGIN: i64 = 1_795", "_168_800_000;"),
        "    (&json!(\"raised\"), &json!(\"{day}T10:02:30.000Z\")),",
        "    let until: Vec<String> = told(&[\"--until\", \"{day}T10:04:30Z\"]);",
        concat!("    let now = 179", "5168800;"),
        concat!("    let ten = jiff::civil::date(20", "26, 11, 20);"),
    ];
    for line in replay.map(|line| line.replace("{day}", day)) {
        assert_eq!(found("tests/tests/replay.rs", &line), [1], "{line}");
        assert_eq!(found("agent/src/store/filters/tests.rs", &line), [1], "{line}");
        assert_eq!(found("agent/src/platform/boot.rs", &line), [0; 0], "production code: {line}");
        let module = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{line}\n}}\n{line}\n");
        assert_eq!(found("agent/src/platform/boot.rs", &module), [4], "{line}");
        let marked =
            format!("{line} // fixed date: the reason\n// fixed date: why\n{line}\n{line}");
        assert_eq!(found("tests/tests/replay.rs", &marked), [4], "{line}");
        let unfounded = format!("{line} // fixed date:\n");
        assert_eq!(found("tests/tests/replay.rs", &unfounded), [1], "a reason is missing: {line}");
    }
    for line in ["1_700_000_000_000", "x[20250101]", "\"1970-01-01T00:00:00Z\"", "2_300_000_000.0"]
    {
        assert_eq!(found("tests/tests/replay.rs", line), [0; 0], "{line}");
    }
}

#[test]
fn files_are_short_and_say_first_what_they_are() {
    for path in tracked("").into_iter().filter(|path| is_rust(path)) {
        let text = read(&path);
        let lines = text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{path} has {lines} lines");
        let says = text.lines().take(3).any(|line| line.starts_with("//!"));
        assert!(says || path.ends_with("/tests.rs"), "{path} does not begin with its doc");
    }
}

#[test]
fn core_stays_small_enough_to_be_known() {
    let lines: usize = sources("agent/core/src/").iter().map(|file| file.lines.len()).sum();
    assert!(lines <= MAX_CORE_LINES, "core has {lines} lines of production code");
}

#[test]
fn names_say_something() {
    let mut offences = Vec::new();
    for file in ["agent/", "sensors/", "tests/"].into_iter().flat_map(sources) {
        for (number, line) in &file.lines {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let defined = words.by_ref().find(|w| ["struct", "enum", "trait", "mod"].contains(w));
            let name = defined.and_then(|_| words.next()).unwrap_or_default();
            let name = name.split('_').map(capitalised).collect::<String>();
            if EMPTY_WORDS.iter().any(|word| name.ends_with(word)) {
                offences.push(format!("{}:{number}: {name}", file.path));
            }
        }
    }
    assert_none(&offences, "a name that says nothing");
}

#[test]
fn architecture_states_every_promise_once() {
    let text = read("ARCHITECTURE.md");
    for number in 1..=PROMISES {
        let promise = format!("**P{number} ");
        assert_eq!(text.matches(&promise).count(), 1, "promise P{number} in ARCHITECTURE.md");
    }
}

#[test]
fn no_private_key_is_in_git() {
    for path in tracked("") {
        let bytes = std::fs::read(root().join(&path)).unwrap_or_default();
        assert!(!holds_private_key(&String::from_utf8_lossy(&bytes)), "{path} holds a private key");
    }
}

#[test]
fn the_lock_file_is_in_git_and_holds_one_tls_stack() {
    assert!(tracked("").contains(&"Cargo.lock".to_owned()));
    let lock = read("Cargo.lock");
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();

    for banned in BANNED_CRATES {
        assert!(!names.contains(&banned), "`{banned}` is in Cargo.lock");
    }
    assert_eq!(names.iter().filter(|name| **name == "rustls").count(), 1);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in tracked("").into_iter().filter(|path| has_extension(path, "md")) {
        let text = read(&path);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains(':')) {
            let file = target.split('#').next().unwrap_or_default();
            let from = root().join(&path);
            let to = from.parent().unwrap().join(file);
            assert!(file.is_empty() || to.exists(), "{path} links to {target}, which is missing");
        }
    }
}

#[test]
fn the_readme_shows_the_decoder_of_columns() {
    let decoder = read("agent/decode_columns.py");
    let shown = format!("```python\n{decoder}```\n");
    assert!(read("README.md").contains(&shown), "README.md shows another decode_columns.py");
}

#[test]
fn a_private_key_is_recognised() {
    let body = "MHcCAQEEIJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ0pJ";
    let header = concat!("-----BEGIN EC PRIVATE", " KEY-----");

    assert!(holds_private_key(&format!("{header}\n{body}\n")));
    assert!(holds_private_key(&format!("\"{header}\\n{body}\\n\"")));
    assert!(!holds_private_key(&format!("the line `{header}` begins a key")));
}

#[test]
fn comments_and_test_modules_are_no_production_code() {
    let text = "//! doc\nuse a;\n#[cfg(test)]\nmod tests {\n    x.unwrap()\n}\nfn f() {} // why\n";

    assert_eq!(production(text), [(2, "use a;".to_owned()), (7, "fn f() {}".to_owned())]);
}

/// The production code of one file.
struct Source {
    path: String,
    lines: Vec<(usize, String)>,
}

impl Source {
    /// Where one of `words` is said.
    fn saying(&self, words: &[&str]) -> Vec<String> {
        let says = |line: &str| words.iter().any(|word| line.contains(word));
        let lines = self.lines.iter().filter(|(_, line)| says(line));
        lines.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim())).collect()
    }
}

/// Where a file says a word of [`THREADS`] that it is not listed with.
fn threads_of_others(file: &Source) -> Vec<String> {
    let may = |listed: &[Module]| listed.iter().any(|(path, _)| file.path.starts_with(path));
    let not_listed = THREADS.iter().filter(|(_, listed)| !may(listed));
    not_listed.flat_map(|(words, _)| file.saying(words)).collect()
}

/// The production code below a folder.
fn sources(folder: &str) -> Vec<Source> {
    let paths = tracked(folder).into_iter().filter(|path| is_rust(path) && !is_test(path));
    let sources: Vec<Source> = paths
        .map(|path| {
            let lines = production(&read(&path));
            Source { path, lines }
        })
        .collect();
    assert!(!sources.is_empty(), "nothing below {folder}");
    sources
}

/// Whether a file holds nothing but tests.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Numbered lines without comments and without `#[cfg(test)] mod x { ... }`.
fn production(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line == "#[cfg(test)]" {
            let block = lines.next().is_some_and(|(_, item)| item.ends_with('{'));
            if block {
                lines.by_ref().find(|(_, line)| *line == "}");
            }
            continue;
        }
        let code = if line.trim_start().starts_with("//") { "" } else { line };
        let code = code.split(" // ").next().unwrap_or_default();
        if !code.trim().is_empty() {
            kept.push((number, code.to_owned()));
        }
    }
    kept
}

/// Numbered lines of a file that only tests see, comments included: all of a file of tests, or of the
/// harness, and what [`production`] leaves out of another.
fn test_code<'a>(path: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let lines = (1..).zip(text.lines());
    if is_test(path) || path.starts_with("tests/") && !path.starts_with("tests/standin/") {
        return lines.collect();
    }
    let mut kept = Vec::new();
    let (mut is_next, mut inside) = (false, false);
    for (number, line) in lines {
        inside = (inside || is_next && line.ends_with('{')) && line != "}";
        is_next = line == "#[cfg(test)]";
        if inside {
            kept.push((number, line));
        }
    }
    kept
}

/// The lines that contain a date near today and do not say why they may.
fn fixed_dates(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let reason = |line: &str| {
        let reason = line.split_once("// fixed date:").map(|(_, reason)| reason.trim());
        reason.is_some_and(|reason| !reason.is_empty())
    };
    let mut found = Vec::new();
    let mut is_above = false;
    for (number, line) in lines {
        let is_comment = line.trim_start().starts_with("//");
        if !is_comment && !is_above && !reason(line) && has_date(line) {
            found.push((*number, line.trim().to_owned()));
        }
        is_above = is_comment && reason(line);
    }
    found
}

/// Whether a line contains a date from [`FIRST_YEAR`] to [`LAST_YEAR`]: in ISO 8601, as three numbers in
/// brackets, or as a number of seconds or milliseconds since 1970.
fn has_date(line: &str) -> bool {
    const YEAR_SECONDS: i64 = 31_556_952;
    let near = |year: i64| (FIRST_YEAR..LAST_YEAR).contains(&year);
    let instant = (FIRST_YEAR - 1970) * YEAR_SECONDS..(LAST_YEAR - 1970) * YEAR_SECONDS;
    let line = line.replace('_', "");
    let numbers: Vec<(usize, &str)> = {
        let digits = |c: char| c.is_ascii_digit();
        let starts = line.char_indices().filter(|(at, c)| {
            digits(*c) && !line[..*at].chars().next_back().is_some_and(char::is_alphanumeric)
        });
        let until = |at: usize| line[at..].find(|c| !digits(c)).map_or(line.len(), |end| at + end);
        starts.map(|(at, _)| (at, &line[at..until(at)])).collect()
    };
    let is_instant = numbers
        .iter()
        .filter_map(|(_, text)| text.parse::<i64>().ok())
        .any(|number| instant.contains(&number) || instant.contains(&(number / 1_000)));
    let is_day = numbers.windows(3).any(|day| {
        let parts = [0, 1, 2].map(|part| day[part].1);
        let between = |a: usize| &line[day[a].0 + parts[a].len()..day[a + 1].0];
        let joined = [between(0), between(1)];
        let is_year = parts[0].len() == 4 && parts[0].parse().is_ok_and(near);
        is_year && (joined == ["-", "-"] || joined == [", ", ", "])
    });
    is_instant || is_day
}

fn holds_private_key(text: &str) -> bool {
    let ends = text.match_indices(concat!("PRIVATE", " KEY-----")).map(|(at, end)| at + end.len());
    ends.map(|end| &text[end..]).any(|rest| {
        let body = rest.strip_prefix("\\n").unwrap_or(rest).trim_start();
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        body.chars().take_while(|c| base64(*c)).count() >= 40
    })
}

/// Every file below `folder` that git tracks, or would if it were added.
fn tracked(folder: &str) -> Vec<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is missing: run `tests/install-packages`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let paths = paths.split_terminator('\0').filter(|path| path.starts_with(folder));
    paths.map(str::to_owned).filter(|path| root().join(path).is_file()).collect()
}

/// Our crates, as cargo sees them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    serde_json::from_value(metadata["packages"].take()).expect("a list of packages")
}

/// What a crate of ours needs, its tests left out.
fn dependencies<'a>(packages: &'a [Value], name: &str) -> Vec<&'a Value> {
    let package = packages.iter().find(|package| package["name"] == name);
    let package = package.unwrap_or_else(|| panic!("there is no crate `{name}`"));
    let all = package["dependencies"].as_array().expect("a list of dependencies");
    all.iter().filter(|dependency| dependency["kind"] != "dev").collect()
}

fn assert_none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

fn capitalised(word: &str) -> String {
    word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect()
}

fn is_rust(path: &str) -> bool {
    has_extension(path, "rs")
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
