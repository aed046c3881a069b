//! The service under systemd: what restarts it, what does not, what it may do.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::device::PATIENCE;
use crate::rig::{BELT, INBOX, Rig};

/// Of 10; what systemd itself calls "OK" ends at 4.
const MAX_EXPOSURE: f64 = 2.0;
const RULE: &str = "[[rule]]\nname = \"fast\"\non = \"heart_rate\"\nabove = 20\n";
/// Its own minute would make the scenario as long.
const IMPATIENT: &str = "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=5s\n";
const DROP_IN: &str = "/run/systemd/system/pulsegate.service.d";

/// P7: an agent that hangs is killed and started again, and goes on where it was.
pub(super) async fn watchdog(rig: &mut Rig) -> Result<()> {
    be_impatient(rig).await?;
    rig.online(BELT).await?;
    let hung = rig.agent_pid().await?;
    rig.device.sh(&format!("kill -STOP {hung}")).await?;

    let line = format!(
        "test $(systemctl show -P MainPID pulsegate) -gt 0 -a \
                        $(systemctl show -P MainPID pulsegate) != {hung} && \
                        journalctl --quiet --unit=pulsegate --grep='[Ww]atchdog' --lines=1"
    );
    rig.device.wait_sh("systemd starts it again", &line).await?;
    rig.wait_link().await?;
    let status = rig.silenced().await?;

    ensure!(status["boot"] == 2, "its second start: {status:#}");
    rig.saw("stopped with SIGSTOP, killed by the watchdog, started again, queue delivered");
    Ok(())
}

/// Gives the watchdog 10 s instead of a minute.
pub(super) async fn be_impatient(rig: &mut Rig) -> Result<()> {
    drop_in(rig, "watchdog", IMPATIENT).await
}

/// Adds lines to the unit of the service.
pub(super) async fn drop_in(rig: &mut Rig, name: &str, lines: &str) -> Result<()> {
    rig.device.sh(&format!("mkdir -p {DROP_IN}")).await?;
    rig.device.write(&format!("{DROP_IN}/{name}.conf"), "644", lines).await?;
    rig.device.sh("systemctl daemon-reload").await.map(drop)
}

/// A good configuration takes effect without a restart; a bad one leaves the old one in force.
pub(super) async fn reload(rig: &mut Rig) -> Result<()> {
    rig.online(BELT).await?;
    let pid = rig.agent_pid().await?;
    let good = rig.config(&format!("{BELT}{RULE}"));
    rig.write_config(&good).await?;
    rig.device.sh("systemctl reload pulsegate").await?;
    let raised = |alerts: &[Value]| alerts.iter().any(|alert| alert["rule"] == "fast");
    rig.site.subscriber.wait_records("/alerts", PATIENCE, raised).await;
    rig.saw("a new rule raised its alert after `systemctl reload`");

    rig.write_config(&good.replace("above", "abov")).await?;
    rig.device.sh("systemctl reload pulsegate").await?;
    let stays =
        |status: &Value| status["degraded"].to_string().contains("the old one stays in force");
    rig.device.wait_status("it says that the new one is bad", stays).await?;
    let before = rig.site.subscriber.records("/readings").len();
    let more = |records: &[Value]| records.len() > before;
    rig.site.subscriber.wait_records("/readings", PATIENCE, more).await;
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    rig.saw("a broken configuration left the old one in force, which is said; the same process all along");
    Ok(())
}

/// P7: a bad configuration is the one thing that keeps it from starting; systemd leaves it at that.
pub(super) async fn bad_configuration(rig: &mut Rig) -> Result<()> {
    rig.configure("[[lid]]\nid = \"feeder\"\npin = \"seventeen\"\n").await?;

    rig.device.sh("! systemctl start pulsegate").await?;
    let shown = "systemctl show -P NRestarts -P ExecMainStatus -P ActiveState pulsegate";
    let state = rig.device.sh(shown).await?;
    ensure!(state == "0\n78\nfailed", "restarts, status, state: {state}");
    let place = "journalctl --quiet --unit=pulsegate --grep='pulsegate.toml:[0-9]+:[0-9]+'";
    rig.device.sh(place).await?;

    rig.configure(BELT).await?;
    rig.start_agent().await?;
    rig.saw("exit 78, not restarted, the journal names file, line and column; mended, it starts");
    Ok(())
}

/// P12: what the unit allows, as systemd reckons it on the device.
pub(super) async fn sandbox(rig: &mut Rig) -> Result<()> {
    rig.online(&format!("{INBOX}{BELT}")).await?;
    let line = "systemd-analyze security --no-pager pulsegate.service | \
                sed -n 's/.*exposure level for pulsegate.service: \\([0-9.]*\\).*/\\1/p'";
    let exposure: f64 = rig.device.sh(line).await?.parse()?;
    ensure!(exposure <= MAX_EXPOSURE, "exposure {exposure}");
    let pid = rig.agent_pid().await?;
    let line = format!(
        "grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/{pid}/status | tr -s '\\t ' ' '"
    );
    let own = rig.device.sh(&line).await?;
    let user = rig.device.sh("id -u pulsegate").await?;
    for expected in
        [&format!("Uid: {user} "), "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"]
    {
        ensure!(own.contains(expected), "`{expected}` is not in {own}");
    }
    let socket = rig.device.sh("stat -c '%U:%G %a' /run/pulsegate/inbox.sock").await?;
    ensure!(socket == "pulsegate:pulsegate-inbox 660", "the inbox is {socket}");
    let writer = "--reuid=nobody --regid=nogroup --groups=pulsegate-inbox";
    let writes = |path: &str| format!("setpriv {writer} test -w {path}");
    rig.device.sh(&writes("/run/pulsegate/inbox.sock")).await?;
    rig.device.sh(&format!("! {}", writes("/run/pulsegate/status.sock"))).await?;
    let reads = format!("! setpriv {writer} cat /etc/pulsegate/pulsegate.toml 2>/dev/null");
    rig.device.sh(&reads).await?;
    let listens = rig.device.sh(&format!("ss -Hltnup | grep -c 'pid={pid},' || true")).await?;
    ensure!(listens == "0", "it listens on {listens} ports");
    rig.saw(format!("exposure {exposure}; no capability, seccomp on, no listening port"));
    Ok(())
}

/// P10: what takes too much memory ends, a camera's program alone or the agent itself, and not the rest of the device.
pub(super) async fn memory(rig: &mut Rig) -> Result<()> {
    rig.online(BELT).await?;
    let pid = rig.agent_pid().await?;
    let limit = rig.device.sh("systemctl show -P MemoryMax pulsegate").await?;
    ensure!(limit == "134217728", "MemoryMax is {limit}");
    let group = "/sys/fs/cgroup$(systemctl show -P ControlGroup pulsegate)";

    // A stand-in for a camera's program: a process among the agent's own that takes twice the limit.
    let greedy = format!(
        "(echo $BASHPID >{group}/cgroup.procs; head -c 256M /dev/zero | tail -n 1 >/dev/null) </dev/null >/dev/null 2>&1 &"
    );
    rig.device.sh(&greedy).await?;
    let killed = |count: u32| format!("grep -q '^oom_kill {count}$' {group}/memory.events");
    rig.device.wait_sh("the program is ended", &killed(1)).await?;
    ensure!(rig.agent_pid().await? == pid, "the agent was ended as well");
    rig.saw("a program beside the agent met the limit of 128 MiB and was ended alone");

    // A stand-in for a leak in the agent: the limit comes down to it.
    rig.device.sh(&format!("echo 1M >{group}/memory.max")).await?;
    let line = format!("p=$(systemctl show -P MainPID pulsegate); test $p -gt 0 -a $p != {pid}");
    rig.device.wait_sh("it is started again", &line).await?;
    rig.device.sh("journalctl --quiet --unit=pulsegate --grep='OOM|oom'").await?;
    rig.wait_link().await?;
    let status = rig.silenced().await?;

    ensure!(status["degraded"] == json!([]), "{status:#}");
    rig.saw("the agent met a limit, was ended, and came back");
    Ok(())
}
