//! Readings in columns, decoded by `agent/decode_columns.py`: the result is the standard records of
//! the same readings, whatever the readings hold. Needs `python3`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use pulsegate_core::cloud::batch::{Batch, Gatherer, Offer};
use pulsegate_core::cloud::record_text::{
    ClockText, Framing, ReadingFormat, ReadingLayout, RecordStamp,
};
use pulsegate_core::cloud::topic::{Open, Template};
use pulsegate_core::record::id::{Boot, RecordId};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::{HeartDetail, Reading, Seq, Value};
use pulsegate_core::time::timeline::ClockTrust;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{Contact, Source, SourceId};

/// Compares each message (a line) with the standard records (the next line), as text: `72` and
/// `72.0` differ. The topic's thing replaces a fixed field of the same name.
const COMPARE: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
import decode_columns
stored = []
decode_columns.store = stored.extend
for line in sys.stdin:
    message, expected = json.loads(line), json.loads(next(sys.stdin))
    decoded = decode_columns.decode(message)
    same = json.dumps(decoded, sort_keys=True) == json.dumps(expected, sort_keys=True)
    if isinstance(message, dict):
        stored.clear()
        decode_columns.handler({**message, 'thing': 'pi'}, None)
        same = same and stored == [{**record, 'thing': 'pi'} for record in expected]
    print('same' if same else f'{decoded} is not {expected}', flush=True)
";
/// Prints the error of each message (a line).
const REPORT_ERRORS: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from decode_columns import decode
for line in sys.stdin:
    try:
        print(decode(json.loads(line)))
    except ValueError as error:
        print(error)
";
const CASES: u32 = 300;
/// Sources with their kinds and units; those with an even number have intervals between beats.
const SOURCES: [(&str, &str, Option<&str>); 5] = [
    ("7", "heart_rate", None),
    ("8", "heart_rate", None),
    ("air", "temperature", Some("celsius")),
    ("feeder", "lid", None),
    ("mixed", "other", Some("\"%\"")),
];
/// The source whose readings are arrays of standard records, on the topic of the others.
const IN_ARRAYS: usize = 2;

#[derive(Debug, Clone)]
struct Input {
    source: usize,
    is_restart: bool,
    gap: u64,
    step_ms: i64,
    value: Value,
    detail: Option<Box<HeartDetail>>,
    trust: ClockTrust,
}

fn any_value() -> impl Strategy<Value = Value> {
    let decimal = (-3_000..3_000_i32, 0..4_i32);
    prop_oneof![
        6 => decimal.prop_map(|(n, decimals)| Value::Number(f64::from(n) / 10_f64.powi(decimals))),
        1 => any::<f64>().prop_map(Value::Number),
        1 => (-1.0..1.0_f64).prop_map(Value::Number),
        1 => any::<i32>().prop_map(|n| Value::Number(f64::from(n) * 8_388_608.0)),
        2 => "\\PC{0,16}".prop_map(|text| Value::State(text.into())),
        1 => proptest::sample::select(vec!["open", "[", "\"", "\\", "\n", "\u{0}"])
            .prop_map(|text| Value::State(text.into())),
    ]
}

fn any_detail() -> impl Strategy<Value = Option<Box<HeartDetail>>> {
    let contact = prop_oneof![
        1 => Just(Contact::Unsupported),
        4 => Just(Contact::Detected),
        1 => Just(Contact::Lost)
    ];
    let energy_kj = proptest::option::weighted(0.2, any::<u16>());
    let detail = (contact, energy_kj, vec(any::<u16>(), 0..4))
        .prop_map(|(contact, energy_kj, rr)| Box::new(HeartDetail { contact, energy_kj, rr }));
    proptest::option::of(detail)
}

fn any_input() -> impl Strategy<Value = Input> {
    let gap = prop_oneof![8 => Just(1_u64), 1 => 1..5_u64, 1 => 1..u64::from(u32::MAX)];
    let step_ms = prop_oneof![
        8 => 0..1_500_i64,
        1 => -1_500..0_i64,
        1 => -100_000_000_000..100_000_000_000_i64
    ];
    let clock = prop_oneof![8 => Just(ClockTrust::Trusted), 1 => Just(ClockTrust::Unset)];
    let restart = proptest::bool::weighted(0.02);
    (0..SOURCES.len(), restart, gap, step_ms, any_value(), any_detail(), clock).prop_map(
        |(source, is_restart, gap, step_ms, value, detail, trust)| Input {
            source,
            is_restart,
            gap,
            step_ms,
            value,
            detail,
            trust,
        },
    )
}

fn layouts(topic: &str) -> Vec<ReadingLayout> {
    let topic = Template::for_thing(topic, "pi", Open { source: true, kind: true })
        .expect("a valid template");
    let format = |framing, add: &str| ReadingFormat {
        topic: topic.clone(),
        fields: None,
        framing,
        add: add.into(),
    };
    let sources = SOURCES.into_iter().enumerate().map(|(n, (name, kind, unit))| {
        let add = if n < 2 { "" } else { r#""thing":"pond","floor":3"# };
        let framing = if n == IN_ARRAYS { Framing::Array } else { Framing::Columns };
        ReadingLayout::new(
            &format(framing, add),
            &Source::new(name, kind).expect("valid names"),
            unit,
            n % 2 == 0,
        )
    });
    sources.collect()
}

/// Readings with their stamps.
fn stamped(inputs: &[Input]) -> Vec<(Reading, RecordStamp)> {
    let (mut boot, mut seq, mut time) = (Boot::new(1, 7), 0, 1_795_168_800_123);
    let stamp = |input: &Input| {
        if input.is_restart {
            let counter = boot.counter() + 1;
            // An earlier version has no random characters.
            let is_earlier = counter % 3 == 0;
            boot = if is_earlier { Boot::without_suffix(counter) } else { Boot::new(counter, seq) };
        }
        seq += input.gap;
        time += input.step_ms;
        let id = RecordId { boot, seq: Seq(seq) };
        let source = SourceId(u32::try_from(input.source).expect("few sources"));
        let (value, detail) = (input.value.clone(), input.detail.clone());
        let reading = Reading { source, mono: Mono(0), time: None, value, detail };
        (reading, RecordStamp { id, time: Wall(time), trust: input.trust })
    };
    inputs.iter().map(stamp).collect()
}

/// Gathers readings into messages of at most `limit_bytes`, until all are taken.
fn gather(
    readings: &[(Reading, RecordStamp)],
    layouts: &[ReadingLayout],
    limit_bytes: usize,
) -> Vec<Batch> {
    let (mut rest, mut batches) = (readings, Vec::new());
    while !rest.is_empty() {
        let mut gatherer = Gatherer::new(Lane::Readings, limit_bytes, 3);
        let taken = rest.iter().take_while(|(reading, stamp)| {
            let layout = &layouts[reading.source.0 as usize];
            let clock = &mut ClockText::default();
            gatherer.offer_reading(layout, reading, stamp, clock) == Offer::Taken
        });
        rest = &rest[taken.count()..];
        batches.extend(gatherer.finish_walk().expect("the first is always taken").batches);
    }
    batches
}

/// The decoder, running beside the test.
struct Decoder {
    process: Child,
    messages: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Decoder {
    fn start(script: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut command = Command::new("python3");
        command.args(["-B", "-c", script, folder]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python3 is installed");
        let messages = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, messages, answers }
    }

    fn answer(&mut self, lines: &[&[u8]]) -> String {
        for line in lines {
            self.messages.write_all(line).expect("the decoder reads");
            self.messages.write_all(b"\n").expect("the decoder reads");
        }
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the decoder answers");
        answer.trim_end().to_owned()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.process.kill().expect("the decoder ends");
        self.process.wait().expect("the decoder ends");
    }
}

/// The standard records of the readings of a batch, as a JSON array.
fn standard(
    batch: &Batch,
    readings: &[(Reading, RecordStamp)],
    layouts: &[ReadingLayout],
) -> Vec<u8> {
    let mut out = vec![b'['];
    let framing = if batch.payload[0] == b'[' { Framing::Array } else { Framing::Columns };
    for (reading, stamp) in readings {
        let layout = &layouts[reading.source.0 as usize];
        let is_inside = (batch.first..=batch.last).contains(&stamp.id.seq);
        if is_inside && layout.topic == batch.topic && layout.framing == framing {
            if out.len() > 1 {
                out.push(b',');
            }
            layout.write_record(reading, stamp, &mut ClockText::default(), &mut out);
        }
    }
    out.push(b']');
    out
}

#[test]
fn any_readings_in_columns_decode_to_their_standard_records() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let topic = proptest::sample::select(vec!["t/{thing}/readings", "t/{kind}/{source}"]);
    let inputs = (vec(any_input(), 1..200), topic, 1..16_000_usize);
    let decoder = std::cell::RefCell::new(Decoder::start(COMPARE));
    let mut runner = TestRunner::new(config);
    let result = runner.run(&inputs, |(inputs, topic, limit_bytes)| {
        let (readings, layouts) = (stamped(&inputs), layouts(topic));
        let batches = gather(&readings, &layouts, limit_bytes);
        prop_assert_eq!(batches.iter().map(|batch| batch.count).sum::<u64>(), inputs.len() as u64);
        for batch in &batches {
            let bytes = batch.payload.len() + batch.topic.len();
            prop_assert!(bytes <= limit_bytes || batch.count == 1, "{bytes} bytes");
            let expected = standard(batch, &readings, &layouts);
            let answer = decoder.borrow_mut().answer(&[&batch.payload, &expected]);
            prop_assert_eq!(answer, "same");
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_message_of_another_version_or_with_a_short_column_is_an_error() {
    let mut decoder = Decoder::start(REPORT_ERRORS);
    let whole = r#"{"columns":1,"time":0,"series":[{"source":"7","kind":"heart_rate","energy_kj":null,"rr_ms":null}],"seq":[["12",1,1]],"index":[0,0],"ms":[0,0],"value":[72,1],"energy_kj":[7,8],"rr":[[1],[2]]}"#;
    let decoded = decoder.answer(&[whole.as_bytes()]);
    assert!(decoded.contains("'bpm': 73"), "{decoded}");

    let version = decoder.answer(&[whole.replace("\"columns\":1", "\"columns\":2").as_bytes()]);
    assert!(version.contains("only version 1"), "{version}");
    for (column, shorter) in [
        (r#"[["12",1,1]]"#, r#"[["12",1]]"#),
        (r#""index":[0,0]"#, r#""index":[0]"#),
        (r#""ms":[0,0]"#, r#""ms":[0]"#),
        ("[72,1]", "[72]"),
        ("[7,8]", "[7]"),
        ("[[1],[2]]", "[[1]]"),
    ] {
        let error = decoder.answer(&[whole.replace(column, shorter).as_bytes()]);
        assert!(error.contains("differ in length"), "{column}: {error}");
    }
}
