//! Outputs: a switched line, lines that show a number, or a file that a number is written to.
//!
//! An output is off from opening until the first value is set, and is switched off again when
//! dropped; the later state of the lines depends on the chip. If an output cannot be opened or set,
//! the error holds the reason, and the next call opens the output again. Another part decides the
//! value.
//!
//! Several lines are decimal digits of four lines each, lowest bit and lowest digit first, as
//! expected by a seven-segment decoder such as the 4511. The lines change together if the kernel
//! sets them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gpiocdev::line::{Value, Values};
use rppal::gpio::{Gpio, OutputPin};
use rustix::fs::OFlags;

use crate::NoReading;
use crate::line::{Backend, Level, character_device, raspberry_pi};

/// The number of lines of a digit: the inputs of a 4511.
const LINES_OF_A_DIGIT: usize = 4;

/// The connection of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wiring {
    /// Lines of a chip: a single one, or four for each digit.
    Lines {
        /// BCM numbers on a Raspberry Pi; offsets on the chip elsewhere.
        pins: Vec<u32>,
        /// The chip, as for an input line.
        chip: Option<String>,
        /// The level of a line that is on.
        active: Level,
        /// The interface to the hardware.
        backend: Backend,
    },
    /// A file for the number: an LED of the kernel, or a stand-in for a line.
    File(PathBuf),
}

/// An output; see the module.
#[derive(Debug)]
pub struct OutputDriver {
    wiring: Wiring,
    port: Option<OutputPort>,
}

#[derive(Debug)]
enum OutputPort {
    Pi(Vec<OutputPin>, Level),
    /// The request, with the pins in the order of their bits.
    Chip(gpiocdev::Request, Vec<u32>),
    File(PathBuf),
}

impl OutputDriver {
    /// Makes an output that is not opened yet.
    #[must_use]
    pub fn new(wiring: Wiring) -> Self {
        Self { wiring, port: None }
    }

    /// Sets the output to `value`, 0 for off and 1 for on, and opens the output first if necessary.
    ///
    /// # Errors
    /// The reason the output could not be opened or set. The output is closed after an error.
    pub fn set_value(&mut self, value: u32) -> Result<(), NoReading> {
        let port = match &mut self.port {
            Some(port) => port,
            none => none.insert(open_port(&self.wiring)?),
        };
        let set = port.set_value(value);
        if set.is_err() {
            self.port = None;
        }
        set
    }
}

impl Drop for OutputDriver {
    fn drop(&mut self) {
        if let Some(port) = &mut self.port
            && let Err(reason) = port.set_value(0)
        {
            tracing::warn!(%reason, "an output could not be switched off");
        }
    }
}

impl OutputPort {
    fn set_value(&mut self, value: u32) -> Result<(), NoReading> {
        match self {
            Self::Pi(pins, active) => {
                let bits = line_states(value, pins.len());
                for (pin, on) in pins.iter_mut().zip(bits) {
                    pin.write(if on == (*active == Level::High) {
                        rppal::gpio::Level::High
                    } else {
                        rppal::gpio::Level::Low
                    });
                }
                Ok(())
            }
            Self::Chip(request, pins) => {
                let mut values = Values::default();
                for (pin, on) in pins.iter().zip(line_states(value, pins.len())) {
                    values.set(*pin, if on { Value::Active } else { Value::Inactive });
                }
                let set = request.set_values(&values);
                set.map_err(|error| character_device::explain_failure("setting the lines", &error))
            }
            Self::File(path) => write_value(path, value).map_err(|error| file_failed(path, &error)),
        }
    }
}

/// Returns the state of each line for `value`; a single line is on for any value but 0.
fn line_states(value: u32, lines: usize) -> Vec<bool> {
    if lines == 1 {
        return vec![value > 0];
    }
    let mut rest = value;
    let mut bits = Vec::with_capacity(lines);
    while bits.len() < lines {
        let digit = rest % 10;
        rest /= 10;
        bits.extend((0..LINES_OF_A_DIGIT).map(|bit| digit & (1 << bit) != 0));
    }
    bits.truncate(lines);
    bits
}

fn open_port(wiring: &Wiring) -> Result<OutputPort, NoReading> {
    let mut port = match wiring {
        Wiring::Lines { pins, chip, active, backend } => {
            let chip = chip.as_deref();
            match backend {
                Backend::RaspberryPi => open_pi(pins, *active),
                Backend::CharacterDevice => open_chip(pins, chip, *active),
                Backend::Auto if chip.is_none() && raspberry_pi::is_one() => open_pi(pins, *active)
                    .or_else(|reason| open_chip(pins, None, *active).map_err(|_| reason)),
                Backend::Auto => open_chip(pins, chip, *active),
            }?
        }
        Wiring::File(path) => OutputPort::File(path.clone()),
    };
    port.set_value(0)?;
    Ok(port)
}

fn open_pi(pins: &[u32], active: Level) -> Result<OutputPort, NoReading> {
    let gpio = Gpio::new().map_err(raspberry_pi::explain_failure)?;
    let open = |pin: &u32| {
        let number = u8::try_from(*pin)
            .map_err(|_| NoReading::Absent(format!("pin {pin} of a Raspberry Pi")))?;
        let pin = gpio.get(number).map_err(raspberry_pi::explain_failure)?;
        let mut pin = match active {
            Level::High => pin.into_output_low(),
            Level::Low => pin.into_output_high(),
        };
        // The line stays driven: a relay that is on when low would otherwise float.
        pin.set_reset_on_drop(false);
        Ok(pin)
    };
    Ok(OutputPort::Pi(pins.iter().map(open).collect::<Result<_, NoReading>>()?, active))
}

fn open_chip(pins: &[u32], chip: Option<&str>, active: Level) -> Result<OutputPort, NoReading> {
    let chip = character_device::find_chip(chip)?;
    let name = chip.name();
    for pin in pins {
        character_device::check_free(&chip, *pin)?;
    }
    let mut builder = gpiocdev::Request::builder();
    builder.on_chip(chip.path()).with_consumer("pulsegate").with_lines(pins);
    match active {
        Level::High => builder.as_active_high(),
        Level::Low => builder.as_active_low(),
    };
    let request = builder.as_output(Value::Inactive).request();
    let request = request.map_err(|error| character_device::explain_failure(&name, &error))?;
    Ok(OutputPort::Chip(request, pins.to_vec()))
}

/// Writes in place, since the kernel's files cannot be replaced; the content need not be durable. A
/// pipe without a reader is an error rather than a wait.
fn write_value(path: &Path, value: u32) -> io::Result<()> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(flags);
    let mut file = options.open(path)?;
    file.write_all(format!("{value}\n").as_bytes())
}

fn file_failed(path: &Path, error: &io::Error) -> NoReading {
    let what = format!("`{}`", path.display());
    if error.kind() == io::ErrorKind::NotFound {
        return NoReading::Absent(what);
    }
    NoReading::Failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pins: &[u32], chip: Option<&str>, backend: Backend) -> OutputDriver {
        let chip = chip.map(str::to_owned);
        OutputDriver::new(Wiring::Lines { pins: pins.to_vec(), chip, active: Level::High, backend })
    }

    #[test]
    fn a_digit_is_four_lines_with_the_lowest_bit_first() {
        let word = |value, lines| {
            line_states(value, lines)
                .iter()
                .map(|bit| if *bit { '1' } else { '0' })
                .collect::<String>()
        };

        assert_eq!(word(9, 4), "1001");
        assert_eq!(word(6, 4), "0110");
        assert_eq!(word(0, 4), "0000");
        assert_eq!(word(42, 8), "01000010", "two, then four");
        assert_eq!((word(3, 1).as_str(), word(0, 1).as_str()), ("1", "0"), "on and off");
    }

    #[test]
    fn a_file_holds_what_it_is_set_to_and_0_once_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lamp");
        let read = || std::fs::read_to_string(&path).unwrap();

        let mut output = OutputDriver::new(Wiring::File(path.clone()));
        output.set_value(9).unwrap();
        assert_eq!(read(), "9\n");
        drop(output);
        assert_eq!(read(), "0\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());

        let reason = OutputDriver::new(Wiring::File(path)).set_value(1).unwrap_err();

        assert!(matches!(reason, NoReading::Failed(_)), "{reason:?}");
    }

    #[test]
    fn one_that_failed_says_why_and_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not-yet/lamp");
        let mut output = OutputDriver::new(Wiring::File(path.clone()));

        let reason = output.set_value(1).unwrap_err();
        std::fs::create_dir(folder.path().join("not-yet")).unwrap();

        assert!(matches!(reason, NoReading::Absent(_)), "{reason:?}");
        output.set_value(1).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_chip_that_is_not_there_is_absent_and_named() {
        for backend in [Backend::Auto, Backend::CharacterDevice] {
            let reason = lines(&[17], Some("/dev/no-such-chip"), backend).set_value(1).unwrap_err();

            let NoReading::Absent(what) = reason else { panic!("{reason:?}") };
            assert!(what.contains("/dev/no-such-chip"), "{what}");
        }
        let reason = lines(&[4_000], None, Backend::RaspberryPi).set_value(1).unwrap_err();
        assert!(matches!(reason, NoReading::Absent(_)), "{reason:?}");
    }
}
