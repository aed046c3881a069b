//! Publishing: which records are sent, as which text, in which message, how fast, and what counts as delivered.

pub mod backoff;
pub mod batch;
pub mod delivery;
pub mod filter;
pub mod pace;
pub mod record_text;
pub mod topic;
