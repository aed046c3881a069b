//! All items of the core in use by this test: input and output types, and the driven parts.

pub(crate) use pulsegate_core::cloud::batch::{Batch, Gatherer, Offer, Sheaf};
pub(crate) use pulsegate_core::cloud::delivery::{
    Death, Delivery, Mark, MessageId, Part, TopicMark, Wanted,
};
pub(crate) use pulsegate_core::cloud::pace::{Cost, Limits, Pace};
pub(crate) use pulsegate_core::cloud::record_text::Framing;
pub(crate) use pulsegate_core::record::lane::{DropReason, Gap, Lane};
pub(crate) use pulsegate_core::record::reading::{HeartDetail, Reading, Seq, Value};
pub(crate) use pulsegate_core::rules::{
    Action, AlertState, Arrival, Clear, Condition, Input, KernelBoot, LATENESS, Limit, MAX_ALERTS,
    Member, PastAlert, Range, Report, RuleSpec, Rules, Severity, Take, Test, Transition, WITHIN,
    WindowSpec,
};
pub(crate) use pulsegate_core::time::timeline::{Epoch, STEP_MS, Segment, Timeline, Trust};
pub(crate) use pulsegate_core::time::{Mono, Wall};
pub(crate) use pulsegate_core::visits::{
    First, Happening, SETTLING, Told, Visit, VisitSpec, Visits,
};
pub(crate) use pulsegate_sensors::{Contact, Source, SourceId, Sources};
