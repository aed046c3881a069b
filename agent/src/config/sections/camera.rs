//! Cameras.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;
use crate::config::units::{Period, duration, millis};

/// A camera, driven by a program that takes one picture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Camera {
    /// Id of the camera in actions such as `capture:nest`, and in events: 1 to 64 of `A-Z a-z 0-9 .
    /// _ : -`, unique in this file.
    pub id: String,
    /// Program that takes a picture, and its time limits.
    pub capture: Capture,
    /// Time between two pictures without a trigger. This version accepts the key with a warning,
    /// and takes no such pictures. Range: `1s` to `7d`.
    #[serde(default, with = "duration")]
    #[schemars(with = "Option<Period>", extend("x-range" = ["1s", "7d"]))]
    pub every: Option<Duration>,
}

/// Program that takes a picture, and its time limits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capture {
    /// Program and its arguments; `{path}` stands for the file in which the program must write the
    /// picture. Such as `["rpicam-still", "-n", "-t", "1", "-o", "{path}"]`.
    pub command: Vec<String>,
    /// Time after which a running program is killed with all processes that it started, and the
    /// picture counts as failed. Range: `1s` to `10m`.
    #[serde(default = "millis::<20_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1s", "10m"]))]
    pub deadline: Duration,
    /// Pause of the camera after each picture or failure. A trigger during a picture or the pause
    /// gets no picture. Range: `0s` to `1d`.
    #[serde(default = "millis::<1_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "1d"]))]
    pub rest: Duration,
}

impl Camera {
    /// Checks the table at `path`. Warns of keys that have no effect in this version.
    pub(in crate::config) fn check(&self, path: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let command = &self.capture.command;
        let fault = |message| Finding::fault(format!("{path}.capture.command"), message);
        if command.first().is_none_or(|program| program.is_empty() || program.contains("{path}")) {
            found.push(fault("`command` names no program"));
        } else if !command.iter().any(|word| word.contains("{path}")) {
            let label = "such as [\"rpicam-still\", \"-o\", \"{path}\"]";
            found.push(fault("`command` does not say where the picture goes").label(label));
        }
        if self.every.is_some() {
            let message = "this version takes pictures only when a rule or a visit asks for one";
            let warning = Finding::warning(format!("{path}.every"), message);
            found.push(warning.label("`every` is not followed yet"));
        }
        found
    }
}
