//! The task of one monitor: finds, connects and subscribes, passes on measurements, and climbs the
//! ladder when the monitor falls silent.

use std::convert::Infallible;
use std::pin::{Pin, pin};

use btleplug::api::bleuuid::uuid_from_u16;
use btleplug::api::{Characteristic, Peripheral as _, ValueNotification};
use btleplug::platform::Peripheral;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use uuid::Uuid;

use super::call::{CallFault, battery_percent, call_within};
use super::hub::{Hub, Sighting, Stop};
use super::radio::{HEART_RATE_SERVICE, device_path};
use crate::heart_rate::ladder::{Ladder, LadderInput, Rung};
use crate::heart_rate::packet::{self, Location};

/// Assigned Numbers, sections 3.4.2 and 3.8.1.
const BATTERY_SERVICE: Uuid = uuid_from_u16(0x180F);
const BATTERY_LEVEL: Uuid = uuid_from_u16(0x2A19);
const HEART_RATE_MEASUREMENT: Uuid = uuid_from_u16(0x2A37);
const BODY_SENSOR_LOCATION: Uuid = uuid_from_u16(0x2A38);

/// The largest number of doublings of the pause after consecutive failures: sixteen times the first
/// pause.
const MAX_DOUBLINGS: u32 = 4;
/// A wait longer than this multiple of its limit shows a standstill of the whole process.
const STANDSTILL: u32 = 2;

type Notifications = Pin<Box<dyn Stream<Item = ValueNotification> + Send>>;

pub(super) struct MonitorTask<'h, 'a> {
    hub: &'h Hub<'a>,
    index: usize,
    ladder: Ladder,
    /// The number of failed attempts since the last measurement.
    failures: u32,
}

impl<'h, 'a> MonitorTask<'h, 'a> {
    pub(super) fn new(hub: &'h Hub<'a>, index: usize) -> Self {
        Self { hub, index, ladder: Ladder::new(hub.options.silence), failures: 0 }
    }

    /// Keeps the monitor connected until the driver stops.
    pub(super) async fn keep_connected(mut self) -> Result<Infallible, Stop> {
        let mut at = self.hub.wait_for_sighting(self.index).await?;
        loop {
            let rung = self.connect_and_listen(&at).await?;
            self.hub.record_link(self.index, None);
            self.apply_cure(rung, &at).await?;
            self.pause_before_retry().await;
            if rung > Rung::Reconnect {
                at = self.hub.wait_for_sighting(self.index).await?;
            }
        }
    }

    /// Connects and passes on measurements. Subscribes again on the same link if the ladder asks
    /// for that; returns any higher rung.
    ///
    /// The stream of notifications is opened before the connect: on a link made again, BlueZ
    /// requests notifications by itself and delivers each notification once. The battery and the
    /// location are read last for the same reason.
    async fn connect_and_listen(&mut self, at: &Sighting<'a>) -> Result<Rung, Stop> {
        let options = self.hub.options;
        let mut notifications =
            match call_within(options.call, "listen", at.belt.notifications()).await {
                Ok(notifications) => notifications,
                Err(fault) => return self.handle_failure(at, &fault).await,
            };
        let record_link = || self.hub.record_link(self.index, Some(at));
        if let Err(fault) = at.radio.connect(&at.belt, options, record_link).await {
            return self.handle_failure(at, &fault).await;
        }
        let mut asking = pin!(read_battery_and_location(self.hub, self.index, &at.belt));
        let mut subscribed = false;
        loop {
            let rung = match self.subscribe(at, &mut subscribed).await {
                Ok(()) => tokio::select! {
                    rung = self.relay_notifications(at, &mut notifications) => rung?,
                    never = &mut asking => match never {},
                },
                Err(fault) => self.handle_failure(at, &fault).await?,
            };
            if rung != Rung::Subscribe {
                return Ok(rung);
            }
        }
    }

    /// Discovers the services again, since services may have changed, and requests notifications.
    /// On a subscribed link, the old request is ended first: BlueZ accepts a second request as the
    /// same request.
    async fn subscribe(&self, at: &Sighting<'a>, subscribed: &mut bool) -> Result<(), CallFault> {
        let (belt, limit) = (&at.belt, self.hub.options.call);
        call_within(limit, "discover services", belt.discover_services()).await?;
        let measurement = find_characteristic(belt, HEART_RATE_SERVICE, HEART_RATE_MEASUREMENT)
            .ok_or_else(|| {
                CallFault::new("find the heart rate", "the monitor has no such service")
            })?;
        if std::mem::replace(subscribed, true) {
            call_within(limit, "unsubscribe", belt.unsubscribe(&measurement)).await.ok();
        }
        call_within(limit, "subscribe", belt.subscribe(&measurement)).await
    }

    /// Passes on measurements until a rung of the ladder is due.
    async fn relay_notifications(
        &mut self,
        at: &Sighting<'a>,
        notifications: &mut Notifications,
    ) -> Result<Rung, Stop> {
        self.hub.update_state(self.index, |state| state.connected = true);
        self.step_ladder(LadderInput::Subscribed, at);
        let late = self.hub.options.late.min(self.hub.options.silence / 2);
        loop {
            let began = self.hub.now();
            match tokio::time::timeout(late, notifications.next()).await {
                Ok(Some(said)) => self.handle_notification(at, &said).await?,
                Ok(None) => {
                    return self
                        .handle_failure(at, &CallFault::new("listen", "the stream ended"))
                        .await;
                }
                // No event reports a lost link or a lost bus, so the driver asks for the link.
                Err(_) => {
                    if let Err(fault) = self.check_link(&at.belt).await {
                        return self.handle_failure(at, &fault).await;
                    }
                    // After a standstill of this process, the missed notifications arrive before
                    // the answer.
                    while let Some(Some(said)) = notifications.next().now_or_never() {
                        self.handle_notification(at, &said).await?;
                    }
                }
            }
            // After a standstill of this process, the monitor's packets are still on the way.
            let stood_still = self.hub.now().saturating_sub(began) > late * STANDSTILL;
            if !stood_still && let Some(rung) = self.step_ladder(LadderInput::Tick, at) {
                return Ok(rung);
            }
        }
    }

    async fn handle_notification(
        &mut self,
        at: &Sighting<'a>,
        said: &ValueNotification,
    ) -> Result<(), Stop> {
        if said.uuid != HEART_RATE_MEASUREMENT {
            return Ok(());
        }
        match packet::decode_measurement(&said.value) {
            Ok(decoded) => {
                self.failures = 0;
                self.step_ladder(LadderInput::Packet, at);
                self.hub.handle_measurement(self.index, decoded).await
            }
            Err(malformed) => {
                self.hub.count_malformed(self.index, malformed);
                Ok(())
            }
        }
    }

    async fn check_link(&self, belt: &Peripheral) -> Result<(), CallFault> {
        let limit = self.hub.options.call;
        if call_within(limit, "ask for the link", belt.is_connected()).await? {
            Ok(())
        } else {
            Err(CallFault::new("keep the link", "the monitor disconnected"))
        }
    }

    /// Disconnects, and then carries out the cure of a rung.
    async fn apply_cure(&self, rung: Rung, at: &Sighting<'a>) -> Result<(), Stop> {
        let options = self.hub.options;
        at.radio.disconnect(&at.belt, options.call).await;
        let cured = match rung {
            Rung::Subscribe | Rung::Reconnect => Ok(()),
            Rung::Forget => at.radio.forget_monitor(&at.belt, options.call).await,
            Rung::PowerCycle => at.radio.power_cycle(options).await,
            Rung::Report => {
                let source = self.hub.monitor(self.index).outlet.source();
                return Err(Stop::Fault(super::BluezFault::Unhealed(source)));
            }
        };
        if let Err(fault) = cured {
            self.hub.record_error(self.index, &fault);
        }
        Ok(())
    }

    /// Records a failure of this monitor. Stops the driver if BlueZ itself or the set of adapters
    /// is the cause.
    async fn handle_failure(&mut self, at: &Sighting<'a>, fault: &CallFault) -> Result<Rung, Stop> {
        self.hub.record_error(self.index, fault);
        self.hub.check_adapters().await?;
        Ok(self.step_ladder(LadderInput::Failed, at).unwrap_or(Rung::Reconnect))
    }

    fn step_ladder(&mut self, input: LadderInput, at: &Sighting<'a>) -> Option<Rung> {
        let rung = self.ladder.handle_input(input, self.hub.now(), self.hub.reach(at.radio))?;
        tracing::debug!(source = self.hub.monitor(self.index).outlet.source().0, ?rung, "healing");
        self.hub.update_state(self.index, |state| state.rungs.count_climb(rung));
        Some(rung)
    }

    /// Pauses after consecutive failures, with jitter: monitors that failed together must not retry
    /// together.
    async fn pause_before_retry(&mut self) {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures += 1;
        let pause = self.hub.options.retry * (1 << doublings);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Reads the place on the body and the battery level, once for each connect: the place does not
/// change while the monitor is worn, and the level changes slowly. A monitor may have neither.
async fn read_battery_and_location(hub: &Hub<'_>, index: usize, belt: &Peripheral) -> Infallible {
    let limit = hub.options.call;
    let read = async |service, uuid| {
        let characteristic = find_characteristic(belt, service, uuid)?;
        call_within(limit, "read", belt.read(&characteristic)).await.ok()
    };
    let location = read(HEART_RATE_SERVICE, BODY_SENSOR_LOCATION).await;
    let battery = match read(BATTERY_SERVICE, BATTERY_LEVEL).await {
        Some(level) => packet::decode_battery(&level),
        None => battery_percent(device_path(belt), limit).await,
    };
    hub.update_state(index, |state| {
        state.location = location.as_deref().and_then(Location::from_bytes);
        state.battery_percent = battery;
    });
    std::future::pending().await
}

fn find_characteristic(belt: &Peripheral, service: Uuid, uuid: Uuid) -> Option<Characteristic> {
    belt.characteristics().into_iter().find(|it| it.service_uuid == service && it.uuid == uuid)
}
