//! Heart-rate straps over real BlueZ: found, lost, found again, silent, and sending nonsense.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::account::Account;
use crate::device::PATIENCE;
use crate::radio::{self, Radio};
use crate::rig::Rig;
use crate::straps::{Tally, arrived};

/// The straps of these scenarios: their ids, their addresses, their names.
pub(super) const SEVEN: (&str, &str, &str) = ("7", "A0:9E:1A:01:02:03", "Polar H10 0102");
pub(super) const EIGHT: (&str, &str, &str) = ("8", "A0:9E:1A:01:02:04", "Strap 8");

/// One strap by its address, one by its name; what they send goes to the cloud at once.
pub(super) const TWO_BELTS: &str = r#"
[publish.readings]
batch = { delay = "200ms" }
[bluetooth]
silence = "4s"
[[heart_rate]]
id = "7"
address = "A0:9E:1A:01:02:03"
[[heart_rate]]
id = "8"
name = "Strap 8"
"#;

/// Packets that are no measurement.
const GARBAGE: [(&str, &str); 4] = [
    ("an empty packet", ""),
    ("flags without a rate", "10"),
    ("a rate of two bytes cut in half", "0148"),
    ("energy cut in half", "084801"),
];

/// From power to the first heart rate in the cloud, with everything started by systemd.
pub(super) async fn first_heart_rate(rig: &mut Rig) -> Result<()> {
    rig.clock.speak(true);
    rig.configure(TWO_BELTS).await?;
    let mut radio = Radio::start()?;
    add(&mut radio, SEVEN).await?;
    radio.plug(&mut rig.device).await?;
    radio::attach(&mut rig.device).await?;
    rig.device.sh("systemctl enable --quiet pulsegate && sync").await?;
    rig.device.power_cut().await;

    let began = Instant::now();
    rig.device.power_on().await?;
    radio.plug(&mut rig.device).await?;
    wait_beats(rig, "7", 1).await;
    let took = began.elapsed();

    let account = Tally::close(&mut radio, &rig.site.subscriber, "7").await?;
    assert_eq!((account.in_order(), account.missing()), (account.sent.len(), Vec::new()));
    rig.saw(format!("first heart rate in the cloud {:.1} s after power-on", took.as_secs_f64()));
    rig.saw(format!("{} sent, each arrived once", account.sent.len()));
    Ok(())
}

/// Two straps: one is well all the time; the other walks away and comes back, hangs up, refuses a connect,
/// and sends garbage.
pub(super) async fn belts(rig: &mut Rig) -> Result<()> {
    let mut radio = two_straps(rig).await?;

    radio.tell("8", "leave").await?;
    let lost = wait_event(rig, "source_lost", "8", 1).await;
    radio.tell("8", "come_back").await?;
    let returned = wait_event(rig, "source_returned", "8", 1).await;
    rig.saw(format!(
        "8 walked away: lost ({}), returned after {} s",
        lost["reason"], returned["seconds"]
    ));

    for (what, command) in [
        ("hung up", json!({ "do": "hang_up", "strap": "8" })),
        ("refused a connect", json!({ "do": "refuse", "strap": "8", "times": 1 })),
    ] {
        radio.ask(command).await?;
        if what != "hung up" {
            radio.tell("8", "hang_up").await?;
        }
        let began = Instant::now();
        let mark = radio.strap("8").await?.sent().len();
        wait_beats(rig, "8", mark + 2).await;
        rig.saw(format!("8 {what}: heard again after {:.1} s", began.elapsed().as_secs_f64()));
    }

    let account = account_of_garbage(rig, &mut radio).await?;
    rig.saw(format!(
        "8: {} sent over {} links, each arrived once",
        account.0.sent.len(),
        account.1
    ));
    let seven = Tally::close(&mut radio, &rig.site.subscriber, "7").await?;
    let links = radio.strap("7").await?.connects();
    assert_eq!((seven.in_order(), seven.missing(), links), (seven.sent.len(), Vec::new(), 1));
    rig.saw(format!("7: {} sent over one link, each arrived once", seven.sent.len()));
    let (records, starts) = without_holes(rig)?;
    assert_eq!(starts, 1, "the agent was started again");
    rig.saw(format!("{records} records without a hole, of one start"));
    Ok(())
}

/// Garbage among what strap 8 sends: counted, and nothing else comes of it. A packet of ones is a measurement,
/// if an unlikely one: whether to believe it is for rules to say.
async fn account_of_garbage(rig: &mut Rig, radio: &mut Radio) -> Result<(Tally, u64)> {
    let before = monitor(rig, "8").await?["malformed"].as_u64().unwrap_or_default();
    let events = rig.site.subscriber.records("/events").len();
    let too_long = "00".repeat(514); // all that fits into a notification
    let say = |hex: &str| json!({ "do": "say", "strap": "8", "hex": hex });
    for (_, hex) in GARBAGE {
        radio.ask(say(hex)).await?;
    }
    radio.ask(say(&too_long)).await?;
    for handle in [0x0003, 0x7777] {
        radio.ask(json!({ "do": "say", "strap": "8", "hex": "1648", "handle": handle })).await?;
    }
    radio.ask(say(&"ff".repeat(21))).await?;
    let counted = u64::try_from(GARBAGE.len()).unwrap_or_default() + 1;
    let all = |status: &Value| driver(status, "8")["malformed"] == before + counted;
    rig.device.wait_status("the garbage is counted", all).await?;

    let ones = |records: &[Value]| records.iter().any(|record| record["bpm"] == 65_535);
    let records = rig.site.subscriber.wait_records("/readings", PATIENCE, ones).await;
    assert_eq!(records.iter().filter(|record| record["bpm"] == 65_535).count(), 1);
    assert_eq!(rig.site.subscriber.records("/events").len(), events, "an event for garbage");
    rig.saw(format!("8 sent {counted} bad packets among good ones: counted, no event, no restart"));
    rig.saw("8 notified two handles that nobody asked for: ignored; all ones: a reading of 65535");
    let mut account = Tally::close(radio, &rig.site.subscriber, "8").await?;
    account.arrived.retain(|number| *number != 65_535);
    assert_eq!((account.in_order(), account.missing()), (account.sent.len(), Vec::new()));
    Ok((account, radio.strap("8").await?.connects()))
}

/// A strap that falls silent on a link that stands: cured by the mildest rung that helps, and the adapter is
/// left alone while another strap is well.
pub(super) async fn silence(rig: &mut Rig) -> Result<()> {
    let mut radio = two_straps(rig).await?;
    let silent = |until: &str| json!({ "do": "silence", "strap": "8", "until": until });

    let before = radio.strap("8").await?;
    radio.ask(silent("subscribe")).await?;
    let healed = radio.wait("8", "subscribing again heals it", |strap| !strap.is_silent()).await?;
    assert_eq!(healed.connects(), before.connects(), "a milder rung would have done");
    wait_beats(rig, "8", healed.sent().len() + 1).await;
    rig.saw(format!(
        "silent until subscribed to: {} new subscription, no new link",
        healed.subscribes() - before.subscribes()
    ));

    let resets = radio.resets().await?;
    radio.ask(silent("connect")).await?;
    let again = radio.wait("8", "a new link heals it", |strap| !strap.is_silent()).await?;
    wait_beats(rig, "8", again.sent().len() + 1).await;
    assert_eq!(radio.resets().await?, resets, "a milder rung would have done");
    rig.saw(format!("silent until linked to: {} new link", again.connects() - healed.connects()));

    radio.ask(silent("power")).await?;
    let forgotten = |status: &Value| driver(status, "8")["forgotten"].as_u64() >= Some(2);
    rig.device.wait_status("8 was forgotten twice", forgotten).await?;
    assert_eq!((radio.resets().await?, radio.strap("7").await?.connects()), (resets, 1));
    rig.saw("silent until the adapter is: left on, since 7 is well");

    let seven = Tally::close(&mut radio, &rig.site.subscriber, "7").await?;
    assert_eq!((seven.in_order(), seven.missing()), (seven.sent.len(), Vec::new()));
    rig.saw(format!("7: {} sent meanwhile, each arrived once", seven.sent.len()));
    radio.wait("8", "the adapter's power heals it", |strap| !strap.is_silent()).await?;
    rig.saw("7 silent too: the adapter is switched off and on, and 8 is healed");
    Ok(())
}

/// A device with both straps, each of which was heard.
pub(super) async fn two_straps(rig: &mut Rig) -> Result<Radio> {
    two_straps_and(rig, "").await
}

/// As [`two_straps`], with more in the configuration.
pub(super) async fn two_straps_and(rig: &mut Rig, tables: &str) -> Result<Radio> {
    let mut radio = Radio::start()?;
    add(&mut radio, SEVEN).await?;
    add(&mut radio, EIGHT).await?;
    radio.plug(&mut rig.device).await?;
    radio::attach(&mut rig.device).await?;
    rig.online(&format!("{TWO_BELTS}{tables}")).await?;
    wait_beats(rig, "7", 2).await;
    wait_beats(rig, "8", 2).await;
    Ok(radio)
}

pub(super) async fn add(radio: &mut Radio, (id, address, name): (&str, &str, &str)) -> Result<()> {
    radio.add(id, address, name).await
}

/// Waits until that many of a strap's measurements are in the cloud.
pub(super) async fn wait_beats(rig: &Rig, strap: &str, count: usize) {
    let enough = |records: &[Value]| arrived(records, strap).len() >= count;
    rig.site.subscriber.wait_records("/readings", PATIENCE, enough).await;
}

/// Waits for the `nth` event of a kind and source, and returns it.
pub(super) async fn wait_event(rig: &Rig, event: &str, source: &str, nth: usize) -> Value {
    let of = |record: &&Value| record["event"] == event && record["source"] == source;
    let come = |records: &[Value]| records.iter().filter(of).count() >= nth;
    let records = rig.site.subscriber.wait_records("/events", PATIENCE, come).await;
    records.iter().filter(of).nth(nth - 1).cloned().unwrap_or_default()
}

/// Asserts that no record is missing in the cloud; returns how many there are, and of how many starts of the agent.
pub(super) fn without_holes(rig: &Rig) -> Result<(usize, usize)> {
    let account = Account::of(&rig.site.subscriber)?;
    account.is_without_holes()?;
    let names = account.records().filter_map(|record| record["seq"].as_str()?.split_once('-'));
    let starts: BTreeSet<_> = names.map(|(boot, _)| boot).collect();
    Ok((account.unique(), starts.len()))
}

async fn monitor(rig: &mut Rig, source: &str) -> Result<Value> {
    let there = |status: &Value| driver(status, source).is_object();
    let status = rig.device.wait_status("the agent answers", there).await?;
    Ok(driver(&status, source).clone())
}

/// What the status says of a source's driver.
pub(super) fn driver<'a>(status: &'a Value, source: &str) -> &'a Value {
    let drivers = status["drivers"].as_array().map_or(&[][..], Vec::as_slice);
    drivers.iter().find(|driver| driver["source"] == source).unwrap_or(&Value::Null)
}
