//! Sources, and what reaches them.

mod buses;

use pulsegate_sensors::forbidden::Forbidden;

use super::names::repeated;
use crate::config::findings::{Finding, Findings};
use crate::config::model::{
    Backend, Bias, Bluetooth, Camera, Gpio, HeartRate, Inbox, Level, Lid, Monitor, Number, Sensors,
    Simulated, SimulatedFaults, SimulatedKind, Step, Trigger,
};
use crate::config::place::At;
use crate::config::tables::{
    CameraTable, HeartRateTable, InboxTable, LidTable, NumberTable, SimulatedTable, Tables,
    TriggerTable,
};

/// BCM2835 ARM Peripherals, section 6.1: 54 lines.
const RASPBERRY_PI_LINES: u16 = 54;
/// `sun_path` of `unix(7)`, without its final NUL.
const MAX_SOCKET_BYTES: usize = 107;

pub(super) fn build(tables: &Tables, findings: &mut Findings) -> Sensors {
    pins(tables, findings);
    monitors_differ(&tables.heart_rate, findings);
    sockets(&tables.inbox, findings);
    not_uploaded(&tables.camera, findings);
    buses::check(&tables.number, findings);
    let mut forbidden = Forbidden::default();
    for text in &tables.privacy.forbidden {
        forbidden.add(text);
    }
    Sensors {
        bluetooth: Bluetooth {
            adapter: tables.bluetooth.adapter.as_deref().cloned(),
            silence: tables.bluetooth.silence.0,
        },
        gpio: Gpio { backend: tables.gpio.backend, chip: tables.gpio.chip.clone() },
        heart_rates: tables.heart_rate.iter().map(|table| heart_rate(table, findings)).collect(),
        lids: tables.lid.iter().map(lid).collect(),
        triggers: tables.trigger.iter().map(trigger).collect(),
        numbers: tables.number.iter().map(number).collect(),
        inboxes: tables.inbox.iter().map(|table| inbox(table, &forbidden, findings)).collect(),
        simulated: tables.simulated.iter().map(|table| simulated(table, findings)).collect(),
        cameras: tables.camera.iter().map(|table| camera(table, findings)).collect(),
    }
}

fn pins(tables: &Tables, findings: &mut Findings) {
    let lids = tables.lid.iter().map(|table| &table.pin);
    let triggers = tables.trigger.iter().map(|table| &table.pin);
    let single = tables.output.iter().filter_map(|table| table.pin.as_ref());
    let displays = tables.output.iter().filter_map(|table| table.pins.as_ref());
    let driven = single.chain(displays.flat_map(|pins| pins.iter()));
    let pins: Vec<&At<u16>> = lids.chain(triggers).chain(driven).collect();
    for pin in &pins {
        if tables.gpio.backend == Backend::RaspberryPi && ***pin >= RASPBERRY_PI_LINES {
            let last = RASPBERRY_PI_LINES - 1;
            let message = format!("a Raspberry Pi has lines 0 to {last}, not {}", ***pin);
            findings.push(Finding::fault(pin.span(), message));
        }
    }
    for ((pin, span), first) in repeated(pins.iter().map(|pin| (***pin, pin.span()))) {
        let fault = Finding::fault(span, format!("pin {pin} has two uses"));
        findings.push(fault.also(first, "the other is here"));
    }
}

/// Two ids for one monitor would both get its readings, or neither.
fn monitors_differ(tables: &[At<HeartRateTable>], findings: &mut Findings) {
    let given = tables.iter().flat_map(|table| [&table.address, &table.name]).flatten();
    let given: Vec<_> = given.map(|word| (word.to_ascii_uppercase(), word.span())).collect();
    for ((monitor, span), first) in repeated(given.iter().map(|(word, span)| (word, span.clone())))
    {
        let fault = Finding::fault(span, format!("monitor `{monitor}` has two ids"));
        findings.push(fault.also(first, "the other is here"));
    }
}

fn sockets(inboxes: &[InboxTable], findings: &mut Findings) {
    let paths = inboxes.iter().map(|table| (table.path.as_path(), table.path.span()));
    for ((path, span), first) in repeated(paths) {
        let fault = Finding::fault(span, format!("`{}` has two inboxes", path.display()));
        findings.push(fault.also(first, "the other is here"));
    }
}

fn heart_rate(table: &At<HeartRateTable>, findings: &mut Findings) -> HeartRate {
    let id = table.id.to_string();
    let monitor = match (&table.address, &table.name) {
        (Some(address), None) => Monitor::Address(bluetooth_address(address, findings)),
        (None, Some(name)) => Monitor::Name(name.to_string()),
        (Some(address), Some(name)) => {
            let message = format!("monitor `{id}` has both `address` and `name`");
            let fault = Finding::fault(name.span(), message);
            findings.push(fault.also(address.span(), "one of them is enough"));
            Monitor::Name(name.to_string())
        }
        (None, None) => {
            let message = format!("monitor `{id}` has neither `address` nor `name`");
            let fault = Finding::fault(table.span(), message);
            findings.push(fault.help("such as `address = \"A0:9E:1A:01:02:03\"`"));
            Monitor::Name(String::new())
        }
    };
    HeartRate { id, monitor, rr: table.rr, variability: table.variability }
}

fn bluetooth_address(text: &At<String>, findings: &mut Findings) -> [u8; 6] {
    let octet = |part: &str| {
        let is_hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(part, 16).ok())?
    };
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    octets.and_then(|octets| octets.try_into().ok()).unwrap_or_else(|| {
        let fault = Finding::fault(text.span(), format!("`{}` is not a Bluetooth address", **text));
        findings.push(fault.label("six pairs of hex digits, such as \"A0:9E:1A:01:02:03\""));
        [0; 6]
    })
}

fn lid(table: &LidTable) -> Lid {
    Lid {
        id: table.id.to_string(),
        pin: *table.pin,
        debounce: table.debounce.0,
        closed: table.closed,
        bias: table.bias.unwrap_or(away_from(table.closed)),
    }
}

fn trigger(table: &TriggerTable) -> Trigger {
    Trigger {
        id: table.id.to_string(),
        kind: table.kind,
        pin: *table.pin,
        debounce: table.debounce.0,
        active: table.active,
        bias: table.bias.unwrap_or(away_from(table.active)),
    }
}

/// The resistor for a switch that connects its line to `level` when it closes.
fn away_from(level: Level) -> Bias {
    match level {
        Level::Low => Bias::PullUp,
        Level::High => Bias::PullDown,
    }
}

fn number(table: &NumberTable) -> Number {
    Number {
        id: table.id.to_string(),
        kind: table.kind.to_string(),
        file: table.file.clone(),
        scale: table.scale,
        offset: table.offset,
        unit: table.unit.clone(),
        every: table.every.0,
    }
}

fn inbox(table: &InboxTable, forbidden: &Forbidden, findings: &mut Findings) -> Inbox {
    if table.path.as_os_str().len() > MAX_SOCKET_BYTES {
        let message = format!("the path of a socket has at most {MAX_SOCKET_BYTES} bytes");
        findings.push(Finding::fault(table.path.span(), message));
    }
    let sources = table.sources.as_ref().map(|ids| ids.iter().map(|id| id.to_string()).collect());
    Inbox { path: table.path.to_path_buf(), sources, forbidden: forbidden.clone() }
}

fn simulated(table: &SimulatedTable, findings: &mut Findings) -> Simulated {
    if let Some(replay) = table.replay.as_ref().filter(|_| table.kind != SimulatedKind::HeartRate) {
        let message = "`replay` plays RR intervals, which only a heart rate has";
        findings.push(Finding::fault(replay.span(), message));
    }
    if table.variability && table.kind != SimulatedKind::HeartRate {
        let message = format!("source `{}` has no intervals between beats", *table.id);
        findings.push(Finding::fault(table.id.span(), message).label("drop `variability`"));
    }
    for (earlier, later) in table.steps.iter().zip(table.steps.iter().skip(1)) {
        if later.at <= earlier.at {
            let fault =
                Finding::fault(later.span(), "this step does not come after the one before it");
            findings.push(fault.also(earlier.span(), "the one before"));
        }
    }
    let usual = match table.kind {
        SimulatedKind::HeartRate => 70.0,
        SimulatedKind::Number | SimulatedKind::Lid => 20.0,
    };
    Simulated {
        id: table.id.to_string(),
        kind: table.kind,
        every: table.every.0,
        seed: table.seed,
        mean: table.mean.unwrap_or(usual),
        spread: table.spread,
        steps: table.steps.iter().map(|step| Step { at: step.at.0, mean: step.mean }).collect(),
        replay: table.replay.as_deref().cloned(),
        faults: SimulatedFaults {
            contact_lost: table.faults.contact_lost,
            silences: table.faults.silences.iter().map(|s| (s.at.0, s.lasts.0)).collect(),
            bounces: table.faults.bounces,
            spikes: table.faults.spikes,
            garbage: table.faults.garbage,
        },
        rr: table.rr,
        variability: table.variability,
    }
}

/// The warnings say what of a camera this version does not do.
fn camera(table: &At<CameraTable>, findings: &mut Findings) -> Camera {
    let command = &table.capture.command;
    if command.first().is_none_or(|program| program.is_empty() || program.contains("{path}")) {
        findings.push(Finding::fault(command.span(), "`command` names no program"));
    } else if !command.iter().any(|word| word.contains("{path}")) {
        let fault = Finding::fault(command.span(), "`command` does not say where the picture goes");
        findings.push(fault.label("such as [\"rpicam-still\", \"-o\", \"{path}\"]"));
    }
    if let Some(every) = &table.every {
        let message = "this version takes pictures only when a rule or a visit asks for one";
        findings.push(Finding::warning(every.span(), message).label("`every` is not followed yet"));
    }
    Camera {
        id: table.id.to_string(),
        command: command.to_vec(),
        deadline: table.capture.deadline.0,
        rest: table.capture.rest.0,
    }
}

fn not_uploaded(cameras: &[At<CameraTable>], findings: &mut Findings) {
    if let Some(first) = cameras.first() {
        let message = "pictures stay on this device: this version uploads none";
        findings.push(Finding::warning(first.span(), message));
    }
}
