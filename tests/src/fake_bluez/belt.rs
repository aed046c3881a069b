//! One belt, as a test plays with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::world::Shared;

/// What ends a belt's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Notifications that are asked for again.
    Subscribe,
    /// A new link.
    Reconnect,
    /// Being forgotten by BlueZ.
    Forget,
    /// The adapter switched off.
    PowerCycle,
    /// Nothing.
    Never,
}

/// Where the charge of a battery can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Battery {
    /// Nowhere.
    None,
    /// From the Battery Service, as with `bluetoothd -P battery`.
    Service(u8),
    /// From `org.bluez.Battery1`, as BlueZ does since 5.48.
    Bluez(u8),
}

/// What the world knows of a belt.
#[derive(Debug)]
pub(super) struct BeltState {
    pub(super) radio: String,
    pub(super) address: String,
    pub(super) name: String,
    pub(super) battery: Battery,
    /// In reach, and willing to be connected to.
    pub(super) advertises: bool,
    /// Whether it has the Heart Rate service.
    pub(super) serves: bool,
    /// Whether BlueZ has an object of it.
    pub(super) known: bool,
    pub(super) connected: bool,
    /// The clients that asked for notifications.
    pub(super) listeners: BTreeSet<String>,
    pub(super) silent_until: Option<Cure>,
    pub(super) refusals: u32,
    pub(super) hangs: u32,
    /// Ends a connect that hangs.
    pub(super) called_off: Arc<Notify>,
    pub(super) beat: Option<Beat>,
    /// What it notifies as soon as a link stands.
    pub(super) greeting: Option<Vec<u8>>,
    pub(super) connects: u64,
    pub(super) subscriptions: u64,
    pub(super) removals: u64,
}

#[derive(Debug)]
pub(super) struct Beat {
    pub(super) packet: Vec<u8>,
    pub(super) every: Duration,
    pub(super) next: Instant,
}

impl BeltState {
    /// The object of the belt on the bus.
    pub(super) fn path(&self) -> String {
        format!("/org/bluez/{}/dev_{}", self.radio, self.address.replace(':', "_"))
    }

    pub(super) fn notifies(&self) -> bool {
        self.connected && self.serves && !self.listeners.is_empty() && self.silent_until.is_none()
    }

    /// Ends the silence if `cure` is what it waits for.
    pub(super) fn cure(&mut self, cure: Cure) {
        self.silent_until.take_if(|until| *until == cure);
    }
}

/// A belt's handle.
#[derive(Debug, Clone)]
pub struct Belt {
    shared: Arc<Shared>,
    index: usize,
}

impl Belt {
    pub(super) fn put(shared: Arc<Shared>, radio: &str, address: &str, name: &str) -> Self {
        let mut world = shared.world();
        world.belts.push(BeltState {
            radio: radio.to_owned(),
            address: address.to_owned(),
            name: name.to_owned(),
            battery: Battery::None,
            advertises: true,
            serves: true,
            known: false,
            connected: false,
            listeners: BTreeSet::new(),
            silent_until: None,
            refusals: 0,
            hangs: 0,
            called_off: Arc::default(),
            beat: None,
            greeting: None,
            connects: 0,
            subscriptions: 0,
            removals: 0,
        });
        let index = world.belts.len() - 1;
        drop(world);
        Self { shared, index }
    }

    /// Gives it a battery; to be set before it is connected.
    #[must_use]
    pub fn with_battery(self, battery: Battery) -> Self {
        self.change(|belt| belt.battery = battery);
        self
    }

    /// Sends one notification, if anybody is subscribed and it is not silent.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn notify(&self, packet: &[u8]) -> Result<()> {
        self.shared.notify(self.index, packet).await
    }

    /// Sends `packet` again and again.
    pub fn beat(&self, packet: &[u8], every: Duration) {
        let beat = Beat { packet: packet.to_vec(), every, next: Instant::now() };
        self.change(|belt| belt.beat = Some(beat));
    }

    /// Sends `packet` at once whenever a link stands, if BlueZ asks for notifications by then.
    pub fn greet(&self, packet: &[u8]) {
        self.change(|belt| belt.greeting = Some(packet.to_vec()));
    }

    /// Falls silent, without a disconnect, until `cure` comes.
    pub fn fall_silent(&self, until: Cure) {
        self.change(|belt| belt.silent_until = Some(until));
    }

    /// Drops the link; it goes on advertising.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn drop_link(&self) -> Result<()> {
        self.shared.unlink(self.index).await
    }

    /// Leaves: the link drops, and it advertises no more. BlueZ goes on listing it, as it does for a while.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn leave(&self) -> Result<()> {
        self.change(|belt| belt.advertises = false);
        self.shared.unlink(self.index).await
    }

    /// Comes back into reach.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn come_back(&self) -> Result<()> {
        self.change(|belt| belt.advertises = true);
        let radio = self.get(|belt| belt.radio.clone());
        self.shared.reveal(&radio).await
    }

    /// Loses the Heart Rate service while it is connected, and has none when it is connected again.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn lose_services(&self) -> Result<()> {
        self.shared.hide_services(self.index).await?;
        self.change(|belt| belt.serves = false);
        Ok(())
    }

    /// Has the service again, from the next connect on.
    pub fn regain_services(&self) {
        self.change(|belt| belt.serves = true);
    }

    /// Refuses the next `times` connects.
    pub fn refuse(&self, times: u32) {
        self.change(|belt| belt.refusals = times);
    }

    /// Lets the next `times` connects hang until they are called off by a disconnect.
    pub fn hang(&self, times: u32) {
        self.change(|belt| belt.hangs = times);
    }

    /// Whether it is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.get(|belt| belt.connected)
    }

    /// How many connects were asked for.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.get(|belt| belt.connects)
    }

    /// How often notifications were newly asked for.
    #[must_use]
    pub fn subscriptions(&self) -> u64 {
        self.get(|belt| belt.subscriptions)
    }

    /// How often BlueZ was told to forget it.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.get(|belt| belt.removals)
    }

    fn get<T>(&self, read: impl FnOnce(&BeltState) -> T) -> T {
        read(&self.shared.world().belts[self.index])
    }

    fn change(&self, change: impl FnOnce(&mut BeltState)) {
        change(&mut self.shared.world().belts[self.index]);
    }
}
