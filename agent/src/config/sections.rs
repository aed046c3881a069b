//! The tables by which a part of the agent runs as they are: one file a table, with its keys, types,
//! ranges, defaults and checks.

mod buffer;
mod clock;
mod identity;
mod link;
mod log;
mod pictures;
mod status;

pub(crate) use buffer::{Backlog, Buffer};
pub(crate) use clock::{Clock, Trust};
pub(crate) use identity::Identity;
pub(crate) use link::{Limits, Link, Port};
pub(super) use link::{beyond_aws, split_endpoint};
pub(crate) use log::Log;
pub(crate) use pictures::Pictures;
pub(crate) use status::Status;
