//! Each change of the service is reported once, in any sequence of readings.

use proptest::prelude::*;

use super::*;
use crate::rules::operator_pause::OperatorPause;

#[test]
fn every_condition_is_a_kind_that_a_channel_can_choose() {
    let kinds: Vec<&str> = crate::config::AlertKind::ALL.iter().map(|kind| kind.name()).collect();
    let leads = ["hot_lead", "action_required", "lead_at_risk"];
    let conditions = ServiceCondition::ALL.iter().map(|condition| condition.name());
    let told: Vec<&str> = leads.into_iter().chain(conditions).chain([crate::alert::loss::KIND]).collect();
    assert_eq!(kinds, told);
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn teller() -> AlertSender {
    AlertSender { host: "here".to_owned(), version: "1.2.3" }
}

fn quiet() -> ServiceReading {
    let (rejected, exhausted, stopped, unreadable, possible_opt_outs) = (0, 0, 0, 0, 0);
    let longest = LongestWait::default();
    ServiceReading {
        halt: None,
        hold: None,
        hold_reasons: BTreeMap::new(),
        pause: None,
        rejected,
        exhausted,
        last_poll: None,
        longest,
        stopped,
        unreadable,
        possible_opt_outs,
        budget: None,
        silent: Vec::new(),
    }
}

fn circumstances() -> ProcessCircumstances {
    ProcessCircumstances { began_at: at(0), connected: true, longest_wait: Some(TimeDelta::hours(1)), capped: false }
}

fn polled(seconds: i64, failing_since: Option<i64>) -> Option<LastPoll> {
    Some(LastPoll {
        at: at(seconds),
        kind: "full".to_owned(),
        rows: 0,
        changed: 0,
        duration_ms: 0,
        unnamed: 0,
        error: failing_since.map(|_| "Ann's row".to_owned()),
        cure: None,
        failing_since: failing_since.map(at),
        succeeded_at: BTreeMap::new(),
        instances: None,
    })
}

fn seen(
    condition: ServiceCondition,
    reading: &ServiceReading,
    circumstances: &ProcessCircumstances,
    now: DateTime<Utc>,
) -> ConditionView {
    view(reading, circumstances, now).into_iter().find(|(one, _)| *one == condition).unwrap().1
}

fn paused(since: i64, reason: &str) -> Option<PauseShown> {
    let pause = OperatorPause {
        conversation: None,
        since: at(since),
        until: None,
        reason: Some(reason.to_owned()),
        who: "kim (command line)".to_owned(),
    };
    PauseShown::of(vec![pause], at(since))
}

#[test]
fn a_pause_is_told_once_and_so_is_its_end() {
    let mut reading = ServiceReading { pause: paused(1, "wrong prices"), ..quiet() };
    let mut account = AlertAccount::default();
    let mut told = |reading: &ServiceReading, now: i64| {
        let (next, news) = step(&account, &view(reading, &circumstances(), at(now)), &teller(), at(now));
        account = next;
        news.into_iter().map(|news| (news.kind, news.document)).collect::<Vec<_>>()
    };
    let begun = told(&reading, 2);
    assert_eq!((begun.len(), begun[0].0), (1, "paused"));
    assert_eq!(begun[0].1["reason"], "everybody, by kim (command line): wrong prices");
    assert!(begun[0].1["cure"].as_str().is_some_and(|cure| cure.contains("unpause")));
    assert!(told(&reading, 3).is_empty());
    reading.pause = paused(4, "holidays");
    assert_eq!(told(&reading, 5).len(), 1, "another pause");
    reading.pause = None;
    let ended = told(&reading, 6);
    assert_eq!((ended.len(), &ended[0].1["state"]), (1, &serde_json::json!("ended")));
}

fn halted(since: i64) -> Option<HaltShown> {
    Some(HaltShown {
        reason: "credentials",
        since: at(since),
        detail: Some("Ann".to_owned()),
        cure: "set the right ones",
    })
}

#[test]
fn a_halt_is_told_with_its_cure_once_and_so_is_its_end() {
    let mut reading = quiet();
    let look = |reading: &ServiceReading, before: &AlertAccount, now| {
        step(before, &view(reading, &circumstances(), at(now)), &teller(), at(now))
    };
    let (account, news) = look(&reading, &AlertAccount::default(), 1);
    assert_eq!((account, news), (AlertAccount::default(), vec![]));
    reading.halt = halted(5);
    let (begun, news) = look(&reading, &AlertAccount::default(), 6);
    let document = json!({
        "kind": "halted", "state": "begun", "at": at(6), "since": at(5), "reason": "credentials", "count": null,
        "new_people": null,
        "cure": "set the right ones", "host": "here", "version": "1.2.3",
    });
    assert_eq!(news, [AlertNews { kind: "halted", document }]);
    assert_eq!(look(&reading, &begun, 7), (begun.clone(), vec![]));
    // Lifted and halted again between two readings.
    reading.halt = halted(8);
    let (again, news) = look(&reading, &begun, 9);
    assert_eq!((news.len(), &news[0].document["since"]), (1, &json!(at(8))));
    reading.halt = None;
    let (ended, news) = look(&reading, &again, 10);
    assert_eq!((&news[0].document["state"], &news[0].document["since"]), (&json!("ended"), &json!(at(8))));
    assert_eq!(ended, AlertAccount { revision: 3, told: BTreeMap::new() });
}

#[test]
fn a_poll_that_fails_once_is_not_told_and_one_that_goes_on_failing_is() {
    let of = |last_poll, connected, now| {
        let circumstances = ProcessCircumstances { connected, ..circumstances() };
        seen(ServiceCondition::PollFailing, &ServiceReading { last_poll, ..quiet() }, &circumstances, at(now))
    };
    let stands = |view| matches!(view, ConditionView::Stands(_));
    assert_eq!(of(polled(10, None), true, 11), ConditionView::Absent);
    assert_eq!(of(polled(10, Some(10)), true, 69), ConditionView::Unclear);
    assert!(stands(of(polled(65, Some(10)), true, 70)));
    // A source that is unreachable at the start: no poll runs, and earlier polls prove nothing.
    for before in [None, polled(-500, None)] {
        assert_eq!(of(before.clone(), false, 59), ConditionView::Unclear);
        assert!(stands(of(before.clone(), false, 60)));
        assert_eq!(of(before, true, 61), ConditionView::Unclear, "the first poll is under way");
    }
    assert_eq!(of(polled(5, None), false, 900), ConditionView::Absent, "another instance polls");
    // An old poll was dated by a clock that was a year ahead: a failing source is reported all the same.
    let year = 365 * 24 * 3600;
    assert!(stands(of(polled(year, None), false, 60)));
    assert!(stands(of(polled(year, Some(year)), true, 60)));
}

#[test]
fn a_backlog_is_told_when_it_is_old_and_no_cap_or_halt_explains_it() {
    let mut reading = quiet();
    let mut circumstances = circumstances();
    reading.longest.new = Some(at(0));
    let of = |reading: &ServiceReading, circumstances: &ProcessCircumstances, now| {
        seen(ServiceCondition::BacklogOld, reading, circumstances, at(now))
    };
    assert_eq!(of(&reading, &circumstances, 1799), ConditionView::Absent);
    assert_eq!(of(&reading, &circumstances, 3599), ConditionView::Unclear);
    assert!(matches!(of(&reading, &circumstances, 3600), ConditionView::Stands(fact) if fact.since == at(0)));
    let halted = ServiceReading { halt: halted(5), ..reading.clone() };
    assert_eq!(of(&halted, &circumstances, 3600), ConditionView::Unclear);
    circumstances.capped = true;
    assert_eq!(of(&reading, &circumstances, 3600), ConditionView::Absent, "they wait for their turn");
    reading.longest.known = Some(at(0));
    assert!(matches!(of(&reading, &circumstances, 3600), ConditionView::Stands(_)));
    circumstances.longest_wait = None;
    assert_eq!(of(&reading, &circumstances, 3600), ConditionView::Absent);
}

fn look(reading: &ServiceReading, before: &AlertAccount, now: i64) -> (AlertAccount, Vec<String>) {
    let (account, news) = step(before, &view(reading, &circumstances(), at(now)), &teller(), at(now));
    let told = news.iter().map(|news| format!("{} {}", news.kind, news.document["state"])).collect();
    (account, told)
}

#[test]
fn a_budget_is_told_once_at_four_fifths_and_ended_with_the_month() {
    let used = |used| ServiceReading {
        budget: Some(BudgetUse { people: 10, used, since: at(0), until: at(2_592_000) }),
        ..quiet()
    };
    let (account, told) = look(&used(7), &AlertAccount::default(), 1);
    assert_eq!(told, Vec::<String>::new());
    let (account, told) = look(&used(8), &account, 2);
    assert_eq!(told, ["new_leads_budget \"begun\""]);
    let (account, told) = look(&used(10), &account, 3);
    assert_eq!(told, Vec::<String>::new(), "it is the same budget");
    assert_eq!(look(&used(0), &account, 4).1, ["new_leads_budget \"ended\""]);
    assert_eq!(look(&quiet(), &account, 4).1, ["new_leads_budget \"ended\""], "there is no budget any more");
}

#[test]
fn what_is_counted_is_told_when_there_is_some_after_there_was_none() {
    let before = AlertAccount::default();
    let look = |reading: &ServiceReading, before: &AlertAccount, now| {
        step(before, &view(reading, &circumstances(), at(now)), &teller(), at(now))
    };
    let some = ServiceReading { rejected: 1, exhausted: 2, stopped: 3, unreadable: 4, possible_opt_outs: 5, ..quiet() };
    let (account, news) = look(&some, &before, 1);
    let told: Vec<_> = news.iter().map(|news| (news.kind, news.document["count"].as_i64())).collect();
    let all = [
        ("rejected", Some(1)),
        ("exhausted", Some(2)),
        ("writeback_stopped", Some(3)),
        ("unreadable", Some(4)),
        ("possible_opt_out", Some(5)),
    ];
    assert_eq!(told, all);
    assert!(
        news.iter().all(|news| news.document["cure"].as_str().is_some_and(|cure| cure.contains("conversica-sync")))
    );
    let more = ServiceReading { rejected: 9, ..some };
    assert_eq!(look(&more, &account, 2).1, []);
    let ended: Vec<_> = look(&quiet(), &account, 3).1.iter().map(|news| news.document["since"].clone()).collect();
    assert_eq!(ended, vec![json!(at(1)); 5]);
}

fn views() -> impl Strategy<Value = ConditionView> {
    let stands = (0..3_i64, 0..2_u8).prop_map(|(since, reason)| {
        ConditionView::Stands(ConditionFact {
            since: at(since),
            reason: Some(reason.to_string()),
            count: None,
            new_people: None,
            cure: String::new(),
        })
    });
    prop_oneof![stands, Just(ConditionView::Absent), Just(ConditionView::Unclear)]
}

proptest! {
    #[test]
    fn what_is_told_follows_what_is_seen_and_nothing_is_told_twice(
        looks in proptest::collection::vec((0..ServiceCondition::ALL.len(), views()), 0..40),
    ) {
        let mut account = AlertAccount::default();
        let mut told: BTreeMap<&str, String> = BTreeMap::new();
        for (n, (which, view)) in looks.into_iter().enumerate() {
            let now = at(100 + n as i64);
            let condition = ServiceCondition::ALL[which];
            let seen = [(condition, view.clone())];
            let (after, news) = step(&account, &seen, &teller(), now);
            prop_assert_eq!(after.revision, account.revision + u64::from(!news.is_empty()));
            for news in &news {
                let state = news.document["state"].as_str().unwrap().to_owned();
                let before = told.insert(news.kind, state.clone());
                // An end follows a beginning.
                prop_assert!(state == "begun" || before.as_deref() == Some("begun"));
            }
            let stands = told.get(condition.name()).is_some_and(|state| state == "begun");
            match view {
                ConditionView::Stands(_) => prop_assert!(stands),
                ConditionView::Absent => prop_assert!(!stands),
                ConditionView::Unclear => prop_assert!(news.is_empty()),
            }
            prop_assert_eq!(step(&after, &seen, &teller(), now).1, vec![], "the same again is no news");
            account = after;
        }
    }
}

#[test]
fn a_silent_conversation_is_told_once_and_ended_with_its_first_sign_of_life() {
    let silent = |name: &str, seconds| ConversationShown {
        client_id: String::new(),
        name: name.to_owned(),
        contacted: 7,
        contacted_at: Some(at(seconds)),
        worked_at: None,
    };
    let reading = |silent: Vec<ConversationShown>| ServiceReading { silent, ..quiet() };
    let (account, told) = look(&reading(vec![silent("Inbound", 5)]), &AlertAccount::default(), 50_000);
    assert_eq!(told, ["conversation_silent \"begun\""]);
    assert_eq!(account.told["conversation_silent"].reason.as_deref(), Some("Inbound"));
    let (account, told) = look(&reading(vec![silent("Inbound", 5), silent("Winback", 6)]), &account, 50_001);
    assert_eq!(told, Vec::<String>::new(), "one alert for the longest");
    let (account, told) = look(&reading(vec![silent("Winback", 6)]), &account, 50_002);
    assert_eq!(told, ["conversation_silent \"begun\""], "another one");
    assert_eq!(look(&quiet(), &account, 50_003).1, ["conversation_silent \"ended\""]);
}

#[test]
fn an_alert_about_held_leads_names_every_reason() {
    let hold = HoldShown { reason: "first_run".to_owned(), since: at(0), leads: 5, new_people: 3, assumed_known: 0 };
    let hold_reasons = BTreeMap::from([("first_run".to_owned(), 4), ("stale_lead".to_owned(), 1)]);
    let reading = ServiceReading { hold: Some(hold), hold_reasons, ..quiet() };
    let (_, news) = step(&AlertAccount::default(), &view(&reading, &circumstances(), at(1)), &teller(), at(1));
    let [news] = &news[..] else { panic!("{news:?}") };
    assert_eq!(news.document["reason"], "first_run");
    let cure = news.document["cure"].as_str().unwrap();
    assert!(cure.contains("Of these, 1 lead held for stale_lead: ") && cure.contains(advice("first_run")), "{cure}");
    assert!(!cure.contains("held for first_run"), "{cure}");
}
