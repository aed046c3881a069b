//! A line read through rpi-pal: edges from the kernel, level and bias through the SoC's registers.
//!
//! rpi-pal's interrupt runs on a hidden thread, which ends for good at its first failed read (even
//! one interrupted by a signal) and reports nothing. Here, the end of the thread closes a pipe, and
//! the line is opened again. rpi-pal's `poll_interrupt` needs no such thread, but all lines of the
//! process would share one lock, held while any line waits, and an edge of one line that arrives
//! while another waits would be overwritten by the next.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rppal::gpio::{self, Event, Gpio, InputPin, Trigger};
use rppal::system::DeviceInfo;

use super::edge_pipe::{self, EdgeReceiver};
use super::port::{LinePort, OpenedLine, request_debounced};
use super::state::Edge;
use super::{Bias, Level, Line};
use crate::NoReading;

/// An open line. The pipe is the first field, since it must close before the pin: dropping the pin
/// waits for a callback, which a full pipe may block.
struct PiPort {
    edges: EdgeReceiver,
    pin: InputPin,
}

/// Returns `true` on a Raspberry Pi known to rpi-pal.
pub(crate) fn is_one() -> bool {
    DeviceInfo::new().is_ok()
}

/// Opens `line`; its pin is a BCM number.
pub(super) fn open_line(line: &Line) -> Result<OpenedLine, NoReading> {
    let bias = match line.bias {
        Bias::AsIs => {
            let what = "the registers of a Raspberry Pi cannot leave a bias as it is: name one";
            return Err(NoReading::Failed(what.to_owned()));
        }
        Bias::PullUp => gpio::Bias::PullUp,
        Bias::PullDown => gpio::Bias::PullDown,
        Bias::Off => gpio::Bias::Off,
    };
    let number = u8::try_from(line.pin)
        .map_err(|_| NoReading::Absent(format!("pin {} of a Raspberry Pi", line.pin)))?;
    let pin = Gpio::new().and_then(|gpio| gpio.get(number)).map_err(explain_failure)?;
    let mut pin = match bias {
        gpio::Bias::PullUp => pin.into_input_pullup(),
        gpio::Bias::PullDown => pin.into_input_pulldown(),
        gpio::Bias::Off => pin.into_input(),
    };
    let (edges, kernel_debounces) =
        request_debounced(line.debounce, |debounce| listen_for_edges(&mut pin, debounce))
            .map_err(explain_failure)?;
    Ok(OpenedLine { port: Box::new(PiPort { edges, pin }), kernel_debounces })
}

fn listen_for_edges(pin: &mut InputPin, debounce: Option<Duration>) -> gpio::Result<EdgeReceiver> {
    let (mut sender, receiver) = edge_pipe::new()?;
    pin.set_async_interrupt(Trigger::Both, debounce, move |event| {
        // Sending fails only after the line's thread has dropped the pin; the edge is not needed
        // then.
        sender.send_edge(convert_edge(event)).ok();
    })?;
    Ok(receiver)
}

fn convert_edge(event: Event) -> Edge {
    let level = match event.trigger {
        Trigger::RisingEdge => Level::High,
        Trigger::FallingEdge | Trigger::Both | Trigger::Disabled => Level::Low,
    };
    Edge { at: event.timestamp, level, seqno: event.seqno }
}

impl LinePort for PiPort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.edges.as_fd()
    }

    fn read_edge(&mut self) -> Result<Edge, NoReading> {
        self.edges.receive_edge().map_err(|_| {
            NoReading::Failed(format!("the interrupt of pin {} ended", self.pin.pin()))
        })
    }

    fn read_level(&self) -> Result<Level, NoReading> {
        Ok(if self.pin.is_high() { Level::High } else { Level::Low })
    }
}

pub(crate) fn explain_failure(error: gpio::Error) -> NoReading {
    match error {
        gpio::Error::UnknownModel => {
            NoReading::Absent("a Raspberry Pi of a model that rpi-pal knows".to_owned())
        }
        gpio::Error::PinNotAvailable(pin) => {
            NoReading::Absent(format!("pin {pin} of this Raspberry Pi"))
        }
        gpio::Error::PinUsed(pin) => {
            NoReading::Failed(format!("pin {pin} is configured for two lines"))
        }
        gpio::Error::PermissionDenied(path) => {
            NoReading::Failed(format!("permission to open `{path}`: is the user in group `gpio`?"))
        }
        gpio::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            NoReading::Absent("the GPIO chip of this Raspberry Pi".to_owned())
        }
        gpio::Error::Io(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            NoReading::Failed("the line is in use by another program".to_owned())
        }
        error @ (gpio::Error::Io(_) | gpio::Error::ThreadPanic) => {
            NoReading::Failed(error.to_string())
        }
    }
}
