//! The channel from the drivers to the sampler.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::{Measurement, NoReading, SourceId};

/// A measurement, or the reason for its absence, from one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The source of the observation.
    pub source: SourceId,
    /// The kernel's time of the event on `CLOCK_MONOTONIC`; `None`: the sampler stamps the
    /// observation on arrival.
    pub captured: Option<Duration>,
    /// The measurement, or the reason for its absence. An `Err` is sent once when a source is lost
    /// and need not be repeated; the next `Ok` reports that the source is back.
    pub outcome: Result<Measurement, NoReading>,
}

/// A driver's end of the channel to the sampler, bound to one source.
#[derive(Debug, Clone)]
pub struct Outlet {
    source: SourceId,
    observations: mpsc::Sender<Observation>,
}

impl Outlet {
    /// Binds a sender to a source.
    #[must_use]
    pub fn new(source: SourceId, observations: mpsc::Sender<Observation>) -> Self {
        Self { source, observations }
    }

    /// Returns the source of this outlet.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Sends a measurement, stamped on arrival; waits while the sampler is busy. Returns `false` if
    /// the agent stopped listening: the driver should end.
    pub async fn send_measurement(&self, measurement: Measurement) -> bool {
        self.send_outcome(None, Ok(measurement)).await
    }

    /// Sends a measurement with its time on `CLOCK_MONOTONIC`; waits while the sampler is busy.
    /// Returns `false` if the agent stopped listening.
    pub async fn send_measurement_at(&self, captured: Duration, measurement: Measurement) -> bool {
        self.send_outcome(Some(captured), Ok(measurement)).await
    }

    /// Sends the reason for the absence of a measurement; waits while the sampler is busy. Returns
    /// `false` if the agent stopped listening.
    pub async fn send_no_reading(&self, reason: NoReading) -> bool {
        self.send_outcome(None, Err(reason)).await
    }

    /// Sends an outcome from a driver's own thread, with the kernel's time of the event on
    /// `CLOCK_MONOTONIC` if known; blocks while the sampler is busy. Returns `false` if the agent
    /// stopped listening.
    pub fn send_blocking(
        &self,
        captured: Option<Duration>,
        outcome: Result<Measurement, NoReading>,
    ) -> bool {
        let observation = Observation { source: self.source, captured, outcome };
        self.observations.blocking_send(observation).is_ok()
    }

    /// Returns `true` if the agent stopped listening; for a driver that has nothing to send.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.observations.is_closed()
    }

    async fn send_outcome(
        &self,
        captured: Option<Duration>,
        outcome: Result<Measurement, NoReading>,
    ) -> bool {
        let observation = Observation { source: self.source, captured, outcome };
        self.observations.send(observation).await.is_ok()
    }
}
