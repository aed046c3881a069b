//! The heart-rate driver against a BlueZ that misbehaves as real ones and real belts do.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::fake_bluez::{Battery, Belt, Cure, FakeBluez};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long anything may take that must happen: far longer than it does on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(50);
const SEVENTY_TWO: &[u8] = &[0x10, 72, 0x2c, 0x03];
const EIGHTY: &[u8] = &[0x10, 80, 0x2c, 0x03];
const ADDRESS: &str = "A0:9E:1A:01:02:03";
const OTHER_ADDRESS: &str = "C4:11:22:33:44:55";

#[tokio::test]
async fn finds_connects_and_reads_a_belt() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = bluez.add_belt("hci0", ADDRESS, "Polar H10 0102").await?;
    let belt = belt.with_battery(Battery::Service(87));
    belt.beat(SEVENTY_TWO, BEAT);

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    let reading = probe.reading(0).await?;
    assert_eq!((&reading["bpm"], &reading["rr"]), (&json!(72), &json!([812])));
    let state = probe.state(0, |state| state["battery"] == 87).await?;
    assert_eq!((&state["location"], &state["connected"]), (&json!("chest"), &json!(true)));
    assert_eq!(state["last_error"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn scans_only_while_a_monitor_is_missing() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    until("the scan ends", || !bluez.is_scanning("hci0")).await?;
    belt.leave().await?;
    until("a scan begins", || bluez.is_scanning("hci0")).await?;
    belt.come_back().await?;
    until("the scan ends again", || !bluez.is_scanning("hci0")).await?;

    assert_eq!(bluez.collisions("hci0"), 0, "a connect while scanning");
    assert_eq!(bluez.unfiltered_scans("hci0"), 0);
    Ok(())
}

#[tokio::test]
async fn reads_two_belts_at_once() -> Result<()> {
    let bluez = one_adapter().await?;
    beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?;

    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;

    assert_eq!(probe.reading(0).await?["bpm"], 72);
    assert_eq!(probe.reading(1).await?["bpm"], 80);
    assert_eq!(probe.reading(0).await?["bpm"], 72);
    assert_eq!(bluez.collisions("hci0"), 0, "two connects at once");
    Ok(())
}

#[tokio::test]
async fn knows_a_belt_by_its_name() -> Result<()> {
    let bluez = one_adapter().await?;
    let stranger = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let belt = bluez.add_belt("hci0", OTHER_ADDRESS, "Polar H10 0102").await?;
    belt.beat(EIGHTY, BEAT);

    let monitors = json!({ "monitors": [{ "name": "Polar H10 0102" }] });
    let mut probe = Probe::start(&bluez, monitors)?;

    assert_eq!(probe.reading(0).await?["bpm"], 80);
    assert_eq!(stranger.connects(), 0);
    Ok(())
}

#[tokio::test]
async fn reads_the_battery_that_bluez_hides() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let _belt = belt.with_battery(Battery::Bluez(41));

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.state(0, |state| state["battery"] == 41).await?;
    Ok(())
}

#[tokio::test]
async fn connects_again_after_a_lost_link() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.drop_link().await?;

    probe.state(0, |state| state["rungs"]["reconnect"] == 1).await?;
    probe.reading(0).await?;
    assert_eq!((belt.connects(), belt.removals()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn finds_a_belt_that_left_and_came_back() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.leave().await?;
    assert_eq!(probe.nothing(0).await?["nothing"], "absent");
    let tried = belt.connects();
    belt.come_back().await?;

    probe.reading(0).await?;
    assert_eq!(belt.connects(), tried + 1, "a belt that is not seen is not connected to");
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_subscribing_again() -> Result<()> {
    let (belt, state) = heal(Cure::Subscribe).await?;

    assert_eq!(
        state["rungs"],
        json!({ "subscribe": 1, "reconnect": 0, "forget": 0, "power_cycle": 0, "report": 0 })
    );
    assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_reconnecting() -> Result<()> {
    let (belt, state) = heal(Cure::Reconnect).await?;

    assert_eq!(
        state["rungs"],
        json!({ "subscribe": 1, "reconnect": 1, "forget": 0, "power_cycle": 0, "report": 0 })
    );
    assert_eq!((belt.connects(), belt.removals()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_forgetting_the_belt() -> Result<()> {
    let (belt, state) = heal(Cure::Forget).await?;

    assert_eq!(
        state["rungs"],
        json!({ "subscribe": 1, "reconnect": 1, "forget": 1, "power_cycle": 0, "report": 0 })
    );
    assert_eq!(belt.removals(), 1);
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_a_power_cycle() -> Result<()> {
    let (_, state) = heal(Cure::PowerCycle).await?;

    assert_eq!(
        state["rungs"],
        json!({ "subscribe": 1, "reconnect": 1, "forget": 1, "power_cycle": 1, "report": 0 })
    );
    Ok(())
}

#[tokio::test]
async fn leaves_the_adapter_on_while_another_belt_is_well() -> Result<()> {
    let bluez = one_adapter().await?;
    let silent = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let well = beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?;
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;
    probe.reading(1).await?;

    silent.fall_silent(Cure::Never);

    probe.state(0, |state| state["rungs"]["forget"].as_u64() >= Some(3)).await?;
    assert_eq!(bluez.power_offs("hci0"), 0);
    assert_eq!((well.connects(), well.subscriptions()), (1, 1), "the other belt was disturbed");
    Ok(())
}

#[tokio::test]
async fn one_belt_that_is_subscribed_to_again_does_not_deafen_another() -> Result<()> {
    let bluez = one_adapter().await?;
    let belts = [
        beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?,
        beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?,
    ];
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;
    probe.reading(1).await?;

    for (source, belt) in (0..).zip(&belts) {
        belt.fall_silent(Cure::Subscribe);
        probe.nothing(source).await?;
        // Longer than a silence, so that a belt that went unheard would be noticed.
        for _ in 0..30 {
            probe.reading(0).await?;
            probe.reading(1).await?;
        }
    }

    for belt in &belts {
        assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    }
    assert_eq!(probe.nothings, 2);
    Ok(())
}

#[tokio::test]
async fn reports_once_every_cure_has_failed_and_begins_anew() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let monitors = json!({ "monitors": [{ "address": ADDRESS }], "silence_ms": 500 });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;

    belt.fall_silent(Cure::Never);
    assert_eq!(probe.nothing(0).await?["nothing"], "silent");
    let fault = probe.wait("a fault", |line| line["fault"].is_string()).await?;
    belt.fall_silent(Cure::Reconnect);
    belt.drop_link().await?;

    assert_eq!(fault["fault"], "source 0 stays silent after every cure");
    probe.reading(0).await?;
    assert_eq!(probe.nothings, 1, "it was told more than once that there is nothing");
    Ok(())
}

#[tokio::test]
async fn says_once_that_a_belt_sends_garbage() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.beat(&[0x01, 72], BEAT);
    assert_eq!(probe.nothing(0).await?["nothing"], "garbage");
    probe.state(0, |state| state["malformed"].as_u64() >= Some(3)).await?;
    belt.beat(SEVENTY_TWO, BEAT);

    probe.reading(0).await?;
    assert_eq!(probe.nothings, 1);
    Ok(())
}

#[tokio::test]
async fn finds_services_that_vanished_and_returned() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.lose_services().await?;
    let gone = |state: &Value| {
        state["last_error"] == "could not find the heart rate: the monitor has no such service"
    };
    probe.state(0, gone).await?;
    belt.regain_services();

    probe.reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn goes_on_trying_when_connects_are_refused() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    belt.refuse(3);

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    assert_eq!(belt.connects(), 4);
    Ok(())
}

#[tokio::test]
async fn calls_off_a_connect_that_hangs() -> Result<()> {
    let bluez = one_adapter().await?;
    let hanging = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?;
    hanging.hang(1);
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });

    let mut probe = Probe::start(&bluez, monitors)?;

    probe.reading(1).await?;
    probe.reading(0).await?;
    assert_eq!((hanging.connects(), bluez.collisions("hci0")), (2, 0));
    Ok(())
}

#[tokio::test]
async fn takes_over_the_link_of_a_run_that_was_killed() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    probe.stop().await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn beginning_anew_leaves_nothing_behind() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.stop_bluetoothd().await;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    let open_files = |probe: &Probe| -> Result<usize> {
        let process = probe.process.id().context("the probe ended")?;
        Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
    };

    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    let first = open_files(&probe)?;
    for _ in 0..12 {
        probe.wait("a fault", |line| line["fault"].is_string()).await?;
    }

    let last = open_files(&probe)?;
    assert!(last <= first + 4, "{first} open files became {last}");
    Ok(())
}

#[tokio::test]
async fn survives_a_restart_of_bluetoothd() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    bluez.start_bluetoothd().await?;
    until("it is connected again", || belt.is_connected()).await?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    bluez.start_bluetoothd().await?;

    until("it is connected again", || belt.is_connected()).await?;
    probe.fresh_reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn survives_a_restart_of_the_bus() -> Result<()> {
    let mut bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.restart_bus().await?;

    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    until("it is connected again", || belt.is_connected()).await?;
    probe.fresh_reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn says_once_that_there_is_no_bluez_and_waits_for_it() -> Result<()> {
    let bluez = one_adapter().await?;
    beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    bluez.stop_bluetoothd().await;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    for _ in 0..3 {
        probe.wait("a fault", |line| line["fault"].is_string()).await?;
    }
    assert_eq!(probe.nothings, 1);
    bluez.start_bluetoothd().await?;

    probe.reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn uses_every_adapter_or_the_one_it_is_told() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.add_adapter("hci1", "00:1A:7D:00:00:02").await?;
    let near = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci1", OTHER_ADDRESS, EIGHTY).await?;
    let both = json!([{ "address": ADDRESS }, { "address": OTHER_ADDRESS }]);

    let mut probe = Probe::start(&bluez, json!({ "monitors": both }))?;
    probe.reading(0).await?;
    probe.reading(1).await?;
    probe.stop().await?;
    near.drop_link().await?;
    let connects = near.connects();
    let by_address = json!({ "monitors": both, "adapter": "00:1a:7d:00:00:02" });
    let mut probe = Probe::start(&bluez, by_address)?;
    probe.reading(1).await?;

    assert_eq!(probe.nothing(0).await?["nothing"], "absent");
    assert_eq!(near.connects(), connects, "the other adapter was used");
    Ok(())
}

#[tokio::test]
async fn notices_an_adapter_that_is_pulled_out() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.add_adapter("hci1", "00:1A:7D:00:00:02").await?;
    beating(&bluez, "hci1", OTHER_ADDRESS, EIGHTY).await?;
    let monitors = json!({ "monitors": [{ "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;

    bluez.remove_adapter("hci1").await?;

    let fault = probe.wait("a fault", |line| line["fault"].is_string()).await?;
    assert_eq!(fault["fault"], "the set of Bluetooth adapters changed");
    Ok(())
}

#[tokio::test]
async fn no_address_is_ever_said() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    bluez.start_bluetoothd().await?;
    probe.fresh_reading(0).await?;
    belt.drop_link().await?;
    probe.fresh_reading(0).await?;

    for line in &probe.lines_read {
        let line = line.replace('_', ":").to_uppercase();
        assert!(!line.contains(ADDRESS), "{line}");
    }
    Ok(())
}

/// Lets a belt fall silent until `cure`; returns it and its monitor's state once it is heard again.
async fn heal(cure: Cure) -> Result<(Belt, Value)> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.fall_silent(cure);

    assert_eq!(probe.nothing(0).await?["nothing"], "silent");
    probe.reading(0).await?;
    let state = probe.state(0, |state| state["lost"] == false).await?;
    ensure!(probe.nothings == 1, "it was told more than once that there is nothing");
    Ok((belt, state))
}

async fn one_adapter() -> Result<FakeBluez> {
    let bluez = FakeBluez::start().await?;
    bluez.add_adapter("hci0", "00:1A:7D:00:00:01").await?;
    Ok(bluez)
}

async fn beating(bluez: &FakeBluez, adapter: &str, address: &str, packet: &[u8]) -> Result<Belt> {
    let belt = bluez.add_belt(adapter, address, "Belt").await?;
    belt.beat(packet, BEAT);
    Ok(belt)
}

/// Waits until `holds`.
async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("never: {what}"))
}

/// The driver in a process of its own.
struct Probe {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    lines_read: Vec<String>,
    /// How often a source was said to have nothing to tell, in the lines read.
    nothings: usize,
}

impl Probe {
    fn start(bluez: &FakeBluez, wanted: Value) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_heart-rate-probe"))
            .arg(wanted.to_string())
            .env("DBUS_SYSTEM_BUS_ADDRESS", bluez.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { process, lines, lines_read: Vec::new(), nothings: 0 })
    }

    async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// The next line that is wanted.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let find = async {
            loop {
                let line = self.lines.next_line().await?.context("the probe ended")?;
                let said: Value = serde_json::from_str(&line)?;
                self.lines_read.push(line);
                self.nothings += usize::from(said["nothing"].is_string());
                if wanted(&said) {
                    return anyhow::Ok(said);
                }
            }
        };
        match tokio::time::timeout(LIMIT, find).await {
            Ok(found) => found,
            Err(_) => anyhow::bail!("never: {what}; last said: {:?}", self.lines_read.last()),
        }
    }

    async fn reading(&mut self, source: u32) -> Result<Value> {
        self.wait("a reading", |line| line["source"] == source && line["bpm"].is_u64()).await
    }

    /// A reading that was taken after now: the link was made again, and what was said before is past.
    async fn fresh_reading(&mut self, source: u32) -> Result<Value> {
        let connected = |line: &Value| {
            line["states"].as_array().is_some_and(|all| {
                all.iter().any(|s| s["source"] == source && s["connected"] == false)
            })
        };
        self.wait("the loss of the link", connected).await?;
        self.reading(source).await
    }

    async fn nothing(&mut self, source: u32) -> Result<Value> {
        self.wait("no reading", |line| line["source"] == source && line["nothing"].is_string())
            .await
    }

    async fn state(&mut self, source: u32, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let of = |line: &Value| {
            let states = line["states"].as_array()?;
            states.iter().find(|state| state["source"] == source).cloned()
        };
        let line =
            self.wait("a state", |line| of(line).is_some_and(|state| wanted(&state))).await?;
        of(&line).context("just seen")
    }
}
