//! One test for each class of fault, except the faults of rules.

use super::{LEAST, expect_fault, expect_fault_in, fix_of, with};
use crate::config::Port;

#[test]
fn a_misspelt_key_is_named_with_the_nearest() {
    let text = "[[lid]]\nid = \"a\"\npin = 1\ndebouce = \"1ms\"";

    expect_fault(text, "unknown key `debouce` in `lid`", "debouce");
    assert_eq!(fix_of(text), "did you mean `debounce`?");
}

#[test]
fn the_value_of_a_misspelt_key_is_checked_too() {
    let text = LEAST.replace("thing = \"pi-1\"", "thin = \"pi 1\"");

    let faults = super::Config::from_str_at(&text, super::path()).unwrap_err();

    assert_eq!(faults.report().faults(), 2, "{faults}");
}

#[test]
fn a_key_that_resembles_none_lists_the_valid_ones() {
    expect_fault("[clock]\nquux = 1", "unknown key `quux` in `clock`", "quux");
    assert_eq!(fix_of("[clock]\nquux = 1"), "valid keys: `trust`");
}

#[test]
fn a_key_of_the_top_level_below_a_table_is_told_where_it_belongs() {
    expect_fault("[log]\nstate_dir = \"/a\"", "unknown key `state_dir` in `log`", "state_dir");
    let fix = fix_of("[log]\nstate_dir = \"/a\"");
    assert_eq!(fix, "`state_dir` belongs at the top level, before the first `[table]`");
}

#[test]
fn a_missing_key_is_shown_at_its_table() {
    expect_fault("[[lid]]\nid = \"a\"", "`pin` is missing in `lid`", "[[lid]]");
    expect_fault_in(
        &LEAST.replace("thing = \"pi-1\"", ""),
        "`thing` is missing at the top level",
        "",
    );
}

#[test]
fn a_value_of_the_wrong_sort_says_which_is_right() {
    let cases = [
        ("state_dir = 1", "`state_dir` must be a string in quotes, not an integer", "1"),
        ("link = 1", "`link` must be a table, not an integer", "1"),
        ("rule = {}", "`rule` must be an array, not a table", "{}"),
        ("link.ports = 443", "`ports` must be an array, not an integer", "443"),
        ("link.window = \"16\"", "`window` must be a whole number, not a string", "\"16\""),
        ("link.window = 1.5", "`window` must be a whole number, not a float", "1.5"),
        ("buffer.ttl = true", "`ttl` must be a duration in quotes, not a boolean", "true"),
        ("log.level = 1979-05-27", "`level` must be a string in quotes, not a datetime", "1979"),
    ];

    for (line, message, caret) in cases {
        expect_fault(line, message, caret);
    }
}

#[test]
fn a_word_that_is_no_choice_is_told_the_nearest() {
    expect_fault("log.level = \"wran\"", "`level` cannot be `wran`", "\"wran\"");
    assert_eq!(fix_of("log.level = \"wran\""), "did you mean `warn`?");
    assert_eq!(fix_of("clock.trust = \"ntp\""), "valid values: `auto`, `system`");
}

#[test]
fn durations_and_sizes_carry_their_unit() {
    let cases = [
        ("buffer.ttl = 90", "`ttl` is a number without a unit", "90"),
        ("buffer.ttl = \"90\"", "`ttl` is a number without a unit", "\"90\""),
        ("buffer.ttl = \"1.5h\"", "`ttl` is not a duration: `1.5h`", "\"1.5h\""),
        ("buffer.ttl = \"90 s\"", "`ttl` is not a duration: `90 s`", "\"90 s\""),
        ("buffer.max_bytes = 5000", "`max_bytes` is a number without a unit", "5000"),
        ("buffer.max_bytes = \"2gb\"", "`max_bytes` is not a size: `2gb`", "\"2gb\""),
        (
            "buffer.ttl = \"99999999999999999999d\"",
            "`ttl` is not a duration: `99999999999999999999d`",
            "",
        ),
    ];

    for (line, message, caret) in cases {
        expect_fault(line, message, caret);
    }
}

#[test]
fn a_value_out_of_range_is_told_the_range() {
    let cases = [
        ("buffer.commit_interval = \"9ms\"", "`commit_interval` must be 10ms to 60s, not 9ms"),
        ("buffer.commit_interval = \"2m\"", "`commit_interval` must be 10ms to 60s, not 2m"),
        ("link.window = 0", "`window` must be 1 to 10000, not 0"),
        ("link.window = 101", "`window` must be 1 to 100, not 101"),
        ("link.messages_per_second = 101", "`messages_per_second` must be 1 to 100, not 101"),
        ("link.bytes_per_second = \"1MiB\"", "`bytes_per_second` must be at most 512KiB, not 1MiB"),
        ("link.keep_alive = \"29s\"", "`keep_alive` must be 30s to 20m, not 29s"),
        ("link.window = 99999999999999999999", "`window` is too large a number"),
        ("link.ports = [0]", "`ports` must be 1 to 65535, not 0"),
        ("link.ports = []", "`ports` names no port"),
        (
            "simulated = [{ id = \"a\", kind = \"lid\", faults = { spikes = 1.5 } }]",
            "`spikes` must be 0 to 1, not 1.5",
        ),
        ("number = [{ id = \"a\", file = \"f\", scale = inf }]", "`scale` must be a finite number"),
    ];

    for (line, message) in cases {
        expect_fault(line, message, "");
    }
}

#[test]
fn another_broker_may_take_more_than_aws() {
    let lines = "[link]\nlimits = \"none\"\nwindow = 1000\nmessages_per_second = 5000\n\
                 bytes_per_second = \"10MiB\"\nkeep_alive = \"5s\"\n\
                 [publish.readings]\ntopic = \"a/b/c/d/e/f/g/h/i\"\nbatch = { bytes = \"1MiB\" }";

    let (config, warnings) = with(lines);

    assert_eq!(config.link.window, 1000);
    assert_eq!(warnings, []);
}

#[test]
fn the_name_of_a_thing_is_one_that_aws_takes() {
    let long = "a".repeat(129);
    for name in ["", "pi 1", "$pi", "a/b", "a.b", "caf\u{e9}", long.as_str()] {
        let text = LEAST.replace("\"pi-1\"", &format!("\"{name}\""));
        expect_fault_in(&text, &format!("`{name}` cannot be the name of a thing"), "\"");
    }
}

#[test]
fn an_endpoint_is_a_host_and_perhaps_a_port() {
    let cases = [
        ("mqtts://abc", "`endpoint` is a host, without `mqtts://`"),
        ("abc:0", "`0` is not a port"),
        ("abc:mqtt", "`mqtt` is not a port"),
        ("abc/def", "`abc/def` is not a host name or address"),
        ("", "`` is not a host name or address"),
        (
            "broker.example.com",
            "`endpoint` still holds a placeholder: `example.com` is for examples",
        ),
    ];

    for (endpoint, message) in cases {
        let text = LEAST.replace("abc-ats.iot.eu-west-1.amazonaws.com", endpoint);
        expect_fault_in(&text, message, "\"");
    }
}

#[test]
fn an_endpoint_with_a_port_has_only_that_port() {
    let text = LEAST.replace("abc-ats.iot.eu-west-1.amazonaws.com", "[::1]:9883");

    let (config, _) = super::Config::from_str_at(&text, super::path()).unwrap();

    assert_eq!(config.host, "::1");
    let ports: Vec<Port> = config.link.list_ports().collect();
    assert_eq!(ports, [Port { number: 9883, alpn: false }]);
}

#[test]
fn an_endpoint_that_the_built_in_roots_do_not_cover_is_a_warning() {
    let text = LEAST.replace("abc-ats", "abc");

    let (_, warnings) = super::Config::from_str_at(&text, super::path()).unwrap();

    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].line, warnings[0].column), (3, 12));
}

#[test]
fn a_placeholder_is_refused_wherever_it_stands() {
    let cases = [
        ("state_dir = \"<directory>\"", "`state_dir` still holds a placeholder: `<directory>`"),
        ("gpio.chip = \"/dev/TODO\"", "`chip` still holds a placeholder: `TODO`"),
        (
            "heart_rate = [{ id = \"1\", name = \"your-belt\" }]",
            "`name` still holds a placeholder: `your-belt`",
        ),
        ("lid = [{ id = \"xxx\", pin = 1 }]", "`id` still holds a placeholder: `xxx`"),
        (
            "publish.readings.topic = \"REPLACE_ME/a\"",
            "`topic` still holds a placeholder: `REPLACE_ME`",
        ),
    ];

    for (line, message) in cases {
        expect_fault(line, message, "\"");
    }
}

#[test]
fn an_empty_string_is_no_path() {
    expect_fault("state_dir = \"\"", "`state_dir` is empty", "\"\"");
}

#[test]
fn an_id_is_unique_over_all_sources() {
    let lines = "lid = [{ id = \"7\", pin = 1 }, { id = \"7\", pin = 2 }]";
    expect_fault(lines, "id `7` is given twice", "\"7\", pin = 2");
    let lines =
        "inbox = [{ path = \"a\", sources = [\"7\"] }, { path = \"b\", sources = [\"7\"] }]";
    expect_fault(lines, "id `7` is given twice", "\"7\"] }]");
}

#[test]
fn an_inbox_cannot_speak_for_a_sensor_of_this_device() {
    let sensors = [
        "[[heart_rate]]\nid = \"7\"\nname = \"P\"",
        "[[lid]]\nid = \"7\"\npin = 1",
        "[[trigger]]\nid = \"7\"\nkind = \"button\"\npin = 1",
        "[[number]]\nid = \"7\"\nfile = \"f\"",
        "[[simulated]]\nid = \"7\"\nkind = \"number\"",
    ];
    let message = "an inbox cannot speak for `7`, which is a sensor of this device";
    for sensor in sensors {
        let inbox = "[[inbox]]\npath = \"a\"\nsources = [\"7\", \"8\"]";

        expect_fault(&format!("{inbox}\n{sensor}"), message, "\"7\", \"8\"]");
        expect_fault(&format!("{sensor}\n{inbox}"), message, "\"7\", \"8\"]");
    }
}

#[test]
fn an_id_is_opaque_and_short() {
    expect_fault(
        "lid = [{ id = \"front door\", pin = 1 }]",
        "`front door` cannot be an id",
        "\"front",
    );
    expect_fault("inbox = [{ path = \"a\", sources = [\"\"] }]", "`` cannot be an id", "\"\"");
}

#[test]
fn a_monitor_has_either_address_or_name() {
    let both = "[[heart_rate]]\nid = \"7\"\naddress = \"A0:9E:1A:01:02:03\"\nname = \"Polar\"";

    expect_fault(
        "[[heart_rate]]\nid = \"7\"",
        "monitor `7` has neither `address` nor `name`",
        "[[",
    );
    expect_fault(both, "monitor `7` has both `address` and `name`", "\"Polar\"");
}

#[test]
fn a_bluetooth_address_has_six_octets() {
    for address in [
        "",
        "A0:9E:1A:01:02",
        "A0:9E:1A:01:02:03:04",
        "A0-9E-1A-01-02-03",
        "A0:9E:1A:01:02:0G",
        "A0:9E:1A:01:02:+3",
    ] {
        let line = format!("heart_rate = [{{ id = \"7\", address = \"{address}\" }}]");
        expect_fault(&line, &format!("`{address}` is not a Bluetooth address"), "\"");
    }
}

#[test]
fn two_sources_do_not_share_what_they_read() {
    let pins = "[[lid]]\nid = \"a\"\npin = 4\n[[trigger]]\nid = \"b\"\nkind = \"button\"\npin = 4";
    let monitors = "heart_rate = [{ id = \"1\", name = \"P\" }, { id = \"2\", name = \"P\" }]";
    let sockets = "inbox = [{ path = \"a\" }, { path = \"a\" }]";

    expect_fault(pins, "pin 4 has two uses", "4");
    expect_fault(monitors, "monitor `P` has two ids", "\"P\" }]");
    expect_fault(sockets, "`a` has two inboxes", "\"a\" }]");
}

#[test]
fn a_raspberry_pi_has_fifty_four_lines() {
    let line = "gpio.backend = \"raspberry-pi\"\nlid = [{ id = \"a\", pin = 54 }]";

    expect_fault(line, "a Raspberry Pi has lines 0 to 53, not 54", "54");
}

#[test]
fn a_kind_is_a_word_of_its_own() {
    let number = |kind| format!("number = [{{ id = \"a\", file = \"f\", kind = \"{kind}\" }}]");

    expect_fault(&number("Air"), "`Air` cannot be a kind of reading", "\"Air\"");
    expect_fault(&number("lid"), "`lid` is the kind of another table's readings", "\"lid\"");
}

#[test]
fn only_a_heart_rate_replays_intervals() {
    let line = "simulated = [{ id = \"a\", kind = \"lid\", replay = \"f\" }]";

    expect_fault(line, "`replay` plays RR intervals, which only a heart rate has", "\"f\"");
}

#[test]
fn the_steps_of_a_mean_are_in_order() {
    let step = "steps = [{ at = \"8s\", mean = 1 }, { at = \"8s\", mean = 2 }]";
    let line = format!("simulated = [{{ id = \"a\", kind = \"lid\", {step} }}]");

    expect_fault(
        &line,
        "this step does not come after the one before it",
        "{ at = \"8s\", mean = 2",
    );
}

#[test]
fn a_camera_needs_a_program() {
    let line = "camera = [{ id = \"a\", capture = { command = [] } }]";

    expect_fault(line, "`command` names no program", "[]");
    let line = "camera = [{ id = \"a\", capture = { command = [\"{path}\"] } }]";
    expect_fault(line, "`command` names no program", "[\"{path}\"]");
    let line = "camera = [{ id = \"a\", capture = { command = [\"raspistill\"] } }]";
    let message = "`command` does not say where the picture goes";
    expect_fault(line, message, "[\"raspistill\"]");
}

#[test]
fn many_warnings_hide_no_fault() {
    let rule = |name: &str, action: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\non = \"heart_rate\"\nabove = 100\nthen = [\"alert\", \"{action}\"]\n"
        )
    };
    let belt = "[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\n";
    let warned: String = (0..1_001).map(|n| rule(&format!("r{n}"), "record:30s")).collect();
    let text = format!("{LEAST}\n{belt}{warned}{}", rule("wrong", "sing"));

    let faults = super::Config::from_str_at(&text, super::path()).err();

    assert_eq!(faults.map(|faults| faults.report().faults()), Some(1));
}

#[test]
fn an_acknowledgement_timeout_that_keep_alive_cuts_short_is_a_warning() {
    let warnings = |link: &str| {
        let (_, warnings) = with(&format!("[link]\n{link}"));
        warnings.iter().map(|warning| warning.message.to_string()).collect::<Vec<_>>()
    };

    let message = "a publish waits for its acknowledgement no longer than `keep_alive` (30s)";
    assert_eq!(warnings("ack_timeout = \"2m\""), [message]);
    assert_eq!(warnings("ack_timeout = \"2m\"\nkeep_alive = \"2m\""), [""; 0]);
}

#[test]
fn a_one_wire_bus_that_cannot_be_read_that_often_is_a_warning() {
    let numbers = |count: u32, every: &str| {
        let number = |n| {
            format!(
                "[[number]]\nid = \"n{n}\"\nfile = \"/sys/bus/w1/devices/28-{n:012}/temperature\"\n\
                 every = \"{every}\"\n"
            )
        };
        let text: String = (0..count).map(number).collect();
        let (_, warnings) = with(&text);
        warnings.iter().map(|warning| warning.message.to_string()).collect::<Vec<_>>()
    };

    assert_eq!(numbers(13, "10s"), [""; 0], "9.75 s of reads in 10 s");
    assert_eq!(
        numbers(20, "10s"),
        ["the 1-wire bus of `n19` cannot be read that often: each of its 20 numbers takes 0.75 s"]
    );
    assert_eq!(numbers(20, "15s"), [""; 0]);
    assert_eq!(numbers(1, "500ms").len(), 1, "one alone may be asked for too often");
}

#[test]
fn what_this_version_does_not_do_with_pictures_is_a_warning() {
    let (_, warnings) = with(
        "camera = [{ id = \"b\", capture = { command = [\"a\", \"{path}\"] }, every = \"1h\" }]",
    );

    let mut messages: Vec<_> = warnings.iter().map(|warning| &*warning.message).collect();
    messages.sort_unstable();
    assert_eq!(
        messages,
        [
            "pictures stay on this device: this version uploads none",
            "this version takes pictures only when a rule or a visit asks for one",
        ]
    );
}

#[test]
fn a_topic_fits_the_broker() {
    let long = "a".repeat(257);
    let cases = [
        ("", "a topic cannot be empty"),
        ("a/+/b", "`+` is for subscriptions"),
        ("a/#", "`#` is for subscriptions"),
        ("a\\u0000b", "a topic has no control characters"),
        ("a/b/c/d/e/f/g/h/i", "this topic has 8 slashes"),
        (&long, "this topic has 257 bytes"),
        ("$aws/things/{thing}/shadow", "topics that start with `$` belong to AWS"),
        ("$aws/rules/only", "this topic names no rule, or nothing after it"),
        ("$aws/rules/r/a/b/c/d/e/f/g/h/i", "this topic has 8 slashes"),
        ("a/{device}", "unknown placeholder `{device}`"),
        ("a/{thing", "`{` without `}`"),
        ("a/thing}", "`}` without `{`"),
    ];

    for (topic, message) in cases {
        expect_fault(&format!("publish.readings.topic = \"{topic}\""), message, "\"");
    }
}

#[test]
fn the_prefix_of_basic_ingest_is_not_counted() {
    let topic = format!("$aws/rules/{}/a/b/c/d/e/f/g/{{thing}}", "r".repeat(250));

    let (config, _) = with(&format!("publish.readings.topic = \"{topic}\""));

    assert_eq!(
        config.publish.readings.format.topic.fill_in("", ""),
        topic.replace("{thing}", "pi-1")
    );
}

#[test]
fn a_topic_is_counted_at_the_longest_names() {
    let topic = format!("publish.lid.topic = \"{}{{source}}\"", "t".repeat(250));
    let lid = |id: &str| format!("lid = [{{ id = \"{id}\", pin = 1 }}]\n{topic}");

    with(&lid("sixsix"));
    expect_fault(&lid("seven77"), "this topic has 257 bytes", "\"");
}

#[test]
fn a_topic_counts_what_other_programs_may_name_themselves() {
    let lines = format!(
        "inbox = [{{ path = \"a\" }}]\npublish.readings.topic = \"{}{{source}}\"",
        "t".repeat(193)
    );

    expect_fault(&lines, "this topic has 257 bytes", "\"");
}

#[test]
fn a_placeholder_needs_something_to_stand_for() {
    expect_fault("publish.events.topic = \"{source}\"", "`{source}` is not known here", "\"");
    expect_fault("publish.alerts.topic = \"{kind}\"", "`{kind}` is not known here", "\"");
    with("publish.alerts.topic = \"{thing}/{source}\"");
}

#[test]
fn a_section_of_readings_is_of_a_kind_that_exists() {
    expect_fault("[publish.alert]", "no source gives readings of kind `alert`", "alert");
    assert_eq!(fix_of("[publish.alert]"), "did you mean `alerts`?");
    with("inbox = [{ path = \"a\" }]\n[publish.anything]");
}

#[test]
fn the_fields_of_a_record_are_flat_and_known() {
    let fields = |fields: &str| format!("publish.readings.fields = {{ seq = \"seq\", {fields} }}");

    expect_fault(&fields("Rate = \"bpm\""), "`Rate` cannot be a key of a record", "Rate");
    expect_fault(&fields("\"a.b\" = \"bpm\""), "`a.b` cannot be a key of a record", "\"a.b\"");
    expect_fault(&fields("rate = \"bmp\""), "`rate` cannot be `bmp`", "\"bmp\"");
    expect_fault(&fields("a.b = \"bpm\""), "`a` must be a string in quotes, not a table", "");
    expect_fault("publish.readings.fields = {}", "a record needs at least one field", "{}");
    expect_fault(
        "publish.alerts.fields = { a = \"seq\" }",
        "only readings have fields that can be chosen",
        "{",
    );
}

#[test]
fn a_record_without_its_sequence_is_a_warning() {
    let (config, warnings) = with("publish.readings.fields = { rate = \"bpm\", id = \"source\" }");

    assert_eq!(warnings[0].message, "without `seq` the cloud cannot remove duplicates");
    let fields = config.publish.readings.format.fields.unwrap();
    let keys: Vec<&str> = fields.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["rate", "id"], "in the order of the file");
}

#[test]
fn a_batch_is_a_multiple_of_what_aws_bills() {
    let batch = |bytes: &str| format!("publish.readings.batch.bytes = \"{bytes}\"");

    expect_fault(&batch("7KiB"), "`bytes` must be a multiple of 5KiB, not 7KiB", "\"7KiB\"");
    expect_fault(&batch("130KiB"), "`bytes` must be at most 125KiB, not 130KiB", "\"130KiB\"");
    expect_fault(&batch("2MiB"), "`bytes` must be 1KiB to 1MiB, not 2MiB", "\"2MiB\"");
}
