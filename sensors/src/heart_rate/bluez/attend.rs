//! The care for one monitor: seek, connect, subscribe, hear, and climb the ladder when it falls silent.

use std::convert::Infallible;
use std::pin::{Pin, pin};

use btleplug::api::bleuuid::uuid_from_u16;
use btleplug::api::{Characteristic, Peripheral as _, ValueNotification};
use btleplug::platform::Peripheral;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use uuid::Uuid;

use super::call::{CallFault, battery_percent, within};
use super::hub::{Hub, Sighting, Stop};
use super::radio::{HEART_RATE_SERVICE, device_path};
use crate::heart_rate::ladder::{Input, Ladder, Rung};
use crate::heart_rate::packet::{self, Location};

/// Assigned Numbers, sections 3.4.2 and 3.8.1.
const BATTERY_SERVICE: Uuid = uuid_from_u16(0x180F);
const BATTERY_LEVEL: Uuid = uuid_from_u16(0x2A19);
const HEART_RATE_MEASUREMENT: Uuid = uuid_from_u16(0x2A37);
const BODY_SENSOR_LOCATION: Uuid = uuid_from_u16(0x2A38);

/// Doublings of the pause after failures in a row: bounds it to sixteen times the first.
const MAX_DOUBLINGS: u32 = 4;
/// A wait that took so many times as long as it was meant to says that this process stood still.
const STANDSTILL: u32 = 2;

type Notifications = Pin<Box<dyn Stream<Item = ValueNotification> + Send>>;

pub(super) struct Attendant<'h, 'a> {
    hub: &'h Hub<'a>,
    index: usize,
    ladder: Ladder,
    /// Failed attempts since the last measurement.
    failures: u32,
}

impl<'h, 'a> Attendant<'h, 'a> {
    pub(super) fn new(hub: &'h Hub<'a>, index: usize) -> Self {
        Self { hub, index, ladder: Ladder::new(hub.options.silence), failures: 0 }
    }

    /// Cares for the monitor, for ever.
    pub(super) async fn attend(mut self) -> Result<Infallible, Stop> {
        let mut at = self.hub.seek(self.index).await?;
        loop {
            let rung = self.visit(&at).await?;
            self.hub.connected(self.index, None);
            self.cure(rung, &at).await?;
            self.rest().await;
            if rung > Rung::Reconnect {
                at = self.hub.seek(self.index).await?;
            }
        }
    }

    /// Connects and listens for as long as subscribing is enough; returns the rung to climb then.
    ///
    /// It listens before it connects: on a link that was made again BlueZ asks for notifications by itself,
    /// and what they say is not said twice. For the same reason the questions come last.
    async fn visit(&mut self, at: &Sighting<'a>) -> Result<Rung, Stop> {
        let options = self.hub.options;
        let mut notifications = match within(options.call, "listen", at.belt.notifications()).await
        {
            Ok(notifications) => notifications,
            Err(fault) => return self.fail(at, &fault).await,
        };
        if let Err(fault) = at.radio.connect(&at.belt, options).await {
            return self.fail(at, &fault).await;
        }
        let mut asking = pin!(ask_about(self.hub, self.index, &at.belt));
        let mut subscribed = false;
        loop {
            let rung = match self.subscribe(at, &mut subscribed).await {
                Ok(()) => tokio::select! {
                    rung = self.listen(at, &mut notifications) => rung?,
                    never = &mut asking => match never {},
                },
                Err(fault) => self.fail(at, &fault).await?,
            };
            if rung != Rung::Subscribe {
                return Ok(rung);
            }
        }
    }

    /// Finds the services again, for they may have changed, and asks for notifications. On a link that is
    /// subscribed to already that ends them first: BlueZ takes a second request for the same one.
    async fn subscribe(&self, at: &Sighting<'a>, subscribed: &mut bool) -> Result<(), CallFault> {
        let (belt, limit) = (&at.belt, self.hub.options.call);
        within(limit, "discover services", belt.discover_services()).await?;
        let measurement = characteristic(belt, HEART_RATE_SERVICE, HEART_RATE_MEASUREMENT)
            .ok_or_else(|| {
                CallFault::new("find the heart rate", "the monitor has no such service")
            })?;
        if std::mem::replace(subscribed, true) {
            within(limit, "unsubscribe", belt.unsubscribe(&measurement)).await.ok();
        }
        within(limit, "subscribe", belt.subscribe(&measurement)).await
    }

    /// Passes on what comes until it is time for a rung.
    async fn listen(
        &mut self,
        at: &Sighting<'a>,
        notifications: &mut Notifications,
    ) -> Result<Rung, Stop> {
        self.hub.connected(self.index, Some(at));
        self.step(Input::Subscribed, at);
        let late = self.hub.options.late.min(self.hub.options.silence / 2);
        loop {
            let began = self.hub.now();
            match tokio::time::timeout(late, notifications.next()).await {
                Ok(Some(said)) => self.hear(at, &said).await?,
                Ok(None) => {
                    return self.fail(at, &CallFault::new("listen", "the stream ended")).await;
                }
                // No event says that a link was lost, or that the bus was: so it is asked.
                Err(_) => {
                    if let Err(fault) = self.check(&at.belt).await {
                        return self.fail(at, &fault).await;
                    }
                    // If it was this process that stood still, the answer came after what it missed.
                    while let Some(Some(said)) = notifications.next().now_or_never() {
                        self.hear(at, &said).await?;
                    }
                }
            }
            // After standing still the silence is not the monitor's: what it said meanwhile is on its way.
            let stood_still = self.hub.now().saturating_sub(began) > late * STANDSTILL;
            if !stood_still && let Some(rung) = self.step(Input::Tick, at) {
                return Ok(rung);
            }
        }
    }

    async fn hear(&mut self, at: &Sighting<'a>, said: &ValueNotification) -> Result<(), Stop> {
        if said.uuid != HEART_RATE_MEASUREMENT {
            return Ok(());
        }
        match packet::decode(&said.value) {
            Ok(decoded) => {
                self.failures = 0;
                self.step(Input::Packet, at);
                self.hub.heard(self.index, decoded).await
            }
            Err(malformed) => {
                self.hub.garbled(self.index, malformed);
                Ok(())
            }
        }
    }

    async fn check(&self, belt: &Peripheral) -> Result<(), CallFault> {
        let limit = self.hub.options.call;
        if within(limit, "ask for the link", belt.is_connected()).await? {
            Ok(())
        } else {
            Err(CallFault::new("keep the link", "the monitor disconnected"))
        }
    }

    /// Does what a rung stands for, after the link is given up.
    async fn cure(&self, rung: Rung, at: &Sighting<'a>) -> Result<(), Stop> {
        let options = self.hub.options;
        at.radio.disconnect(&at.belt, options.call).await;
        let cured = match rung {
            Rung::Subscribe | Rung::Reconnect => Ok(()),
            Rung::Forget => at.radio.forget(&at.belt, options.call).await,
            Rung::PowerCycle => at.radio.power_cycle(options).await,
            Rung::Report => {
                let source = self.hub.monitor(self.index).outlet.source();
                return Err(Stop::Fault(super::BluezFault::Unhealed(source)));
            }
        };
        if let Err(fault) = cured {
            self.hub.note(self.index, &fault);
        }
        Ok(())
    }

    /// Takes in a failure that is this monitor's own; if it is BlueZ's, everything stops.
    async fn fail(&mut self, at: &Sighting<'a>, fault: &CallFault) -> Result<Rung, Stop> {
        self.hub.note(self.index, fault);
        self.hub.probe().await?;
        Ok(self.step(Input::Failed, at).unwrap_or(Rung::Reconnect))
    }

    fn step(&mut self, input: Input, at: &Sighting<'a>) -> Option<Rung> {
        let rung = self.ladder.handle(input, self.hub.now(), self.hub.reach(at.radio))?;
        tracing::debug!(source = self.hub.monitor(self.index).outlet.source().0, ?rung, "healing");
        self.hub.update(self.index, |state| state.rungs.count(rung));
        Some(rung)
    }

    /// Pauses after failures in a row, with jitter: monitors that failed together must not try together.
    async fn rest(&mut self) {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures += 1;
        let pause = self.hub.options.retry * (1 << doublings);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Reads what does not change while it is worn, once; a monitor need not tell any of it.
async fn ask_about(hub: &Hub<'_>, index: usize, belt: &Peripheral) -> Infallible {
    let limit = hub.options.call;
    let read = async |service, uuid| {
        let characteristic = characteristic(belt, service, uuid)?;
        within(limit, "read", belt.read(&characteristic)).await.ok()
    };
    let location = read(HEART_RATE_SERVICE, BODY_SENSOR_LOCATION).await;
    let battery = match read(BATTERY_SERVICE, BATTERY_LEVEL).await {
        Some(level) => packet::decode_battery(&level),
        None => battery_percent(device_path(belt), limit).await,
    };
    hub.update(index, |state| {
        state.location = location.as_deref().and_then(Location::decode);
        state.battery_percent = battery;
    });
    std::future::pending().await
}

fn characteristic(belt: &Peripheral, service: Uuid, uuid: Uuid) -> Option<Characteristic> {
    belt.characteristics().into_iter().find(|it| it.service_uuid == service && it.uuid == uuid)
}
