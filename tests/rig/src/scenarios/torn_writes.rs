//! Torn writes: what the agent writes is logged write by write; from the log comes what the card could have
//! held at many moments, and the agent starts from each of these.
//!
//! The inbox's answers stand in the same log, as marks: what a mark before the moment names was answered as
//! durable. The cloud is away while it is logged, so afterwards all of it has to arrive.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::records;

use crate::account::Account;
use crate::rig::{INBOX, LANES, Rig};
use crate::write_log::WriteLog;

const MOMENTS: usize = 12;
/// Of the scratch disk: the rest is the log.
const DISK_BYTES: usize = 64 * 1024 * 1024;
/// Answers that are waited for while it is logged.
const ANSWERS: usize = 60;
/// In seconds: `commit_interval`, and what the guest may take beyond it to commit and to mark.
const AT_RISK_S: f64 = 1.0;
const MARGIN_S: f64 = 1.0;

const MAKE: &str = "modprobe dm-log-writes && \
    dmsetup create card --table '0 131072 linear /dev/vdb 0' && \
    dmsetup create log --table '0 393216 linear /dev/vdb 131072' && \
    mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard /dev/mapper/card && sync";
const MOUNT_LOGGED: &str = "dmsetup create logged --table \
    '0 131072 log-writes /dev/mapper/card /dev/mapper/log' && \
    mkdir -p /var/lib/pulsegate && mount /dev/mapper/logged /var/lib/pulsegate";
const UNMOUNT_LOGGED: &str = "systemctl stop asking; systemctl kill -s KILL pulsegate; \
    systemctl stop pulsegate; umount /var/lib/pulsegate && udevadm settle && \
    dmsetup remove --retry logged && sync && blockdev --flushbufs /dev/mapper/card";
/// A superblock that was torn is mended by the check that a device makes before it mounts.
const MOUNT: &str = "blockdev --flushbufs /dev/mapper/card && \
    { mount /dev/mapper/card /var/lib/pulsegate || \
    { e2fsck -fy /dev/mapper/card; test $? -lt 4 && mount /dev/mapper/card /var/lib/pulsegate; }; }";
const UNMOUNT: &str = "systemctl kill -s KILL pulsegate; systemctl stop pulsegate; \
    umount /var/lib/pulsegate && udevadm settle && blockdev --flushbufs /dev/mapper/card";
/// Hands readings over, some at a time, and marks each answer with the time before it was marked, the value and
/// the name.
const ASK: &str = r#"
RANDOM=$1 value=0
until exec 3<>/dev/tcp/127.0.0.1/7000 && echo '{"source":"meter","kind":"count","value":0}' >&3 && read -r -u 3 answer; do
  sleep 0.2
done
while :; do
  count=$((RANDOM % 6 + 1)) first=$((value + 1))
  for ((value = first; value < first + count; value++)); do
    echo "{\"source\":\"meter\",\"kind\":\"count\",\"value\":$value}" >&3
  done
  for ((value = first; value < first + count; value++)); do
    read -r -u 3 answer || exit
    name=${answer#*'"id":"'}
    dmsetup message logged 0 mark "$EPOCHREALTIME:$value:${name%%'"'*}"
    echo >>/run/asked
  done
  value=$((value - 1))
done
"#;
/// Ten readings a second, made up.
const PULSE: &str =
    "[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\nevery = \"100ms\"\nmean = 70\n";

/// An answer of the inbox, as it was marked.
#[derive(Debug)]
struct Answer {
    /// Where it stands in the log.
    place: usize,
    /// When it was there, in seconds since 1970, by the guest's clock.
    time: f64,
    value: u64,
    name: String,
}

/// What was logged, and the disk below it.
#[derive(Debug)]
struct Past {
    scratch: PathBuf,
    base: Vec<u8>,
    log: WriteLog,
    answers: Vec<Answer>,
}

/// What all moments together have shown.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    arrived_sectors: usize,
    lost_sectors: usize,
    worst_s: f64,
}

/// P1, P3, P4, P7: see the module.
pub(super) async fn torn_writes(rig: &mut Rig) -> Result<()> {
    let past = record(rig).await?;
    rig.progress(&format!("{} entries, {} answers logged", past.log.len(), past.answers.len()));
    rig.write_config(&rig.config(INBOX)).await?;
    rig.site.broker.start_again().await;

    let mut seen = Seen::default();
    for number in 0..MOMENTS {
        // Half of them at once after an answer, when most is owed.
        let place = if number % 2 == 0 {
            past.answers[rig.random.usize(..past.answers.len())].place + 1
        } else {
            rig.random.usize(..=past.log.len())
        };
        past.live_on(rig, place, &mut seen)
            .await
            .with_context(|| format!("after entry {place}"))?;
    }
    rig.saw(format!(
        "{MOMENTS} moments of {} logged writes and flushes: of the sectors on their way {} were there and {} \
         not; the agent started from each, undegraded; {} answered readings, 0 of them lost; no hole, \
         no name for two records; of ten readings a second at most the last {:.2} s lost",
        past.log.len(),
        seen.arrived_sectors,
        seen.lost_sectors,
        seen.answered,
        seen.worst_s,
    ));
    Ok(())
}

/// Has the agent write for a while, from its very first start on.
async fn record(rig: &mut Rig) -> Result<Past> {
    rig.tell_time().await?;
    rig.configure(&format!("{INBOX}{PULSE}")).await?;
    rig.site.broker.stop().await;
    rig.device.sh(MAKE).await?;
    let scratch = rig.device.machine().scratch();
    let mut base = vec![0; DISK_BYTES];
    File::open(&scratch)?.read_exact_at(&mut base, 0)?;

    rig.device.sh(MOUNT_LOGGED).await?;
    rig.device.write("/root/ask", "755", ASK).await?;
    let seed = rig.random.u16(..32768);
    rig.device.sh(&format!("systemd-run --quiet --unit=asking bash /root/ask {seed}")).await?;
    rig.start_agent().await?;
    let enough = format!("test $(cat /run/asked | wc -l) -ge {ANSWERS}");
    rig.device.wait_sh("enough is answered", &enough).await?;
    rig.device.sh(UNMOUNT_LOGGED).await?;

    let file = File::open(&scratch)?;
    let log = WriteLog::read(&file, u64::try_from(DISK_BYTES)?)?;
    let mut end = vec![0; DISK_BYTES];
    file.read_exact_at(&mut end, 0)?;
    ensure!(log.end(&base) == end, "the log does not lead to what is on the disk");
    // The device itself marks its end.
    let marks = log.marks().filter(|(_, mark)| mark.contains(':'));
    let answers = marks.map(|(place, mark)| Answer::parse(place, mark));
    let answers = answers.collect::<Result<Vec<_>>>()?;
    ensure!(answers.len() >= ANSWERS, "{} of {ANSWERS} answers are marked", answers.len());
    Ok(Past { scratch, base, log, answers })
}

impl Past {
    /// Has the agent live on from what the disk could have held at a moment.
    async fn live_on(&self, rig: &mut Rig, place: usize, seen: &mut Seen) -> Result<()> {
        let moment = self.log.moment(&self.base, place, &mut rig.random);
        File::options().write(true).open(&self.scratch)?.write_all_at(&moment.disk, 0)?;
        let before = rig.site.subscriber.len();
        rig.device.sh(MOUNT).await?;
        rig.start_agent().await?;
        let (_, greeted) = rig.device.inbox(&reading("later", "count", 0.0)).await?;
        let greeted = greeted["id"].as_str().context("the greeting is refused")?.to_owned();
        let status = rig.drained().await?;
        rig.device.sh(UNMOUNT).await?;
        ensure!(status["degraded"] == serde_json::json!([]), "{status:#}");
        for lane in LANES {
            ensure!(status["lanes"][lane]["dropped"] == 0, "dropped {lane}: {status:#}");
        }

        let messages = rig.site.subscriber.messages().split_off(before);
        let account = Account::of_messages(&messages)?;
        let owed: Vec<_> = self.answers.iter().filter(|answer| answer.place < place).collect();
        for Answer { name, value, .. } in &owed {
            let record =
                account.get(name).with_context(|| format!("{name} was answered and is lost"))?;
            ensure!(record["value"].as_u64() == Some(*value), "{name} is not {value}: {record}");
        }
        account.get(&greeted).context("what was answered afterwards is lost")?;
        account.is_without_holes()?;
        let recorded: u64 =
            LANES.iter().filter_map(|lane| status["lanes"][lane]["recorded"].as_u64()).sum();
        ensure!(recorded == u64::try_from(account.unique())?, "{recorded} recorded: {status:#}");

        let last = records::of(&messages, "/readings");
        let last = last.iter().filter(|record| record["source"] == "7").map(super::boot::time_of);
        let last = last.fold(f64::NEG_INFINITY, f64::max);
        let lost_s = owed.last().map_or(0.0, |answer| (answer.time - last).max(0.0));
        ensure!(lost_s <= AT_RISK_S + MARGIN_S, "the last {lost_s:.2} s are lost");
        rig.progress(&format!(
            "entry {place}: {} answered, {} recorded, {} sectors torn away, {lost_s:.2} s at risk",
            owed.len(),
            account.unique(),
            moment.lost
        ));
        seen.answered += owed.len();
        seen.arrived_sectors += moment.arrived;
        seen.lost_sectors += moment.lost;
        seen.worst_s = seen.worst_s.max(lost_s);
        Ok(())
    }
}

impl Answer {
    fn parse(place: usize, mark: &str) -> Result<Self> {
        let parts: Vec<&str> = mark.split(':').collect();
        let [time, value, name] = parts[..] else { anyhow::bail!("a strange mark: {mark}") };
        let (time, value) = (time.parse()?, value.parse()?);
        Ok(Self { place, time, value, name: name.to_owned() })
    }
}
