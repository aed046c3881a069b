//! The rules against an independent computation: SQLite's own SQL over the same readings.

use pulsegate_core::rules::{Condition, Range, Take, Test, WindowSpec};
use rusqlite::Connection;

use super::rules::above;
use super::*;

const READINGS: usize = 100_000;
/// So many that no source has more alerts of a rule than may be told by arrival, which stands still.
const SOURCES: u32 = 40;
/// Readings that are offered at once.
const LOT: usize = 5_000;
/// The monotonic time throughout. The clock stands still, so that a window settles by what the
/// sources tell, as in the SQL, and not by how long this machine takes.
const STILL: Mono = Mono(3_600_000);
/// How late a reading may be and still count, in milliseconds.
const LATENESS: i64 = 5_000;

/// What the SQL is told of a rule: its window and how long it must hold, in milliseconds, its value
/// over the rows `w` of a window, and its thresholds.
struct Case {
    name: &'static str,
    take: Take,
    length: i64,
    step: i64,
    hold: i64,
    value: &'static str,
    above: f64,
    below: f64,
}

const MEAN: &str = "(SELECT avg(value) FROM w)";
const COUNT: &str = "(SELECT count(*) FROM w)";
const FIRST: &str = "(SELECT value FROM w ORDER BY time, value LIMIT 1)";
const LAST: &str = "(SELECT value FROM w ORDER BY time DESC, value DESC LIMIT 1)";

fn cases() -> Vec<Case> {
    let case = |name, take, (length, step): (i64, i64), value, (below, above)| Case {
        hold: 0,
        name,
        take,
        length: length * 1000,
        step: step * 1000,
        value,
        above,
        below,
    };
    let lasting = |name, take, window, hold: i64, value, limits| Case {
        hold: hold * 1000,
        ..case(name, take, window, value, limits)
    };
    vec![
        case("mean", Take::Mean, (60, 60), MEAN, (97.0, 103.0)),
        case("sliding", Take::Mean, (60, 5), MEAN, (97.0, 103.0)),
        case("min", Take::Min, (10, 10), "(SELECT min(value) FROM w)", (61.0, 1e9)),
        case("max", Take::Max, (30, 3), "(SELECT max(value) FROM w)", (-1e9, 139.0)),
        case("count", Take::Count, (20, 20), COUNT, (12.0, 28.0)),
        case("sum", Take::Sum, (20, 4), "(SELECT total(value) FROM w)", (1200.0, 2600.0)),
        case("rate", Take::Rate, (30, 30), RATE, (-150.0, 150.0)),
        lasting("high for long", Take::Mean, (30, 3), 9, MEAN, (-1e9, 102.0)),
        lasting("few for long", Take::Count, (20, 20), 20, COUNT, (20.0, 1e9)),
    ]
}

const RATE: &str =
    "(SELECT (LAST - FIRST) * 1.0 / nullif(max(time) - min(time), 0) * 60000.0 FROM w)";

fn rules() -> Vec<RuleSpec> {
    let millis = |count: i64| Duration::from_millis(u64::try_from(count).unwrap());
    let rule = |case: Case| RuleSpec {
        name: case.name.into(),
        on: Some("number".into()),
        condition: Condition::Reading(Test::Outside(Range {
            above: Some(case.above),
            below: Some(case.below),
        })),
        window: Some(WindowSpec {
            length: millis(case.length),
            step: millis(case.step),
            take: case.take,
        }),
        hold_for: millis(case.hold),
        ..above(0.0)
    };
    cases().into_iter().map(rule).collect()
}

/// About one reading a second of each source, now and then a silence, in the order of arrival:
/// most come up to 5 s late.
fn history(random: &mut fastrand::Rng) -> Vec<(u32, i64, f64)> {
    let mut event = NOON;
    let mut told = Vec::new();
    for _ in 0..READINGS {
        event += if random.u32(..5_000) == 0 { 60_000 } else { random.i64(0..50) };
        let value = f64::from(random.u32(60 * 8..=140 * 8)) / 8.0;
        let late = random.i64(0..LATENESS);
        told.push((event + late, (random.u32(..SOURCES), event, value)));
    }
    told.sort_by_key(|(arrival, _)| *arrival);
    told.into_iter().map(|(_, told)| told).collect()
}

/// `raised`, source, end of the window and value of each alert.
type Alerts = Vec<(bool, u32, i64, f64)>;

fn rows(connection: &Connection, sql: &str) -> Alerts {
    let mut select = connection.prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    select.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// The alerts that a rule should have raised and cleared, up to the last window that has settled.
fn expected(connection: &Connection, case: &Case) -> Alerts {
    let Case { length, step, hold, above, below, .. } = case;
    let value = case.value.replace("FIRST", FIRST).replace("LAST", LAST);
    let value = value.replace(
        "FROM w",
        "FROM r AS w WHERE w.source = ends.source AND time >= edge - LENGTH AND time < edge",
    );
    let value = value.replace("LENGTH", &length.to_string());
    rows(
        connection,
        &format!(
            "WITH RECURSIVE
             span AS (
                SELECT source, min(time) / {step} * {step} AS first, max(time) - {LATENESS} AS last
                FROM r GROUP BY source
             ),
             ends(source, edge, last) AS (
                SELECT source, first + {step}, last FROM span WHERE first + {step} <= last
                UNION ALL SELECT source, edge + {step}, last FROM ends WHERE edge + {step} <= last
             ),
             taken AS (SELECT source, edge, {value} AS value FROM ends),
             judged AS (
                SELECT *, value > {above} OR value < {below} AS holds
                FROM taken WHERE value IS NOT NULL
             ),
             -- A stretch begins with a window that does not hold; what must last begins anew after
             -- a window without a value.
             runs AS (
                SELECT *, sum(NOT holds) OVER before AS stretch,
                    edge - lag(edge, 1, edge) OVER before > {step} AS anew
                FROM judged WINDOW before AS (PARTITION BY source ORDER BY edge)
             ),
             parts AS (
                SELECT *, sum(anew) OVER (PARTITION BY source ORDER BY edge) AS part FROM runs
             ),
             lasted AS (
                SELECT *, edge - min(edge) OVER (PARTITION BY source, stretch, part) >= {hold} AS long
                FROM parts WHERE holds
             ),
             raised AS (
                SELECT source, stretch, min(edge) AS edge, value FROM lasted WHERE long
                GROUP BY source, stretch
             ),
             cleared AS (
                SELECT runs.source, runs.edge, runs.value FROM runs JOIN raised
                ON runs.source = raised.source AND runs.stretch = raised.stretch + 1
                WHERE NOT holds
             ),
             turns AS (
                SELECT 1 AS holds, source, edge, value FROM raised
                UNION ALL SELECT 0, source, edge, value FROM cleared
             )
             SELECT holds, source, edge, CAST(value AS REAL) FROM turns ORDER BY source, edge"
        ),
    )
}

#[tokio::test]
async fn a_hundred_thousand_readings_raise_what_sql_finds_in_them() {
    let mut device = Device::new();
    device.rules = rules();
    device.clock = || STILL;
    let history = history(&mut random());

    // In two starts, so that a restart lies in the middle.
    for part in history.chunks(READINGS / 2) {
        let agent = device.start();
        let sources: Vec<SourceId> =
            (0..SOURCES).map(|source| agent.source(&source.to_string(), "number")).collect();
        for chunk in part.chunks(LOT) {
            let reading = |(source, event, value): &(u32, i64, f64)| Reading {
                time: Some(Wall(*event)),
                ..number(sources[usize::try_from(*source).unwrap()], STILL, *value)
            };
            agent.offer(chunk.iter().map(reading).collect()).await.unwrap();
        }
        agent.stop().await;
    }

    let connection = Connection::open(device.path()).unwrap();
    connection
        .execute_batch(
            "CREATE TEMP TABLE r AS SELECT source, time_ms AS time, value FROM readings;
             CREATE INDEX temp.by_time ON r(source, time, value);",
        )
        .unwrap();
    for case in cases() {
        let raised = format!(
            "SELECT raised, source, window_end_ms, CAST(value AS REAL) FROM alerts
             WHERE rule = '{}' ORDER BY source, window_end_ms",
            case.name
        );
        let (got, expected) = (rows(&connection, &raised), expected(&connection, &case));
        assert!(expected.len() > 100, "{} has only {} alerts", case.name, expected.len());
        let first = got.iter().zip(&expected).find(|(got, expected)| got != expected);
        assert_eq!(first, None, "{}: the first that differs", case.name);
        assert_eq!(got.len(), expected.len(), "{}", case.name);
    }
}
