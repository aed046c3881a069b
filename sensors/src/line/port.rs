//! An open line, and the choice between the two interfaces to the hardware.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::state::Edge;
use super::{Backend, Bias, Level, Line, character_device, raspberry_pi};
use crate::NoReading;

/// An open line. Dropping the value returns the line to the kernel.
pub(super) trait LinePort {
    /// Returns a descriptor that becomes readable if an edge is waiting or the line is dead.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Returns the waiting edge; blocks if there is none.
    fn read_edge(&mut self) -> Result<Edge, NoReading>;
    /// Returns the present level.
    fn read_level(&self) -> Result<Level, NoReading>;
}

/// A newly opened line.
pub(super) struct OpenedLine {
    pub(super) port: Box<dyn LinePort>,
    /// `true` if the kernel debounces the edges.
    pub(super) kernel_debounces: bool,
}

/// Opens `line` through `backend`.
pub(super) fn open_line(line: &Line, backend: Backend) -> Result<OpenedLine, NoReading> {
    match backend {
        Backend::RaspberryPi => raspberry_pi::open_line(line),
        Backend::CharacterDevice => character_device::open_line(line),
        Backend::Auto if line.chip.is_some() || line.bias == Bias::AsIs => {
            character_device::open_line(line)
        }
        Backend::Auto if raspberry_pi::is_one() => raspberry_pi::open_line(line)
            .or_else(|reason| character_device::open_line(line).map_err(|_| reason)),
        Backend::Auto => character_device::open_line(line),
    }
}

/// Makes a request with the kernel's debounce, or without if the kernel refuses. The flag is `true`
/// if the edges need no further debounce.
pub(super) fn request_debounced<T, E>(
    debounce: Duration,
    mut request: impl FnMut(Option<Duration>) -> Result<T, E>,
) -> Result<(T, bool), E> {
    // The kernel takes microseconds in 32 bits, and both crates truncate larger values.
    let offered = !debounce.is_zero() && u32::try_from(debounce.as_micros()).is_ok();
    if offered && let Ok(done) = request(Some(debounce)) {
        return Ok((done, true));
    }
    Ok((request(None)?, debounce.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Role;

    const DEBOUNCE: Duration = Duration::from_millis(20);

    fn line(pin: u32, chip: Option<&str>, bias: Bias) -> Line {
        Line {
            pin,
            chip: chip.map(str::to_owned),
            debounce: DEBOUNCE,
            role: Role::Lid { closed: Level::Low },
            bias,
        }
    }

    fn reason(line: &Line, backend: Backend) -> NoReading {
        open_line(line, backend).map(|_| ()).expect_err("there is no such line")
    }

    #[test]
    fn a_chip_that_is_not_there_is_absent_and_named() {
        for backend in [Backend::Auto, Backend::CharacterDevice] {
            let reason = reason(&line(17, Some("/dev/no-such-chip"), Bias::PullUp), backend);

            let NoReading::Absent(what) = reason else { panic!("{reason:?}") };
            assert!(what.contains("/dev/no-such-chip"), "{what}");
        }
    }

    #[test]
    fn a_file_that_is_no_chip_is_refused() {
        let reason = reason(&line(17, Some("/dev/null"), Bias::Off), Backend::CharacterDevice);

        assert!(matches!(reason, NoReading::Failed(_)), "{reason:?}");
    }

    #[test]
    fn a_pin_that_no_raspberry_pi_has_is_absent() {
        let reason = reason(&line(4_000_000, None, Bias::PullUp), Backend::RaspberryPi);

        assert!(matches!(reason, NoReading::Absent(_)), "{reason:?}");
    }

    #[test]
    fn the_registers_cannot_leave_a_bias_as_it_is() {
        let reason = reason(&line(17, None, Bias::AsIs), Backend::RaspberryPi);

        assert!(matches!(reason, NoReading::Failed(_)), "{reason:?}");
    }

    #[test]
    fn the_kernels_debounce_is_asked_for_first() {
        let (asked, settled) = request_debounced(DEBOUNCE, Ok::<_, ()>).unwrap();

        assert_eq!((asked, settled), (Some(DEBOUNCE), true));
    }

    #[test]
    fn a_refused_or_too_long_debounce_is_left_to_us_and_none_to_nobody() {
        let refuse = |debounce: Option<Duration>| debounce.map_or(Ok(()), |_| Err(()));

        assert_eq!(request_debounced(DEBOUNCE, refuse), Ok(((), false)));
        assert_eq!(request_debounced(Duration::from_secs(4295), Ok::<_, ()>), Ok((None, false)));
        assert_eq!(request_debounced(Duration::ZERO, Ok::<_, ()>), Ok((None, true)));
    }

    #[test]
    fn a_request_that_fails_either_way_tells_its_last_error() {
        assert_eq!(request_debounced(DEBOUNCE, Err::<(), _>), Err(None));
    }
}
