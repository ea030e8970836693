//! Decisions of the operator about leads, and rows that go and return, on both engines: held, approved, accepted as
//! baseline, requeued, gone, returned.

use std::time::Duration;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::lead_row::{
    at, claim, claim_one, deliver, desired, finished, held, id, invalid, record, returned, row, statuses, tester, write,
};
use conversica_sync::config::OnDelete;
use conversica_sync::conversica::lead::{IdOrder, RowHash};
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::db::trusted;
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::lead_change::LeadChange;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::store::decision::{self, DecisionMaker};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind, ReleaseOrder, ReleaseOutcome, ReleasedLeads};
use conversica_sync::store::stuck::RetryOrder;
use conversica_sync::store::{bulk_decision, compare, gone, lead, outcome, stuck};

on_both_engines!(
    what_is_held_waits_until_it_is_approved,
    what_is_taken_as_baseline_is_assumed_known,
    a_hold_ends_with_the_content_that_was_held,
    a_baseline_takes_nothing_as_delivered_of_a_lead_whose_row_said_nothing_valid,
    approving_does_not_disturb_what_is_in_flight,
    rejected_and_exhausted_leads_are_put_back_and_no_others,
    what_has_gone_is_not_sent_and_rests_where_it_was_when_it_returns,
    a_row_that_was_seen_again_before_its_lead_was_let_go_does_not_hide_that_conversica_is_told_to_stop,
    who_decided_what_about_whom_is_written_down,
    a_decision_about_many_leads_that_have_just_come_does_not_compare_each_with_each,
    a_decision_whose_process_has_ended_is_carried_out_by_the_next_pass,
);

async fn what_is_held_waits_until_it_is_approved(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", "a"), held("2", "a")], 0).await;
    assert!(claim(&db, 10, 100).await.is_empty());
    write(&db, &[desired("1", "b")], 1).await;
    let waiting = row(&db, "1").await;
    assert_eq!((waiting.status.as_str(), waiting.desired.as_deref()), ("held", Some("b")), "a change joins the hold");
    assert_eq!(waiting.hold_reason.as_deref(), Some("too_many_changes"));
    lead::mark_gone(&db, &[id("2")], at(2)).await.unwrap();

    assert_eq!(held::release_all(&db, &HeldSelection::default(), ReleaseKind::Send, at(3)).await.unwrap(), 2);
    let claimed = claim_one(&db, 3).await;
    assert_eq!((claimed.lead, claimed.body.as_str()), (id("1"), "b"));
    assert_eq!(row(&db, "2").await.status, "gone", "nobody approves what is not there");
}

async fn what_is_taken_as_baseline_is_assumed_known(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[held("1", "a"), desired("2", "a")], 0).await;
    assert_eq!(held::release_all(&db, &HeldSelection::default(), ReleaseKind::Baseline, at(1)).await.unwrap(), 1);
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.delivered.as_deref()), ("in_sync", Some("a")));
    assert_eq!((row.delivered_hash, row.contacted), (Some(row.desired_hash), true));
    statuses(&db, &[(LeadStatus::Assumed, 1), (LeadStatus::Pending, 1)]).await;
    assert_eq!(claim_one(&db, 2).await.lead, id("2"));
    assert_eq!(outcome::counts(&db).await.unwrap().values().sum::<i64>(), 0, "nothing was sent");
    let bodies = lead::delivered(&db, &[id("1"), id("2"), id("3")]).await.unwrap();
    let expected = [(id("1"), "a".to_owned()), (id("2"), "a".to_owned())];
    assert_eq!(bodies, expected.into(), "what was taken as delivered, and what is on its way");
}

async fn a_hold_ends_with_the_content_that_was_held(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    // The content returns to the delivered one.
    deliver(&db, desired("1", "a"), 0).await;
    write(&db, &[held("1", "b")], 1).await;
    write(&db, &[held("1", "a")], 2).await;
    // The content returns to the one in flight, which Conversica then accepts.
    write(&db, &[desired("2", "a")], 0).await;
    let in_flight = claim_one(&db, 1).await;
    write(&db, &[held("2", "b")], 2).await;
    write(&db, &[held("2", "a")], 3).await;
    record(&db, &[finished(&in_flight, OutcomeClass::Accepted, NextStep::Done, 4)]).await;
    // The content becomes invalid: there is nothing to send.
    write(&db, &[held("3", "b")], 1).await;
    write(&db, &[invalid("3", "no address")], 2).await;
    for (id, status) in [("1", "in_sync"), ("2", "in_sync"), ("3", "invalid")] {
        let row = row(&db, id).await;
        assert_eq!((row.status.as_str(), row.hold_reason), (status, None), "{id}");
        write(&db, &[desired(id, "c")], 10).await;
    }
    assert_eq!(claim(&db, 10, 10).await.len(), 3, "the next change is not held for the sake of an old one");
}

async fn a_baseline_takes_nothing_as_delivered_of_a_lead_whose_row_said_nothing_valid(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let claim = claim_one(&db, 1).await;
    record(&db, &[finished(&claim, OutcomeClass::Ambiguous, NextStep::Hold, 2)]).await;
    write(&db, &[invalid("1", "no address")], 3).await;
    lead::mark_gone(&db, &[id("1")], at(4)).await.unwrap();
    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Baseline, at(5)).await.unwrap();
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.hold_reason, row.delivered_hash), ("gone", None, None));
}

async fn approving_does_not_disturb_what_is_in_flight(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &[desired("1", "a")], 0).await;
    let in_flight = claim_one(&db, 1).await;
    write(&db, &[held("1", "b")], 2).await;
    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Baseline, at(3)).await.unwrap();
    assert_eq!(row(&db, "1").await.status, "in_flight", "what is on its way is not taken as delivered");
    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Send, at(4)).await.unwrap();
    record(&db, &[finished(&in_flight, OutcomeClass::Halting, NextStep::Untried, 5)]).await;
    let row = row(&db, "1").await;
    assert_eq!((row.status.as_str(), row.attempts), ("pending", 0));
    let claim = claim_one(&db, 6).await;
    assert_eq!((claim.body.as_str(), claim.attempt), ("b", 1));
}

async fn rejected_and_exhausted_leads_are_put_back_and_no_others(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ids = ["rejected 1", "rejected 2", "exhausted"];
    write(&db, &ids.map(|id| desired(id, "a")), 0).await;
    for claim in claim(&db, 10, 1).await {
        let (class, next) = match claim.lead.id.as_str() {
            "exhausted" => (OutcomeClass::Transient, NextStep::Exhausted),
            _ => (OutcomeClass::Rejected, NextStep::Rejected),
        };
        record(&db, &[finished(&claim, class, next, 2)]).await;
    }
    write(&db, &[held("held", "a"), invalid("invalid", "no address")], 3).await;
    deliver(&db, desired("in sync", "a"), 3).await;
    for status in
        LeadStatus::ALL.into_iter().filter(|status| !matches!(status, LeadStatus::Rejected | LeadStatus::Exhausted))
    {
        assert_eq!(
            stuck::requeue(
                &db,
                RetryOrder { statuses: &[status], ids: None, reason: None, who: &tester() },
                at(4),
                |_| ()
            )
            .await
            .unwrap(),
            0,
            "{}",
            status.name()
        );
    }
    assert_eq!(
        stuck::requeue(
            &db,
            RetryOrder {
                statuses: &[LeadStatus::Rejected],
                ids: Some(&["nobody".to_owned()]),
                reason: None,
                who: &tester()
            },
            at(4),
            |_| ()
        )
        .await
        .unwrap(),
        0
    );
    assert_eq!(
        stuck::requeue(
            &db,
            RetryOrder {
                statuses: &[LeadStatus::Rejected],
                ids: Some(&["rejected 1".to_owned()]),
                reason: None,
                who: &DecisionMaker::new("tests")
            },
            at(4),
            |_| ()
        )
        .await
        .unwrap(),
        1
    );
    assert_eq!(claim_one(&db, 4).await.lead, id("rejected 1"));
    assert_eq!(
        stuck::requeue(
            &db,
            RetryOrder { statuses: &[LeadStatus::Exhausted], ids: None, reason: None, who: &tester() },
            at(5),
            |_| ()
        )
        .await
        .unwrap(),
        1
    );
    let claim = claim_one(&db, 5).await;
    assert_eq!((claim.lead, claim.attempt, claim.first_failed_at), (id("exhausted"), 1, None), "a new series");
    let expected = [
        (LeadStatus::InFlight, 2),
        (LeadStatus::Rejected, 1),
        (LeadStatus::Held, 1),
        (LeadStatus::Invalid, 1),
        (LeadStatus::InSync, 1),
    ];
    statuses(&db, &expected).await;
}

async fn what_has_gone_is_not_sent_and_rests_where_it_was_when_it_returns(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    deliver(&db, desired("in sync", "a"), 0).await;
    write(&db, &[desired("pending", "a"), held("held", "a"), invalid("invalid", "no address")], 1).await;
    let all = ["in sync", "pending", "held", "invalid"].map(id);
    lead::mark_gone(&db, &all, at(2)).await.unwrap();
    statuses(&db, &[(LeadStatus::Gone, 4)]).await;
    assert_eq!(row(&db, "pending").await.gone_at, Some(2));
    assert!(claim(&db, 10, 100).await.is_empty());
    assert_eq!(held::release_all(&db, &HeldSelection::default(), ReleaseKind::Send, at(3)).await.unwrap(), 1);
    returned(&db, &all, 4).await;
    statuses(&db, &[(LeadStatus::InSync, 1), (LeadStatus::Pending, 2), (LeadStatus::Invalid, 1)]).await;

    // A row returns with other content.
    lead::mark_gone(&db, &[id("in sync")], at(5)).await.unwrap();
    write(&db, &[desired("in sync", "b")], 6).await;
    let back = row(&db, "in sync").await;
    assert_eq!((back.status.as_str(), back.gone_at), ("pending", None));
}

/// A compare reads the row, the operator approves that it is missing, and only then the compare writes.
async fn a_row_that_was_seen_again_before_its_lead_was_let_go_does_not_hide_that_conversica_is_told_to_stop(
    engine: Engine,
) {
    let place = engine.place();
    let db = place.state().await;
    let content = r#"{"id":"1","city":"Ulm"}"#;
    let as_read = LeadChange { row_hash: Some(RowHash(7)), ..desired("1", content) };
    deliver(&db, as_read.clone(), 0).await;
    assert_eq!(gone::withhold(&db, &[id("1")], at(2), at(2)).await.unwrap(), 1);
    let read: Vec<_> = lead::known(&db, &[id("1")]).await.unwrap().into_values().collect();
    held::release_all(&db, &HeldSelection::default(), ReleaseKind::Send, at(3)).await.unwrap();
    assert_eq!(gone::settle(&db, OnDelete::StopMessaging, at(3)).await.unwrap(), 1);
    lead::mark_returned(&db, &read, at(4)).await.unwrap();
    let after = row(&db, "1").await;
    assert!(after.status == "pending" && after.gone_at.is_some(), "Conversica is still told");
    let stop = claim_one(&db, 5).await;
    assert!(stop.body.contains("\"stopMessaging\":true"), "{}", stop.body);
    record(&db, &[finished(&stop, OutcomeClass::Accepted, NextStep::Done, 6)]).await;
    // The next compare reads the row whatever its hash is, and finds that Conversica holds other content.
    let page = compare::page(&db, IdOrder::Bytes, None, 10, None).await.unwrap();
    assert_eq!(page.front().map(|lead| lead.row_hash), Some(None));
    let known = lead::known(&db, &[id("1")]).await.unwrap().remove(&id("1")).unwrap();
    assert!(known.gone && known.desired_hash != as_read.desired_hash && known.row_hash.is_none());
}

async fn who_decided_what_about_whom_is_written_down(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    let ann = DecisionMaker::new("Ann");
    write(&db, &[held("1", "a"), held("2", "a"), held("3", "a")], 0).await;
    let two = HeldSelection { ids: vec!["1".to_owned(), "2".to_owned()], reason: None };
    let shown = held::look(&db, &two).await.unwrap();
    let released = held::release(
        &db,
        ReleaseOrder { selection: &two, shown: &shown, release: ReleaseKind::Send, who: &ann },
        at(1),
        |_| (),
    )
    .await
    .unwrap();
    let (leads, new_people) = (2, 2);
    assert_eq!(released, ReleaseOutcome::Leads(ReleasedLeads { leads, new_people, ..Default::default() }));
    let claims = claim(&db, 10, 2).await;
    for claim in &claims {
        record(&db, &[finished(claim, OutcomeClass::Rejected, NextStep::Rejected, 3)]).await;
    }
    stuck::requeue(
        &db,
        RetryOrder {
            statuses: &[LeadStatus::Rejected],
            ids: Some(&["2".to_owned()]),
            reason: None,
            who: &DecisionMaker::new("Bob"),
        },
        at(4),
        |_| (),
    )
    .await
    .unwrap();
    stuck::requeue(
        &db,
        RetryOrder { statuses: &[LeadStatus::Exhausted], ids: None, reason: None, who: &DecisionMaker::new("nobody") },
        at(5),
        |_| (),
    )
    .await
    .unwrap();
    let told = async |lead: &str| -> Vec<(String, String, i64)> {
        let decisions = decision::of_lead(&db, lead, "").await.unwrap();
        decisions.into_iter().map(|decided| (decided.action, decided.who, decided.leads)).collect()
    };
    let approved = || ("approve".to_owned(), "Ann".to_owned(), 2);
    assert_eq!(told("1").await, [approved()]);
    assert_eq!(told("2").await, [approved(), ("retry".to_owned(), "Bob".to_owned(), 1)]);
    assert_eq!(told("3").await, [], "what still waits was decided by nobody");
    let newest = decision::newest(&db, 10).await.unwrap();
    assert_eq!(newest.len(), 2, "what concerned nobody is no decision");
    assert_eq!(newest[1].reason.as_deref(), Some("too_many_changes"));
}

/// PostgreSQL has no statistics of a table that has just been filled. A nested loop would take minutes, and days for a
/// million leads.
async fn a_decision_about_many_leads_that_have_just_come_does_not_compare_each_with_each(engine: Engine) {
    const MANY: u64 = 30_000;
    let place = engine.place();
    let db = place.state().await;
    let leads: Vec<_> = (0..MANY).map(|n| held(&n.to_string(), "a")).collect();
    for some in leads.chunks(2000) {
        write(&db, some, 0).await;
    }
    let set = async |columns: &str| {
        let sql = format!("update lead set {columns}");
        on_state!(&db, pool => sqlx::query(trusted(sql)).execute(pool).await.map(drop)).unwrap();
    };
    let decide = async {
        assert_eq!(
            held::rename(&db, HoldReason::TooManyChanges, HoldReason::MappingChanged, at(1)).await.unwrap(),
            MANY
        );
        let (all, ann) = (HeldSelection::default(), DecisionMaker::new("Ann"));
        let shown = held::look(&db, &all).await.unwrap();
        let released = held::release(
            &db,
            ReleaseOrder { selection: &all, shown: &shown, release: ReleaseKind::Send, who: &ann },
            at(1),
            |_| (),
        )
        .await
        .unwrap();
        let (leads, new_people) = (MANY, MANY);
        assert_eq!(released, ReleaseOutcome::Leads(ReleasedLeads { leads, new_people, ..Default::default() }));
        set("status = 'held', hold_reason = 'staged', held_at = 1").await;
        assert_eq!(held::send_staged(&db, at(2)).await.unwrap(), MANY);
        set("status = 'rejected'").await;
        assert_eq!(
            stuck::requeue(
                &db,
                RetryOrder { statuses: &[LeadStatus::Rejected], ids: None, reason: None, who: &ann },
                at(3),
                |_| ()
            )
            .await
            .unwrap(),
            MANY
        );
        set("status = 'held', hold_reason = 'source_shrank', gone_at = 1, first_contact_at = 1").await;
        assert_eq!(gone::let_go(&db, None, at(4)).await.unwrap(), MANY);
        assert_eq!(gone::settle(&db, OnDelete::Ignore, at(4)).await.unwrap(), 0, "nobody is told");
    };
    tokio::time::timeout(Duration::from_secs(120), decide).await.expect("each lead is looked at once");
    statuses(&db, &[(LeadStatus::Gone, i64::try_from(MANY).unwrap())]).await;
}

async fn a_decision_whose_process_has_ended_is_carried_out_by_the_next_pass(engine: Engine) {
    let place = engine.place();
    let db = place.state().await;
    write(&db, &["1", "2", "3"].map(|id| held(id, "a")), 0).await;
    let all = HeldSelection::default();
    let shown = held::look(&db, &all).await.unwrap();
    let order = ReleaseOrder { selection: &all, shown: &shown, release: ReleaseKind::Send, who: &tester() };
    let mut parts = Vec::new();
    held::release(&db, order, at(1), |leads| parts.push(leads)).await.unwrap();
    assert_eq!(parts, [3], "what a progress bar is told");
    // As if the process had ended after the first lead.
    db.execute("update lead set status = 'held', hold_reason = 'too_many_changes', held_at = 1 where id <> '1'")
        .await
        .unwrap();
    db.execute("update decision set unfinished = 1").await.unwrap();
    // A pass that ran beside the decision has written this content, which nobody was shown.
    write(&db, &[held("3", "changed since"), held("4", "a")], 1).await;
    assert_eq!(bulk_decision::resume(&db, at(6)).await.unwrap(), 1);
    statuses(&db, &[(LeadStatus::Pending, 2), (LeadStatus::Held, 2)]).await;
    assert_eq!(row(&db, "2").await.status, "pending");
    assert_eq!(bulk_decision::resume(&db, at(7)).await.unwrap(), 0, "it is carried out once");
}
