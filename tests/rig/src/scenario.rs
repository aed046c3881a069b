//! What a scenario is: a name, a sentence, and what happens.

use std::pin::Pin;

use anyhow::Result;

use crate::rig::Rig;

/// A scenario at work.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A scenario. It fails by an error or by a panic, whichever suits it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, as a sentence, with the promise that it keeps.
    pub about: &'static str,
    /// What happens.
    pub run: for<'a> fn(&'a mut Rig) -> Running<'a>,
}
