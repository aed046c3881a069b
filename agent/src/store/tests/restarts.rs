//! State is a fold: an agent that is killed at any moment, and starts again with nothing but its
//! store, makes the decisions of an agent that was never killed. Covers every form of rule, through
//! the real store.

use std::collections::BTreeSet;

use pulsegate_core::rules::{Clear, Condition, KernelBoot, Member, Range, Take, Test, WindowSpec};
use rusqlite::types::Value as Sql;

use super::rules::above;
use super::*;
use crate::db::database::{AlertRow, CommitWork, Database};
use crate::store::fold::Fold;

const READINGS: usize = 2_000;
const DEATHS: usize = 25;
/// The most readings of one commit.
const COMMIT: usize = 8;
/// When the kernel had been up for an hour.
const HOUR: u64 = 3_600_000;
const BELTS: [&str; 3] = ["1", "2", "3"];

/// A reading as it arrives: of a belt, late and with its own time, or of the lid, stamped.
#[derive(Debug, Clone)]
struct Heard {
    source: usize,
    arrival: u64,
    time: Option<i64>,
    value: Value,
}

fn rules() -> Vec<RuleSpec> {
    let seconds = Duration::from_secs;
    let window = |length, step, take| {
        Some(WindowSpec { length: seconds(length), step: seconds(step), take })
    };
    let named = |name: &str, spec: RuleSpec| RuleSpec { name: name.into(), ..spec };
    let mut rules = vec![
        named("level", above(110.0)),
        named("cool", RuleSpec { at_most_every: Some(seconds(45)), ..above(105.0) }),
        named("long", RuleSpec { hold_for: seconds(3), ..above(95.0) }),
        named(
            "hysteresis",
            RuleSpec {
                clear: Clear { below: Some(90.0), hold_for: seconds(2), ..Clear::default() },
                ..above(110.0)
            },
        ),
        named(
            "unlike",
            RuleSpec {
                condition: Condition::Anomaly { learn: seconds(80), score: 1.5 },
                ..above(0.0)
            },
        ),
    ];
    for (take, limit) in [
        (Take::Mean, 100.0),
        (Take::Min, 90.0),
        (Take::Max, 115.0),
        (Take::Count, 4.0),
        (Take::Sum, 500.0),
        (Take::Rate, 50.0),
    ] {
        let of =
            |name, window| named(&format!("{name} {take:?}"), RuleSpec { window, ..above(limit) });
        rules.push(of("tumbling", window(10, 10, take)));
        rules.push(RuleSpec { hold_for: seconds(6), ..of("sliding", window(12, 3, take)) });
    }
    let member = |source: &str, above| Member {
        source: source.into(),
        on: None,
        test: Test::Outside(Range { above: Some(above), below: None }),
    };
    let members = vec![member("1", 90.0), member("2", 85.0), member("3", 90.0)];
    let open = Member { source: "lid".into(), on: None, test: Test::Is("open".into()) };
    let with_lid = vec![member("1", 100.0), open];
    for hold_for in [Duration::ZERO, seconds(2)] {
        let of = |name: &str, condition| RuleSpec {
            name: format!("{name} {hold_for:?}").into(),
            on: None,
            condition,
            hold_for,
            ..above(0.0)
        };
        let within = Some(seconds(3));
        rules.push(of("all", Condition::All { members: members.clone(), within }));
        rules.push(of("any", Condition::Any { members: members.clone() }));
        rules.push(of("with the lid", Condition::All { members: with_lid.clone(), within: None }));
        let is = Condition::Reading(Test::Is("open".into()));
        rules.push(RuleSpec { on: Some("lid".into()), ..of("open", is) });
    }
    rules
}

/// A few readings a second, with a silence now and then; those of belts up to 5 s late.
fn history(random: &mut fastrand::Rng) -> Vec<Heard> {
    let mut event = 0;
    let mut heard = Vec::new();
    for _ in 0..READINGS {
        event += if random.u32(..100) == 0 { random.u64(..90_000) } else { random.u64(..1_500) };
        heard.push(if random.u32(..8) == 0 {
            let word = if random.bool() { "open" } else { "closed" };
            let value = Value::State(word.into());
            Heard { source: BELTS.len(), arrival: HOUR + event, time: None, value }
        } else {
            let arrival = HOUR + event + random.u64(..5_000);
            let time = Some(NOON + i64::try_from(HOUR + event).unwrap());
            let value = Value::Number(80.0 + 40.0 * random.f64());
            Heard { source: random.usize(..BELTS.len()), arrival, time, value }
        });
    }
    heard.sort_by_key(|heard| heard.arrival);
    heard
}

/// One life of the agent.
struct Life {
    database: Database,
    sources: Arc<Sources>,
    ids: Vec<SourceId>,
    fold: Fold,
}

impl Life {
    fn begin(device: &Device, now: Mono) -> Self {
        let options = device.options();
        let sources = Arc::new(Sources::default());
        let database = Database::open_database(
            &options.path,
            &options.identity,
            Arc::clone(&sources),
            &options.pulse,
        )
        .unwrap();
        let belts = BELTS.iter().map(|name| (*name, "heart_rate"));
        let source =
            |(name, kind)| sources.intern_source(Source::new(name, kind).unwrap()).unwrap();
        let ids = belts.chain([("lid", "lid")]).map(source).collect();
        let mut alerts = Vec::new();
        let fold = Fold::rebuild_fold(&device.rules, &database, now, &mut alerts);
        assert_eq!(alerts, []);
        Self { database, sources, ids, fold }
    }

    /// What time decides until `now`.
    fn wait(&mut self, now: Mono, alerts: &mut Vec<AlertRow>) {
        let boot = KernelBoot(self.database.epoch.0);
        while let Some(deadline) =
            self.fold.next_rule_deadline().filter(|deadline| *deadline <= now)
        {
            self.fold.tick_rules(boot, deadline, alerts);
        }
    }

    fn store(&mut self, heard: &[Heard]) {
        let mut work = CommitWork::default();
        for heard in heard {
            let mono = Mono(heard.arrival);
            self.wait(mono, &mut work.alerts);
            let (source, time) = (self.ids[heard.source], heard.time.map(Wall));
            let reading = Reading { source, mono, time, value: heard.value.clone(), detail: None };
            let readings = std::slice::from_ref(&reading);
            self.fold.fold_readings(readings, &self.database, &self.sources, &mut work.alerts);
            work.readings.push(reading);
        }
        self.database.commit_work(&work).unwrap();
    }
}

/// Everything that was decided, rule by rule.
fn lived(history: &[Heard], commits: &[usize], deaths: &BTreeSet<usize>) -> Vec<Vec<Sql>> {
    let mut device = Device::new();
    device.rules = rules();
    let mut life = Life::begin(&device, Mono(0));
    for (nth, ends) in commits.windows(2).enumerate() {
        life.store(&history[ends[0]..ends[1]]);
        if deaths.contains(&nth) {
            let next = history.get(ends[1]).map_or(Mono(HOUR), |next| Mono(next.arrival));
            // What was decided meanwhile dies with it, every other time.
            let mut alerts = Vec::new();
            life.wait(next, &mut alerts);
            if nth % 2 == 0 {
                life.database.commit_work(&CommitWork { alerts, ..CommitWork::default() }).unwrap();
            }
            life = Life::begin(&device, next);
        }
    }
    let mut work = CommitWork::default();
    life.wait(Mono(history[READINGS - 1].arrival + HOUR), &mut work.alerts);
    life.database.commit_work(&work).unwrap();
    let mut select = life
        .database
        .connection
        .prepare(
            "SELECT rule, source, raised, value, window_start_ms, window_end_ms, time_ms, score
             FROM alerts LEFT JOIN scores USING (seq) ORDER BY rule, source, seq",
        )
        .unwrap();
    let row = |row: &rusqlite::Row<'_>| (0..8).map(|at| row.get(at)).collect();
    select.query_map([], row).unwrap().map(Result::unwrap).collect()
}

#[test]
fn an_agent_that_is_killed_anywhere_decides_what_one_decides_that_lives_on() {
    let mut random = random();
    let history = history(&mut random);
    let mut commits = vec![0];
    while let Some(last) = commits.last().copied().filter(|last| *last < READINGS) {
        commits.push(READINGS.min(last + random.usize(1..=COMMIT)));
    }
    let deaths = (0..DEATHS).map(|_| random.usize(..commits.len() - 1)).collect();

    let expected = lived(&history, &commits, &BTreeSet::new());
    let got = lived(&history, &commits, &deaths);

    for rule in rules() {
        let name = Sql::Text(rule.name.to_string());
        let of = |all: &[Vec<Sql>]| -> Vec<Vec<Sql>> {
            all.iter().filter(|row| row[0] == name).cloned().collect()
        };
        let (got, expected) = (of(&got), of(&expected));
        let first = got.iter().zip(&expected).find(|(got, expected)| got != expected);
        assert_eq!(first, None, "the first that differs");
        assert_eq!(got.len(), expected.len(), "{name:?}");
        assert!(!got.is_empty(), "{name:?} decided nothing");
    }
}

/// The store cannot be opened at the start, and is back only when everything is delivered from
/// memory: a start on the store finds it whole.
#[tokio::test]
async fn a_store_that_comes_back_when_everything_is_delivered_is_opened_again_as_it_is() {
    let device = Device::new();
    let place = device.folder.path().join("place");
    let options = || StoreOptions { path: place.join(FILE), ..device.options() };
    let start = || {
        let sources = Arc::new(Sources::default());
        let (store, thread) = Store::open_on_thread(options(), &sources).unwrap();
        Running { store, thread, sources }
    };
    let agent = start();
    agent.store.append_readings(agent.belt([72.0, 73.0]), None).await.unwrap();
    agent.store.commit_now().await.unwrap();
    assert!(agent.store.watch_progress().borrow().is_in_memory, "there is a store");
    assert_eq!(agent.deliver(Lane::Readings, 0).await.1.len(), 2);
    let (_, events) = agent.deliver(Lane::Events, 0).await;
    let delivered = events.len() as u64;
    assert_eq!(agent.store.lane_accounts().map(|account| account.pending), [0; 3]);

    std::fs::create_dir(&place).unwrap();

    tokio::task::spawn_blocking(|| agent.thread.join().unwrap()).await.unwrap();
    for _ in 0..2 {
        let agent = start();
        assert_eq!(agent.store.watch_progress().borrow().set_aside, None);
        let accounts = agent.store.lane_accounts();
        assert_eq!(accounts.map(|account| account.delivered), [0, delivered, 2]);
        assert_eq!(accounts.map(|account| account.recorded), [0, delivered, 2]);
        assert_eq!(agent.take_all(Lane::Readings, 0).await, Vec::<Json>::new());
        assert_counted(&place.join(FILE));
        agent.stop().await;
    }
}
