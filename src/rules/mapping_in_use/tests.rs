//! Tests of the record of mappings, and of the rule that says who polls.

use super::*;

const NOT_YET: OwnPolls = OwnPolls::NoneYet;
const ALONE: NewerInstances = NewerInstances::NoneKnown;
const PRESENT: NewerInstances = NewerInstances::Present;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// The record after complete polls with these mappings, one after the other.
fn record(mappings: &[&str]) -> MappingInUse {
    let polls = mappings.iter().zip(0..);
    polls
        .fold(None, |before, (mine, second)| Some(MappingInUse::renewed(before.as_ref(), mine, "host", at(second))))
        .unwrap()
}

fn absent(seconds: u64) -> NewerInstances {
    NewerInstances::AbsentFor(Duration::from_secs(seconds))
}

#[test]
fn the_mapping_in_use_polls_whoever_else_is_there() {
    for newer in [ALONE, PRESENT, absent(1)] {
        assert_eq!(decide(None, "a", NOT_YET, newer), MappingTurn::Poll);
        assert_eq!(decide(Some(&record(&["a"])), "a", NOT_YET, newer), MappingTurn::Poll);
        assert_eq!(decide(Some(&record(&["a", "b"])), "b", OwnPolls::Some, newer), MappingTurn::Poll);
    }
}

#[test]
fn a_mapping_that_was_never_in_use_takes_its_place_whoever_else_is_there() {
    for newer in [ALONE, PRESENT, absent(1)] {
        assert_eq!(decide(Some(&record(&["a", "b"])), "c", NOT_YET, newer), MappingTurn::PollAsChanged);
    }
}

#[test]
fn a_replaced_mapping_stands_back_after_a_restart_while_the_newer_one_is_there_or_may_be_restarting() {
    let in_use = record(&["a", "b"]);
    for own in [NOT_YET, OwnPolls::Some] {
        let decided = |newer| decide(Some(&in_use), "a", own, newer);
        assert_eq!(decided(PRESENT), MappingTurn::StandBack(StandBackReason::NewerIsPresent));
        assert_eq!(decided(absent(59)), MappingTurn::StandBack(StandBackReason::NewerWasPresent));
        assert_eq!(decided(absent(60)), MappingTurn::PollAsChanged);
        assert_eq!(decided(ALONE), MappingTurn::PollAsChanged, "the only instance goes back when it likes");
    }
}

#[test]
fn who_has_polled_and_finds_another_mapping_was_replaced_even_if_the_record_is_of_an_older_version() {
    let of_older_version: MappingInUse = serde_json::from_str(r#"{"fingerprint":"b"}"#).unwrap();
    let decided = |own| decide(Some(&of_older_version), "a", own, PRESENT);
    assert_eq!(decided(OwnPolls::Some), MappingTurn::StandBack(StandBackReason::NewerIsPresent));
    assert_eq!(decided(NOT_YET), MappingTurn::PollAsChanged);
    let half: MappingInUse = serde_json::from_str(r#"{"fingerprint":""}"#).unwrap();
    assert_eq!(half.newest(), None);
    assert_eq!(decide(Some(&half), "a", NOT_YET, PRESENT), MappingTurn::PollAsChanged);
}

#[test]
fn a_mapping_that_came_back_has_replaced_the_other_one() {
    let back = record(&["a", "b", "a"]);
    assert_eq!(decide(Some(&back), "a", NOT_YET, PRESENT), MappingTurn::Poll);
    assert_eq!(
        decide(Some(&back), "b", NOT_YET, PRESENT),
        MappingTurn::StandBack(StandBackReason::NewerIsPresent),
        "now the other one is the older"
    );
    assert_eq!(back.replaced, [ReplacedMapping { fingerprint: "b".to_owned(), at: at(2), by: "a".to_owned() }]);
    assert_eq!((back.set_by.as_deref(), back.set_at), (Some("host"), Some(at(2))));
}

#[test]
fn a_first_poll_that_has_not_ended_has_replaced_the_mapping_before_it() {
    let before = record(&["a"]);
    let half = MappingInUse::renewed(Some(&before), "b", "host", at(9)).unfinished();
    assert_eq!((half.fingerprint.as_str(), half.newest()), ("", Some("b")), "the leads belong to no mapping");
    assert_eq!(decide(Some(&half), "b", NOT_YET, PRESENT), MappingTurn::PollAsChanged, "it has to be done again");
    assert_eq!(decide(Some(&half), "b", OwnPolls::Some, PRESENT), MappingTurn::PollAsChanged);
    let old = decide(Some(&half), "a", NOT_YET, PRESENT);
    assert_eq!(old, MappingTurn::StandBack(StandBackReason::NewerIsPresent));
    // Another process with the same mapping completes it.
    let whole = MappingInUse::renewed(Some(&half), "b", "other", at(20));
    assert_eq!((whole.fingerprint.as_str(), whole.newest(), whole.set_at), ("b", Some("b"), Some(at(9))));
    assert_eq!(whole.replaced, half.replaced);
    // Taken back half way, alone.
    assert_eq!(decide(Some(&half), "a", NOT_YET, ALONE), MappingTurn::PollAsChanged);
    let back = MappingInUse::renewed(Some(&half), "a", "host", at(30));
    assert!(back.has_replaced("b") && !back.has_replaced("a"));
}

#[test]
fn the_last_twenty_mappings_are_remembered_each_once() {
    let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = record(&names);
    assert_eq!(long.replaced.len(), 20);
    assert!(long.has_replaced("9") && long.has_replaced("28") && !long.has_replaced("8") && !long.has_replaced("29"));
    let back_and_forth = record(&["a", "b", "c", "a", "b", "c", "a"]);
    let older: Vec<&str> = back_and_forth.replaced.iter().map(|replaced| replaced.fingerprint.as_str()).collect();
    assert_eq!(older, ["b", "c"]);
}

#[test]
fn a_record_stays_as_it_is_while_its_mapping_polls_and_can_be_read_again() {
    let in_use = record(&["a", "b"]);
    assert_eq!(MappingInUse::renewed(Some(&in_use), "b", "other", at(99)), in_use);
    let text = serde_json::to_string(&in_use).unwrap();
    assert_eq!(serde_json::from_str::<MappingInUse>(&text).unwrap(), in_use);
}

#[test]
fn only_who_was_ever_in_company_waits_for_the_newer_instance() {
    let (none, older) = (InstanceCompany { others: 0, newer: 0 }, InstanceCompany { others: 1, newer: 0 });
    let newer = InstanceCompany { others: 1, newer: 1 };
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut watch = NewerWatch::default();
    assert_eq!(watch.look(none, SharedLately::No, start), ALONE);
    assert_eq!(watch.look(none, SharedLately::Yes, start), absent(0), "it may be restarting");
    assert_eq!(watch.look(none, SharedLately::No, later(61)), absent(61));
    assert_eq!(NewerWatch::default().look(older, SharedLately::No, start), absent(0));
    let mut watch = NewerWatch::default();
    assert_eq!(watch.look(newer, SharedLately::No, start), PRESENT);
    assert_eq!(watch.look(none, SharedLately::No, later(3600)), absent(0), "however rarely it looks");
    assert_eq!(watch.look(none, SharedLately::No, later(3630)), absent(30));
    assert_eq!(watch.look(newer, SharedLately::No, later(3640)), PRESENT, "it is back");
    assert_eq!(watch.look(none, SharedLately::No, later(3650)), absent(0));
}
