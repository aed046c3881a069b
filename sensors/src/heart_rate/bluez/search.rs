//! The search for missing monitors on one adapter: scans only while a monitor is missing.
//!
//! The search polls the devices seen by BlueZ and does not listen to events: events cost a call for
//! every change of a signal strength, wait in an unbounded queue, and lag in a hall full of belts.

use std::convert::Infallible;

use btleplug::api::Peripheral as _;
use btleplug::platform::Peripheral;

use super::call::{CallFault, call_within};
use super::hub::{Hub, Sighting, Stop};
use super::radio::Radio;
use crate::heart_rate::{Address, MonitorIdentity};

/// Searches for missing monitors until the driver stops.
pub(super) async fn search_monitors<'a>(
    hub: &Hub<'a>,
    radio: &'a Radio,
) -> Result<Infallible, Stop> {
    loop {
        if hub.sought_monitors().is_empty() {
            drop(radio.pause_scan(hub.options.call).await);
            hub.wait_for_seekers().await;
        }
        // The scan of another program finds monitors as well.
        let mut looked = radio.ensure_scan(hub.options).await;
        if let Err(fault) = match_devices(hub, radio).await {
            looked = Err(fault);
        }
        if let Err(fault) = looked {
            hub.sought_monitors().into_iter().for_each(|index| hub.record_error(index, &fault));
            hub.check_adapters().await?;
        }
        tokio::time::sleep(hub.options.look_every).await;
    }
}

/// Passes each missing monitor in sight to its task.
async fn match_devices<'a>(hub: &Hub<'a>, radio: &'a Radio) -> Result<(), CallFault> {
    for belt in radio.list_devices(hub.options.call).await? {
        let index = match hub
            .seeker_of(&MonitorIdentity::Address(Address::new(belt.address().into_inner())))
        {
            Some(index) if is_present(hub, &belt).await => Some(index),
            Some(_) => None,
            None if hub.anyone_sought_by_name() => find_by_name(hub, &belt).await,
            None => None,
        };
        if let Some(index) = index {
            hub.deliver_sighting(index, Sighting { radio, belt });
        }
    }
    Ok(())
}

/// Returns `true` if a device is present now. BlueZ also lists remembered devices, and a connect to
/// an absent device would occupy the radio.
async fn is_present(hub: &Hub<'_>, belt: &Peripheral) -> bool {
    let limit = hub.options.call;
    let seen = call_within(limit, "ask a device", belt.properties()).await;
    seen.is_ok_and(|seen| seen.is_some_and(|seen| seen.rssi.is_some()))
        || call_within(limit, "ask a device", belt.is_connected()).await.unwrap_or(false)
}

async fn find_by_name(hub: &Hub<'_>, belt: &Peripheral) -> Option<usize> {
    let about = call_within(hub.options.call, "ask a device", belt.properties()).await.ok()??;
    let names = [about.advertisement_name, about.local_name];
    let index =
        names.iter().flatten().find_map(|name| hub.seeker_of(&MonitorIdentity::from_name(name)))?;
    is_present(hub, belt).await.then_some(index)
}
