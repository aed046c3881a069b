//! The search for missing monitors on one adapter: scans only while a monitor is missing.
//!
//! The search polls the devices seen by BlueZ and does not listen to events: events cost a call for
//! every change of a signal strength, wait in an unbounded queue, and lag in a hall full of belts.

use std::convert::Infallible;

use btleplug::api::Peripheral as _;
use btleplug::platform::Peripheral;

use super::call::{CallFault, within};
use super::hub::{Hub, Sighting, Stop};
use super::radio::Radio;
use crate::heart_rate::{Address, Identity};

/// Searches for missing monitors until the driver stops.
pub(super) async fn search<'a>(hub: &Hub<'a>, radio: &'a Radio) -> Result<Infallible, Stop> {
    loop {
        if hub.sought().is_empty() {
            drop(radio.hush(hub.options.call).await);
            hub.wait_for_seekers().await;
        }
        // The scan of another program finds monitors as well.
        let mut looked = radio.scan(hub.options).await;
        if let Err(fault) = look(hub, radio).await {
            looked = Err(fault);
        }
        if let Err(fault) = looked {
            hub.sought().into_iter().for_each(|index| hub.note(index, &fault));
            hub.probe().await?;
        }
        tokio::time::sleep(hub.options.look_every).await;
    }
}

/// Passes each missing monitor in sight to its task.
async fn look<'a>(hub: &Hub<'a>, radio: &'a Radio) -> Result<(), CallFault> {
    for belt in radio.devices(hub.options.call).await? {
        let index =
            match hub.seeker_of(&Identity::Address(Address::new(belt.address().into_inner()))) {
                Some(index) if is_present(hub, &belt).await => Some(index),
                Some(_) => None,
                None if hub.anyone_sought_by_name() => find_by_name(hub, &belt).await,
                None => None,
            };
        if let Some(index) = index {
            hub.found(index, Sighting { radio, belt });
        }
    }
    Ok(())
}

/// Returns `true` if a device is present now. BlueZ also lists remembered devices, and a connect to
/// an absent device would occupy the radio.
async fn is_present(hub: &Hub<'_>, belt: &Peripheral) -> bool {
    let limit = hub.options.call;
    let seen = within(limit, "ask a device", belt.properties()).await;
    seen.is_ok_and(|seen| seen.is_some_and(|seen| seen.rssi.is_some()))
        || within(limit, "ask a device", belt.is_connected()).await.unwrap_or(false)
}

async fn find_by_name(hub: &Hub<'_>, belt: &Peripheral) -> Option<usize> {
    let about = within(hub.options.call, "ask a device", belt.properties()).await.ok()??;
    let names = [about.advertisement_name, about.local_name];
    let index = names.iter().flatten().find_map(|name| hub.seeker_of(&Identity::named(name)))?;
    is_present(hub, belt).await.then_some(index)
}
