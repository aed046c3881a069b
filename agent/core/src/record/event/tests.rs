//! Tests of the stored words and members of all events.

use super::*;

/// Each event in the form of the store: the word, and the members.
const EVENTS: &str = include_str!("events.txt");

#[test]
fn every_event_keeps_its_word_and_the_names_order_and_format_of_its_members() {
    let lines: Vec<String> = all()
        .iter()
        .map(|event| {
            let EventText { word, members } = event.to_text();
            assert_eq!(word, word_of(event), "{event:?}");
            format!("{word} {members}").trim_end().to_owned()
        })
        .collect();

    assert_eq!(lines.join("\n"), EVENTS.trim_end(), "events.txt names what receivers rely on");
}

#[test]
fn every_stored_event_is_read_back() {
    for event in all() {
        let EventText { word, members } = event.to_text();
        assert_eq!(Event::from_text(&word, &members), Some(event));
    }
}

#[test]
fn events_of_another_version_are_read_as_far_as_they_are_known() {
    let known =
        Event::from_text("source_lost", r#""source":"7","reason":"gone","since":{"a":[1]}"#);
    let unknown = Event::from_text("comet", r#""source":"7""#);
    let incomplete = Event::from_text("source_lost", r#""source":"7""#);
    let hostile = Event::from_text(r#"gap","event":"store_lost"#, "");

    let (source, reason) = ("7".into(), "gone".into());
    assert_eq!(known, Some(Event::SourceLost { source, reason }));
    assert_eq!((unknown, incomplete, hostile), (None, None, None));
}

#[test]
fn only_visits_and_live_sources_have_the_members_of_a_visit() {
    let members = Event::Visit(visit(None)).to_text().members;
    let read = |word| VisitMembers::from_text(word, &members);
    assert_eq!((read(VISIT), read(LIVE)), (Some(visit(None)), Some(visit(None))));
    assert_eq!((read("gap"), VisitMembers::from_text(VISIT, r#""x":1"#)), (None, None));
}

#[test]
fn a_whole_number_of_seconds_has_no_point_and_a_text_may_be_anything() {
    let returned = |seconds| Event::SourceReturned { source: "}\"{\u{1}".into(), seconds };
    for (seconds, text) in [(0.0, "0"), (3.0, "3"), (0.001, "0.001"), (86_400.5, "86400.5")] {
        let EventText { word, members } = returned(seconds).to_text();
        assert_eq!(members, format!(r#""source":"}}\"{{\u0001","seconds":{text}"#));
        assert_eq!(Event::from_text(&word, &members), Some(returned(seconds)));
        assert_eq!(seconds.to_string(), text, "as earlier versions wrote it");
    }
}

/// Every event; those with members that may be missing once with them, and once without.
fn all() -> Vec<Event> {
    vec![
        Event::Gap(gap(Some("t"))),
        Event::Gap(GapMembers { start: None, end: None, ..gap(None) }),
        Event::InboxCrowded(InboxCrowdedMembers {
            inbox: 1,
            turned_away: 2,
            displaced: 3,
            unfinished: 4,
            cut: 5,
        }),
        Event::InboxSourcesFilling { inbox: 1, sources: 800, max_sources: 1000 },
        Event::Live(visit(Some(true))),
        Event::Live(visit(Some(false))),
        Event::OutputLost { output: "fan".into(), reason: "no such chip".into() },
        Event::OutputReturned { output: "fan".into(), seconds: 2.5 },
        Event::Picture(picture()),
        Event::Picture(PictureMembers {
            evicted: None,
            reason: PictureReason::Alert,
            rule: Some("hot".into()),
            visit: None,
            ..picture()
        }),
        Event::PictureFailed { camera: "nest".into(), failures: 3, reason: "no picture".into() },
        Event::RuleFlapping { rule: "hot".into(), source: "air".into() },
        Event::RuleSettled { rule: "hot".into(), source: "air".into(), suppressed: 9 },
        Event::SourceLost { source: "7".into(), reason: "out of range".into() },
        Event::SourceReturned { source: "7".into(), seconds: 12.25 },
        Event::StoreDamaged { set_aside: "pulsegate.db.damaged-1".into(), left_rows: None },
        Event::StoreDamaged { set_aside: "pulsegate.db.damaged-1".into(), left_rows: Some(2) },
        Event::StoreInMemory { reason: "read_only".into() },
        Event::StoreLost,
        Event::StoreOnDisk { seconds: 7 },
        Event::ThingChanged(ThingChangedMembers {
            from: "pi-2".into(),
            backlog: "keep".into(),
            alerts: 1,
            events: 2,
            readings: 3,
        }),
        Event::Visit(visit(None)),
        Event::Visit(VisitMembers { unit: None, epoch: None, ..visit(None) }),
    ]
}

/// The word of an event. A new event does not compile until it is here, and then belongs into [`all`].
fn word_of(event: &Event) -> &'static str {
    match event {
        Event::Gap(_) => GAP,
        Event::InboxCrowded(_) => "inbox_crowded",
        Event::InboxSourcesFilling { .. } => "inbox_sources_filling",
        Event::Live(_) => LIVE,
        Event::OutputLost { .. } => "output_lost",
        Event::OutputReturned { .. } => "output_returned",
        Event::Picture(_) => "picture",
        Event::PictureFailed { .. } => "picture_failed",
        Event::RuleFlapping { .. } => "rule_flapping",
        Event::RuleSettled { .. } => "rule_settled",
        Event::SourceLost { .. } => "source_lost",
        Event::SourceReturned { .. } => "source_returned",
        Event::StoreDamaged { .. } => "store_damaged",
        Event::StoreInMemory { .. } => "store_in_memory",
        Event::StoreLost => "store_lost",
        Event::StoreOnDisk { .. } => "store_on_disk",
        Event::ThingChanged(_) => "thing_changed",
        Event::Visit(_) => VISIT,
    }
}

fn gap(topic: Option<&str>) -> GapMembers {
    GapMembers {
        lane: "readings".into(),
        first: "1-5".into(),
        last: "1-9".into(),
        count: 5,
        reason: "quarantine".into(),
        topic: topic.map(str::to_owned),
        start: Some("2026-11-20T12:00:00.000Z".into()),
        end: Some("2026-11-20T12:00:01.000Z".into()),
    }
}

fn picture() -> PictureMembers {
    PictureMembers {
        bytes: 4096,
        camera: "nest".into(),
        evicted: Some(2),
        key: "nest/1.jpg".into(),
        reason: PictureReason::Begin,
        rule: None,
        sha256: "00ff".into(),
        source: Some("feeder".into()),
        visit: Some("feeder-1-a".into()),
    }
}

fn visit(live: Option<bool>) -> VisitMembers {
    VisitMembers {
        source: "feeder".into(),
        start_ms: 1_795_176_001_000,
        end_ms: 1_795_176_003_500,
        openings: 2,
        units: 4.0,
        unit: Some("nuts".into()),
        epoch: Some(1),
        live,
    }
}
