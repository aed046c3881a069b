//! A partition that is small, or full: `check` and `status` tell it, with numbers and a cure. It needs a mount
//! namespace: without the right to have one, these tests do nothing.

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::Device;
use pulsegate_tests::inbox::reading;
use pulsegate_tests::site::Site;
use pulsegate_tests::small_disk::SmallDisk;
use serde_json::Value;

/// A device whose state directory, of this name, lies on `disk`.
fn device(site: &Site, disk: &SmallDisk, name: &str) -> Device {
    let state_dir = disk.path().join(name).display().to_string();
    site.device().set("", "state_dir", &format!("{state_dir:?}"))
}

fn check(device: &Device) -> String {
    device.write_config();
    let path = device.config_path();
    let output = device.run(&["check", "--config", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "a warning is no fault: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn check_tells_that_the_store_may_become_larger_than_its_partition() {
    let name = "check_tells_that_the_store_may_become_larger_than_its_partition";
    let Some(disk) = SmallDisk::enter(name, "24m") else { return };
    let site = Site::start().await;
    let told = "this machine's partition of";

    // Neither folder is there yet.
    let small = check(&device(&site, &disk, "not/yet"));
    let large = check(&device(&site, &disk, "not/yet").set("buffer", "max_bytes", "\"16MiB\""));

    assert!(small.contains("`buffer.max_bytes` is 2048.0 MiB") && small.contains(told), "{small}");
    assert!(small.contains("of its 24.0 MiB") && small.contains("lower `max_bytes`"), "{small}");
    assert!(!large.contains(told), "{large}");
}

#[tokio::test]
async fn status_tells_that_the_partition_is_full_and_by_whom_it_is_used() {
    let name = "status_tells_that_the_partition_is_full_and_by_whom_it_is_used";
    let Some(disk) = SmallDisk::enter(name, "8m") else { return };
    let site = Site::start().await;
    let device = device(&site, &disk, "state");
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let line = |value: u32| [reading("meter", "count", value.into()).to_string()];
    inbox.store(&line(1)).await;
    let is_full = |status: &Value| status["degraded"].to_string().contains("other files use");

    disk.fill();
    let stored = inbox.store(&line(2)).await;
    // If the commit found no room, the store has replaced its ballast by a smaller one.
    disk.fill();
    let status = agent.wait_status("it tells", PATIENCE, is_full).await;
    disk.make_room();
    inbox.store(&line(3)).await;
    let well = agent.wait_status("it is well", PATIENCE, |status| !is_full(status)).await;

    assert_eq!(stored.len(), 1, "durable all the same");
    assert_eq!(status["disk"]["partition_bytes"], 8 << 20, "{status:#}");
    let others = status["disk"]["others_bytes"].as_u64().expect("a number");
    assert!(others > 1 << 20, "{status:#}");
    assert!(well["disk"]["fault"].is_null(), "{well:#}");
    assert!(agent.stop().await.success());
}
