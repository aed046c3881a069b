//! A line read through the GPIO character device: the kernel provides level, edges and bias on any
//! board.
//!
//! Each edge is read into a buffer of one. gpiocdev 0.8's `read_edge_event` takes up to eight edges
//! from the kernel and returns the first if only version 2 of the interface is built in, as here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::chip::{self, Chip};
use gpiocdev::line::{EdgeDetection, EdgeKind, EventClock, Value};

use super::port::{LinePort, OpenedLine, request_debounced};
use super::state::Edge;
use super::{Bias, Level, Line};
use crate::NoReading;

/// The number of edges kept by the kernel while the line's thread is blocked: the kernel's maximum
/// for one line.
const EDGE_BUFFER: u32 = 1024;
/// The labels of the chip with the header's pins; the number of the chip varies.
const RASPBERRY_PI_LABELS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

struct CharacterDevicePort {
    request: Request,
    pin: u32,
    event: Vec<u64>,
}

/// Opens `line`; its pin is the offset on the chip.
pub(super) fn open_line(line: &Line) -> Result<OpenedLine, NoReading> {
    let chip = find_chip(line.chip.as_deref())?;
    let name = chip.name();
    check_free(&chip, line.pin)?;
    let (request, kernel_debounces) =
        request_debounced(line.debounce, |debounce| request_line(line, chip.path(), debounce))
            .map_err(|error| explain_failure(&name, &error))?;
    let event = vec![0; request.edge_event_u64_size()];
    let port = Box::new(CharacterDevicePort { request, pin: line.pin, event });
    Ok(OpenedLine { port, kernel_debounces })
}

/// Checks that a line of a chip exists and is free. The error is clearer than the error of a
/// request.
pub(crate) fn check_free(chip: &Chip, pin: u32) -> Result<(), NoReading> {
    let name = chip.name();
    let lines = chip.info().map_err(|error| explain_failure(&name, &error))?.num_lines;
    if pin >= lines {
        return Err(NoReading::Absent(format!("line {pin} of `{name}`, which has {lines}")));
    }
    let info = chip.line_info(pin).map_err(|error| explain_failure(&name, &error))?;
    if info.used {
        let by = if info.consumer.is_empty() { "the kernel" } else { &info.consumer };
        return Err(NoReading::Failed(format!("line {pin} of `{name}` is in use by `{by}`")));
    }
    Ok(())
}

fn request_line(line: &Line, chip: &Path, debounce: Option<Duration>) -> gpiocdev::Result<Request> {
    let bias = match line.bias {
        Bias::AsIs => None,
        Bias::PullUp => Some(gpiocdev::line::Bias::PullUp),
        Bias::PullDown => Some(gpiocdev::line::Bias::PullDown),
        Bias::Off => Some(gpiocdev::line::Bias::Disabled),
    };
    Request::builder()
        .on_chip(chip)
        .with_consumer("pulsegate")
        .with_kernel_event_buffer_size(EDGE_BUFFER)
        .with_line(line.pin)
        .as_input()
        .with_bias(bias)
        .with_edge_detection(EdgeDetection::BothEdges)
        .with_event_clock(EventClock::Monotonic)
        .with_debounce_period(debounce.unwrap_or_default())
        .request()
}

impl LinePort for CharacterDevicePort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.request.as_fd()
    }

    fn read_edge(&mut self) -> Result<Edge, NoReading> {
        let event = self
            .request
            .read_edge_events_into_slice(&mut self.event)
            .and_then(|words| self.request.edge_event_from_slice(&self.event[..words]))
            .map_err(|error| explain_failure("reading an edge", &error))?;
        let level = match event.kind {
            EdgeKind::Rising => Level::High,
            EdgeKind::Falling => Level::Low,
        };
        Ok(Edge { at: Duration::from_nanos(event.timestamp_ns), level, seqno: event.line_seqno })
    }

    fn read_level(&self) -> Result<Level, NoReading> {
        match self
            .request
            .value(self.pin)
            .map_err(|error| explain_failure("reading the level", &error))?
        {
            Value::Active => Ok(Level::High),
            Value::Inactive => Ok(Level::Low),
        }
    }
}

/// Finds the chip `wanted`. Without a name, returns the chip of a Raspberry Pi or the only chip.
pub(crate) fn find_chip(wanted: Option<&str>) -> Result<Chip, NoReading> {
    if let Some(path) = wanted.filter(|wanted| wanted.starts_with('/')) {
        return Chip::from_path(path).map_err(|error| explain_failure(path, &error));
    }
    let mut unreadable = None;
    let mut chips = Vec::new();
    for path in chip::chips().map_err(|error| explain_failure("/dev", &error))? {
        match Chip::from_path(&path).and_then(|chip| chip.info().map(|info| (chip, info))) {
            Ok(chip) => chips.push(chip),
            Err(error) => unreadable = Some(explain_failure(&path.display().to_string(), &error)),
        }
    }
    let found = match wanted {
        Some(wanted) => chips.iter().position(|(_, i)| i.name == wanted || i.label == wanted),
        None => chips
            .iter()
            .position(|(_, info)| RASPBERRY_PI_LABELS.contains(&info.label.as_str()))
            .or_else(|| (chips.len() == 1).then_some(0)),
    };
    if let Some(found) = found {
        return Ok(chips.swap_remove(found).0);
    }
    Err(unreadable.unwrap_or_else(|| {
        let names: Vec<_> =
            chips.iter().map(|(_, i)| format!("{} ({})", i.name, i.label)).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let what = wanted.map_or("the GPIO chip".to_owned(), |w| format!("the GPIO chip `{w}`"));
        NoReading::Absent(format!("{what}; there is: {there}"))
    }))
}

/// Returns the reason for a failed call on `what`; a missing file or device is reported as absent.
pub(crate) fn explain_failure(what: &str, error: &gpiocdev::Error) -> NoReading {
    let gpiocdev::Error::Os(errno) = error else {
        return NoReading::Failed(format!("`{what}`: {error}"));
    };
    let error = io::Error::from_raw_os_error(errno.0);
    if error.kind() == io::ErrorKind::NotFound {
        return NoReading::Absent(format!("`{what}`"));
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        let what = format!("permission to open `{what}`: is the user in group `gpio`?");
        return NoReading::Failed(what);
    }
    NoReading::Failed(format!("`{what}`: {error}"))
}
