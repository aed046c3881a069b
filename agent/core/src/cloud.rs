//! Decisions of the publisher: selection of records, record text, batching, send rate and accounting of delivery.

pub mod backoff;
pub mod batch;
mod columns;
pub mod delivery;
pub mod filter;
pub mod pace;
pub mod rate;
pub mod record_text;
pub mod topic;
