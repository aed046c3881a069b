//! Random sequences of operations, with stops, kills and retention between them, compared with a
//! model that keeps sets of record ids (P3, P4). The operations are printed, and can be repeated by
//! their seed.

use std::collections::BTreeSet;

use super::*;

/// What became of every record that was answered as durable.
#[derive(Default)]
struct Model {
    recorded: [BTreeSet<(u32, u64)>; 3],
    delivered: [BTreeSet<(u32, u64)>; 3],
    /// By lane: what was taken in hand and not acknowledged yet, and where the next take begins.
    in_hand: [Vec<(u64, Vec<String>)>; 3],
    taken: [u64; 3],
}

#[derive(Debug)]
enum Operation {
    Append(u64),
    Event,
    Take(Lane),
    Acknowledge(Lane),
    /// Bytes that the store may use.
    Cap(u64),
    /// What is older is given up; nothing is, without.
    Ttl(Option<Duration>),
    History(Duration),
    Stop,
    Kill,
}

fn operation(random: &mut fastrand::Rng) -> Operation {
    let lane = Lane::ALL[random.usize(..3)];
    match random.u32(..40) {
        0..12 => Operation::Append(random.u64(1..600)),
        12..16 => Operation::Event,
        16..24 => Operation::Take(lane),
        24..32 => Operation::Acknowledge(lane),
        32 => Operation::Cap(random.u64(20_000..200_000)),
        33 => Operation::Cap(1 << 30),
        34 => Operation::Ttl(Some(Duration::from_millis(random.u64(..50)))),
        35 => Operation::Ttl(None),
        36 => Operation::History(Duration::from_millis(random.u64(..100))),
        37 | 38 => Operation::Stop,
        _ => Operation::Kill,
    }
}

#[tokio::test]
async fn the_accounts_balance_after_any_sequence_of_operations() {
    let mut random = random();
    for _ in 0..3 {
        let mut device = Device::new();
        device.keep.commit_interval = Duration::from_millis(1);
        let mut agent = device.start();
        let mut model = Model::default();
        for _ in 0..120 {
            let operation = operation(&mut random);
            println!("{operation:?}");
            match operation {
                Operation::Stop => {
                    agent.stop().await;
                    agent = restarted(&device, &mut model);
                }
                Operation::Kill => {
                    agent.store.commit_now().await.unwrap();
                    let killed = Device { keep: device.keep, ..device.killed() };
                    agent.stop().await;
                    device = killed;
                    agent = restarted(&device, &mut model);
                }
                Operation::Cap(max_bytes) => device.keep.max_bytes = max_bytes,
                Operation::Ttl(ttl) => device.keep.ttl = ttl,
                Operation::History(history) => device.keep.history = history,
                Operation::Append(_)
                | Operation::Event
                | Operation::Take(_)
                | Operation::Acknowledge(_) => model.run(&agent, operation).await,
            }
            let rules = Arc::new(Vec::new());
            agent.store.apply_configuration(device.keep, rules, formats()).await.unwrap();
            agent.assert_balanced().await;
        }
        // Nothing is given up any more while it is counted.
        let keep = Device::new().keep;
        agent.store.apply_configuration(keep, Arc::new(Vec::new()), formats()).await.unwrap();
        agent.store.commit_now().await.unwrap();
        model.check(&agent).await;
        agent.stop().await;
    }
}

/// What was in hand is not any more: delivery begins at the watermarks.
fn restarted(device: &Device, model: &mut Model) -> Running {
    let agent = device.start();
    model.in_hand = Default::default();
    model.taken = agent.store.watermarks.map(|watermark| watermark.0);
    agent
}

impl Model {
    async fn run(&mut self, agent: &Running, operation: Operation) {
        match operation {
            Operation::Append(count) => {
                let receipt = agent.append((0..count).map(|_| 72.0)).await;
                let places = (0..count).map(|i| (counter(&receipt), receipt.first_seq + i));
                for place in places {
                    assert!(self.recorded[Lane::Readings.index()].insert(place), "a name again");
                }
            }
            Operation::Event => agent.event("door").await,
            Operation::Take(lane) => {
                let (through, records) = agent.take(lane, self.taken[lane.index()]).await;
                if !records.is_empty() {
                    self.taken[lane.index()] = through;
                    self.in_hand[lane.index()].push((through, ids(&records)));
                }
            }
            Operation::Acknowledge(lane) => {
                if self.in_hand[lane.index()].is_empty() {
                    return;
                }
                let (through, ids) = self.in_hand[lane.index()].remove(0);
                let delivered = ids.len() as u64;
                let mark =
                    Mark { lane, through: Seq(through), delivered, filtered: 0, gaps: Vec::new() };
                agent.store.mark(vec![mark], true).await.unwrap().await.unwrap();
                for id in ids {
                    assert!(self.delivered[lane.index()].insert(place(&id)), "delivered twice");
                }
            }
            Operation::Cap(_)
            | Operation::Ttl(_)
            | Operation::History(_)
            | Operation::Stop
            | Operation::Kill => unreachable!("not for the model"),
        }
    }

    /// Every reading that was durable is delivered, pending, or in a gap that was told.
    async fn check(&mut self, agent: &Running) {
        let lane = Lane::Readings;
        let accounts = agent.store.lane_accounts();
        let recorded = &self.recorded[lane.index()];
        let delivered = &self.delivered[lane.index()];
        let account = accounts[lane.index()];
        assert_eq!(account.recorded, recorded.len() as u64);
        assert_eq!(account.delivered, delivered.len() as u64);
        let connection = rusqlite::Connection::open(&agent.store.path).unwrap();
        let mut gaps = connection.prepare("SELECT first, last FROM gaps WHERE lane = 2").unwrap();
        let gaps: Vec<(u64, u64)> = gaps
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let watermark: u64 = connection
            .query_row("SELECT watermark FROM lanes WHERE lane = 2", [], |row| row.get(0))
            .unwrap();
        let pending = agent.take_all(lane, watermark).await;
        let pending: BTreeSet<_> = ids(&pending).iter().map(|id| place(id)).collect();
        for at in recorded.difference(delivered) {
            let is_given_up = gaps.iter().any(|(first, last)| (*first..=*last).contains(&at.1));
            assert!(pending.contains(at) != is_given_up, "{at:?}: pending or given up");
        }
    }
}
