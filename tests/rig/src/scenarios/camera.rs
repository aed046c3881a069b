//! A picture by the kernel's simulated camera, taken from inside the service's sandbox.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::device::PATIENCE;
use crate::rig::{BELT, Rig};

const CAMERA: &str = r#"
[[camera]]
id = "nest"
capture = { command = ["v4l2-ctl", "--device=/dev/video0", "--stream-mmap", "--stream-count=1", "--stream-to={path}"], deadline = "60s" }
[[rule]]
name = "heard"
on = "heart_rate"
above = 1
then = ["alert", "capture:nest"]
"#;

/// V4L2 through the unit: its group, its devices, its system calls (P12).
pub(super) async fn camera(rig: &mut Rig) -> Result<()> {
    rig.device.sh("modprobe vivid && udevadm settle && test -c /dev/video0").await?;
    rig.online(&format!("{BELT}{CAMERA}")).await?;
    let is_picture =
        |record: &Value| record["event"].as_str().is_some_and(|event| event.starts_with("picture"));
    let any = |events: &[Value]| events.iter().any(is_picture);
    let events = rig.site.subscriber.wait_records("/events", PATIENCE, any).await;
    let told = events.iter().find(|event| is_picture(event)).cloned().unwrap_or_default();
    ensure!(told["event"] == "picture", "{told}");

    let key = told["key"].as_str().unwrap_or_default();
    let line = format!("sha256sum </var/lib/pulsegate/pictures/{key} | cut -d' ' -f1");
    let sum = rig.device.sh(&line).await?;
    ensure!(told["sha256"] == sum.as_str(), "{told}, and the file has {sum}");
    rig.saw(format!(
        "a frame of vivid, {} bytes, by v4l2-ctl in the service's sandbox; the event has its hash",
        told["bytes"]
    ));
    Ok(())
}
