//! All items of the core in use by this test: input and output types, and the driven parts.

pub(crate) use pulsegate_core::cloud::batch::{Batch, BatchGroup, Gatherer, Offer};
pub(crate) use pulsegate_core::cloud::delivery::{
    Delivery, DeliveryLimits, LanePart, LinkEnd, Mark, MessageId, TakeRequest, TopicMark,
};
pub(crate) use pulsegate_core::cloud::pace::{Cost, Pace, PaceLimits};
pub(crate) use pulsegate_core::cloud::record_text::Framing;
pub(crate) use pulsegate_core::record::lane::{DropReason, Gap, Lane};
pub(crate) use pulsegate_core::record::reading::{HeartDetail, Reading, Seq, Value};
pub(crate) use pulsegate_core::rules::{
    Action, AlertState, ArrivalTime, Clear, Condition, KernelBoot, LATENESS, Limit, MAX_ALERTS,
    Member, PastAlert, Publication, Range, RuleSpec, Rules, Severity, Take, Test, TimedReading,
    Transition, WITHIN, WindowSpec,
};
pub(crate) use pulsegate_core::time::timeline::{ClockTrust, Epoch, STEP_MS, Segment, Timeline};
pub(crate) use pulsegate_core::time::{Mono, Wall};
pub(crate) use pulsegate_core::visits::{
    First, ReportedVisits, SETTLING, Visit, VisitEvent, VisitSpec, Visits,
};
pub(crate) use pulsegate_sensors::{Contact, Source, SourceId, Sources};
