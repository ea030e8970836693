//! Polls by `changed_at`: which rows they read, which they leave to the next full compare, and that a second read sends
//! nothing.

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::reading::settings;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::lead_claim::FinishedAttempt;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::delivery::{ClaimRequest, record_and_claim};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{control, lead};

on_both_engines!(
    a_poll_reads_what_changed_and_what_the_lookback_covers,
    rows_without_a_change_value_and_deletes_wait_for_the_full_compare,
    a_full_compare_comes_when_its_time_has_come,
    another_mapping_or_filter_makes_the_next_poll_read_everything,
    a_value_in_the_future_hides_nothing_that_changes_later,
    every_common_form_of_change_value_is_followed,
    an_expression_is_followed_as_a_column_is,
    a_form_that_is_no_time_is_read_whole_every_time,
    equal_change_values_are_never_cut_apart,
    a_source_that_was_put_back_to_an_earlier_time_is_compared_as_a_whole,
    a_number_of_another_unit_hides_nothing,
    texts_of_several_zones_hide_nothing,
    a_bare_date_among_times_is_found,
    times_that_do_not_sort_are_read_whole_every_time,
    a_text_with_a_t_is_not_read_from_the_beginning_of_its_day,
    a_dollar_in_an_expression_is_left_as_it_is,
);

const START: &str = "2026-06-01T12:00:00Z";

fn start() -> DateTime<Utc> {
    START.parse().unwrap()
}

/// A CRM with a column `changed` of some type, and a state.
struct Scene {
    crm: Place,
    place: Place,
    state: StateDb,
    changed_at: String,
    lead: String,
    filter: String,
}

impl Scene {
    async fn new(engine: Engine, changed_type: &str) -> Self {
        let (crm, place) = (engine.place(), engine.place());
        crm.sql(&format!("create table leads (id integer primary key, town text, changed {changed_type})")).await;
        let state = place.state().await;
        let lead = "city = 'town'".to_owned();
        Scene { crm, place, state, changed_at: "changed".to_owned(), lead, filter: "true".to_owned() }
    }

    /// Inserts the rows from..=to with the change value `changed`, an SQL literal.
    async fn insert(&self, from: u32, to: u32, changed: &str) {
        let rows: Vec<_> = (from..=to).map(|id| format!("({id}, 'Town {id}', {changed})")).collect();
        self.crm.sql(&format!("insert into leads values {}", rows.join(", "))).await;
    }

    async fn poll_reaching(&self, reach: PollReach, now: DateTime<Utc>) -> PollOutcome {
        let source = format!(
            "table = 'leads'\nkey = 'id'\nwhere = '{}'\nchanged_at = '{}'\nlookback = '5m'",
            self.filter, self.changed_at
        );
        let settings = settings(&self.crm, &source, &self.lead);
        let crm = ConnectedCrm::open(&settings).await.unwrap_or_else(|error| panic!("{error:#}"));
        poll(
            PollContext { crm: &crm, state: &self.state, settings: &settings, tally: &RunTally::default(), now },
            reach,
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn poll(&self, minutes: i64) -> PollOutcome {
        self.poll_reaching(PollReach::AsDue, start() + TimeDelta::minutes(minutes)).await
    }

    async fn kind(&self) -> String {
        control::read::<LastPoll>(&self.state).await.unwrap().unwrap().kind
    }

    async fn count(&self, status: LeadStatus) -> i64 {
        lead::counts(&self.state).await.unwrap()[&status]
    }

    /// Conversica accepts everything that waits; returns the number of requests.
    async fn deliver(&self, minutes: i64) -> usize {
        let now = start() + TimeDelta::minutes(minutes);
        let lease = std::time::Duration::from_secs(60);
        let claims = record_and_claim(&self.state, &[], ClaimRequest::up_to(10_000), now, lease).await.unwrap();
        let finished: Vec<FinishedAttempt> = claims
            .into_iter()
            .map(|claim| FinishedAttempt {
                lead: claim.lead,
                claimed_at: claim.claimed_at,
                attempt: claim.attempt,
                class: OutcomeClass::Accepted,
                http_status: Some(200),
                detail: None,
                duration: None,
                at: now,
                sent_hash: claim.sent_hash,
                next: NextStep::Done,
            })
            .collect();
        for part in finished.chunks(1000) {
            record_and_claim(&self.state, part, ClaimRequest::up_to(0), now, lease).await.unwrap();
        }
        finished.len()
    }
}

async fn a_poll_reads_what_changed_and_what_the_lookback_covers(engine: Engine) {
    let scene = Scene::new(engine, engine.pick("text", "timestamptz")).await;
    scene.insert(1, 50, "'2026-06-01 10:00:00'").await;
    scene.insert(51, 60, "'2026-06-01 11:58:00'").await;
    let first = scene.poll(0).await;
    assert_eq!((first.rows, first.created, scene.kind().await.as_str()), (60, 60, "full"));
    assert_eq!(scene.deliver(0).await, 60);

    let again = scene.poll(1).await;
    assert_eq!((again.rows, again.changed, scene.kind().await.as_str()), (10, 0, "incremental"), "only the look-back");
    assert_eq!(scene.deliver(1).await, 0, "reading again sends nothing");

    scene.crm.sql("update leads set town = 'Else', changed = '2026-06-01 12:01:30' where id in (3, 55)").await;
    // A transaction that began before the poll saw the newest change, and committed after it.
    scene.insert(70, 70, "'2026-06-01 11:57:00'").await;
    let changed = scene.poll(2).await;
    assert_eq!((changed.created, changed.updated), (1, 2));
    assert_eq!(scene.deliver(2).await, 3);
}

async fn rows_without_a_change_value_and_deletes_wait_for_the_full_compare(engine: Engine) {
    let scene = Scene::new(engine, engine.pick("text", "timestamp")).await;
    scene.insert(1, 10, "'2026-06-01 10:00:00'").await;
    scene.poll(0).await;
    scene.deliver(0).await;
    scene.insert(11, 12, "null").await;
    scene.crm.sql("delete from leads where id = 1").await;
    let incremental = scene.poll(1).await;
    assert_eq!((incremental.created, incremental.gone), (0, 0));
    let full = scene.poll_reaching(PollReach::Everything, start() + TimeDelta::minutes(2)).await;
    assert_eq!((full.created, full.gone, scene.kind().await.as_str()), (2, 1, "full"));
    assert_eq!(scene.count(LeadStatus::Gone).await, 1);
}

async fn a_full_compare_comes_when_its_time_has_come(engine: Engine) {
    let scene = Scene::new(engine, engine.pick("text", "timestamp")).await;
    scene.insert(1, 3, "'2026-06-01 10:00:00'").await;
    scene.poll(0).await;
    scene.poll(60 * 24 - 1).await;
    assert_eq!(scene.kind().await, "incremental");
    scene.poll(60 * 24).await;
    assert_eq!(scene.kind().await, "full");
    scene.poll(60 * 24 + 1).await;
    assert_eq!(scene.kind().await, "incremental", "counted from the last full compare");
}

async fn another_mapping_or_filter_makes_the_next_poll_read_everything(engine: Engine) {
    let mut scene = Scene::new(engine, engine.pick("text", "timestamp")).await;
    scene.insert(1, 5, "'2026-06-01 10:00:00'").await;
    scene.insert(6, 6, "'2026-06-01 11:00:00'").await;
    scene.poll(0).await;
    scene.deliver(0).await;
    scene.lead = "address = 'town'".to_owned();
    assert_eq!((scene.poll(1).await.updated, scene.kind().await.as_str()), (6, "full"));
    scene.deliver(1).await;
    assert_eq!((scene.poll(2).await.rows, scene.kind().await.as_str()), (1, "incremental"));
    scene.filter = "id > 2".to_owned();
    assert_eq!((scene.poll(3).await.gone, scene.kind().await.as_str()), (2, "full"));
}

async fn a_value_in_the_future_hides_nothing_that_changes_later(engine: Engine) {
    let scene = Scene::new(engine, engine.pick("text", "timestamptz")).await;
    scene.insert(1, 1, "'2099-01-01 00:00:00'").await;
    scene.insert(2, 9, "'2026-06-01 11:00:00'").await;
    scene.poll(0).await;
    scene.deliver(0).await;
    scene.crm.sql("update leads set town = 'Else', changed = '2026-06-01 12:00:30' where id = 5").await;
    let polled = scene.poll(1).await;
    assert_eq!((polled.updated, scene.kind().await.as_str()), (1, "incremental"));
}

async fn every_common_form_of_change_value_is_followed(engine: Engine) {
    // The type, an old value, the newest value at the first poll, a later one.
    let epoch = |minutes: i64, factor: i64| ((start() + TimeDelta::minutes(minutes)).timestamp() * factor).to_string();
    let numbers = |kind: &'static str, factor: i64| (kind, epoch(-600, factor), epoch(-1, factor), epoch(1, factor));
    let texts = |kind: &'static str, day: &str, seen: &str, later: &str| {
        (kind, format!("'{day}'"), format!("'{seen}'"), format!("'{later}'"))
    };
    let mut forms = vec![
        numbers("bigint", 1),
        numbers("bigint", 1000),
        numbers("bigint", 1_000_000),
        numbers("numeric", 1),
        texts("text", "2026-06-01 02:00:00", "2026-06-01 11:59:00", "2026-06-01 12:01:00"),
        texts("text", "2026-05-30T02:00:00Z", "2026-06-01T11:59:00Z", "2026-06-01T12:01:00Z"),
        texts("text", "2026-05-30T02:00:00.25+02:00", "2026-06-01T13:59:00.25+02:00", "2026-06-01T14:01:00.25+02:00"),
        texts("text", "2026-05-29", "2026-06-01", "2026-06-01"),
    ];
    if engine == Engine::Postgres {
        forms.extend([
            texts("timestamptz", "2026-06-01 02:00:00+00", "2026-06-01 13:59:00.123456+02", "2026-06-01 12:01:00+00"),
            texts("timestamp", "2026-06-01 02:00:00", "2026-06-01 11:59:00.5", "2026-06-01 12:01:00"),
            texts("date", "2026-05-29", "2026-06-01", "2026-06-01"),
            texts("varchar(40)", "2026-06-01 02:00:00", "2026-06-01 11:59:00", "2026-06-01 12:01:00"),
        ]);
    }
    for (kind, old, seen, later) in forms {
        let scene = Scene::new(engine, kind).await;
        scene.insert(1, 5, &old).await;
        scene.insert(6, 6, &seen).await;
        scene.poll(0).await;
        scene.deliver(0).await;
        scene.crm.sql(&format!("update leads set town = 'Else', changed = {later} where id = 2")).await;
        let polled = scene.poll(2).await;
        let what = format!("{kind} {old} {seen} {later}");
        assert_eq!((polled.updated, scene.kind().await.as_str()), (1, "incremental"), "{what}");
        assert!(polled.rows <= 2, "{what}: {} rows read", polled.rows);
        drop(scene.place);
    }
}

async fn an_expression_is_followed_as_a_column_is(engine: Engine) {
    let mut scene = Scene::new(engine, engine.pick("text", "timestamp")).await;
    scene.crm.sql(&format!("alter table leads add column made {}", engine.pick("text", "timestamp"))).await;
    scene.changed_at = "coalesce(changed, made)".to_owned();
    scene.crm.sql("insert into leads values (1, 'A', '2026-06-01 08:00:00', '2026-01-01 08:00:00')").await;
    scene.crm.sql("insert into leads values (2, 'B', null, '2026-06-01 11:00:00')").await;
    scene.poll(0).await;
    scene.deliver(0).await;
    scene.crm.sql("insert into leads values (3, 'C', null, '2026-06-01 11:59:00')").await;
    let polled = scene.poll(1).await;
    assert_eq!((polled.rows, polled.created, scene.kind().await.as_str()), (2, 1, "incremental"));
}

async fn a_form_that_is_no_time_is_read_whole_every_time(engine: Engine) {
    let scene = Scene::new(engine, "text").await;
    scene.insert(1, 3, "'revision 7'").await;
    scene.poll(0).await;
    scene.crm.sql("update leads set town = 'Else' where id = 2").await;
    assert_eq!((scene.poll(1).await.changed, scene.kind().await.as_str()), (1, "full"));
}

async fn equal_change_values_are_never_cut_apart(engine: Engine) {
    let scene = Scene::new(engine, engine.pick("text", "timestamp")).await;
    // A bulk import: more rows of one value than a batch holds, within the look-back.
    scene.insert(1, 2500, "'2026-06-01 11:58:00'").await;
    assert_eq!(scene.poll(0).await.created, 2500);
    scene.deliver(0).await;
    scene.crm.sql("update leads set town = 'Else'").await;
    let polled = scene.poll(1).await;
    assert_eq!((polled.rows, polled.updated, scene.kind().await.as_str()), (2500, 2500, "incremental"));
}

async fn a_source_that_was_put_back_to_an_earlier_time_is_compared_as_a_whole(engine: Engine) {
    let scene = Scene::new(engine, "text").await;
    scene.insert(1, 3, "'2026-06-01 09:00:00'").await;
    scene.poll(0).await;
    scene.crm.sql("create table backup as select * from leads").await;
    scene.crm.sql("update leads set town = 'Newer', changed = '2026-06-01 12:00:30' where id = 2").await;
    assert_eq!((scene.poll(1).await.changed, scene.kind().await.as_str()), (1, "incremental"));
    scene.crm.sql("delete from leads; insert into leads select * from backup").await;
    assert_eq!(scene.poll(2).await.rows, 0, "nothing is as new as what was seen");
    let compared = scene.poll(3).await;
    assert_eq!((compared.changed, scene.kind().await.as_str()), (1, "full"), "{compared:?}");
    scene.poll(4).await;
    assert_eq!(scene.kind().await, "incremental", "once");
}

async fn a_number_of_another_unit_hides_nothing(engine: Engine) {
    let seconds = |minutes: i64| (start() + TimeDelta::minutes(minutes)).timestamp();
    let odd = [
        // The newest value in milliseconds and in microseconds; a value a year old in microseconds; the end of the year
        // 9999, which SQLite ignores because it lies in the future.
        (seconds(-1) * 1000, 1),
        (seconds(-1) * 1_000_000, 1),
        (seconds(-525_600) * 1_000_000, 6),
        (253_402_300_799, if engine == Engine::Sqlite { 6 } else { 1 }),
    ];
    for (odd, rows) in odd {
        let scene = Scene::new(engine, "bigint").await;
        scene.insert(1, 5, &seconds(-600).to_string()).await;
        scene.insert(6, 6, &odd.to_string()).await;
        scene.poll(0).await;
        scene.deliver(0).await;
        let changed = seconds(1);
        scene.crm.sql(&format!("update leads set town = 'Else', changed = {changed} where id = 2")).await;
        let polled = scene.poll(2).await;
        assert_eq!((polled.updated, scene.kind().await.as_str()), (1, "incremental"), "{odd}");
        assert!(polled.rows <= rows + 1, "{odd}: {} rows read", polled.rows);
    }
}

async fn texts_of_several_zones_hide_nothing(engine: Engine) {
    // The newest text at the first poll, an older text of another zone, and a later text in the form of the second.
    for (seen, other, later) in [
        ("2026-06-01T11:59:00Z", "2026-05-01T01:00:00-08:00", "2026-06-01T04:01:00-08:00"),
        ("2026-06-01T11:59:00Z", "2026-05-01 01:00:00", "2026-06-01 04:01:00"),
        ("2026-06-01 11:59:00", "2026-05-01T01:00:00.000-08:00", "2026-06-01T04:01:00.000-08:00"),
    ] {
        let scene = Scene::new(engine, "text").await;
        scene.insert(1, 5, &format!("'{other}'")).await;
        scene.insert(6, 6, &format!("'{seen}'")).await;
        scene.poll(0).await;
        scene.deliver(0).await;
        scene.crm.sql(&format!("update leads set town = 'Else', changed = '{later}' where id = 2")).await;
        let polled = scene.poll(2).await;
        assert_eq!((polled.updated, scene.kind().await.as_str(), polled.rows), (1, "incremental", 2), "{later}");
    }
}

async fn a_bare_date_among_times_is_found(engine: Engine) {
    for seen in ["2026-06-01 11:59:00", "2026-06-01T11:59:00Z"] {
        let scene = Scene::new(engine, "text").await;
        scene.insert(1, 5, "'2026-05-30'").await;
        scene.insert(6, 6, &format!("'{seen}'")).await;
        scene.poll(0).await;
        scene.deliver(0).await;
        scene.crm.sql("update leads set town = 'Else', changed = '2026-06-01' where id = 2").await;
        assert_eq!((scene.poll(2).await.updated, scene.kind().await.as_str()), (1, "incremental"), "{seen}");
    }
}

async fn times_that_do_not_sort_are_read_whole_every_time(engine: Engine) {
    for form in ["2026-06-01 09:59:00 PM", "2026-06-01  9:59:00", "2026-06-01 11:59:00 ", "2026-06-01 11:59:00 UTC"] {
        let scene = Scene::new(engine, "text").await;
        scene.insert(1, 3, &format!("'{form}'")).await;
        scene.poll(0).await;
        scene.crm.sql("update leads set town = 'Else', changed = '2026-06-01 01:00:00' where id = 2").await;
        assert_eq!((scene.poll(1).await.changed, scene.kind().await.as_str()), (1, "full"), "{form}");
    }
}

async fn a_text_with_a_t_is_not_read_from_the_beginning_of_its_day(engine: Engine) {
    let scene = Scene::new(engine, "text").await;
    scene.insert(1, 50, "'2026-06-01T02:00:00Z'").await;
    scene.insert(51, 52, "'2026-06-01T11:59:00Z'").await;
    scene.poll(0).await;
    assert_eq!(scene.poll(1).await.rows, 2, "only the look-back");
}

async fn a_dollar_in_an_expression_is_left_as_it_is(engine: Engine) {
    let mut scene = Scene::new(engine, "text").await;
    scene.changed_at = "changed$1".to_owned();
    scene.crm.sql("alter table leads rename column changed to \"changed$1\"").await;
    scene.insert(1, 3, "'2026-06-01 11:00:00'").await;
    scene.poll(0).await;
    scene.deliver(0).await;
    scene.insert(4, 4, "'2026-06-01 12:01:00'").await;
    assert_eq!((scene.poll(2).await.created, scene.kind().await.as_str()), (1, "incremental"));
}

#[tokio::test]
async fn a_writer_that_takes_long_is_not_overtaken_by_a_value_in_the_future() {
    let seconds = |time: &str| format!("2026-06-01T{time}Z").parse::<DateTime<Utc>>().unwrap().timestamp().to_string();
    let text = |time: &str| format!("'2026-06-01T{time}Z'");
    for (kind, future, seen, late) in [
        ("text", "'2099-01-01T00:00:00Z'".to_owned(), text("11:00:00"), text("11:30:00")),
        ("bigint", "4070908800".to_owned(), seconds("11:00:00"), seconds("11:30:00")),
    ] {
        let scene = Scene::new(Engine::Sqlite, kind).await;
        scene.insert(1, 1, &future).await;
        scene.insert(2, 9, &seen).await;
        scene.poll(0).await;
        scene.deliver(0).await;
        // The transaction began half an hour before that poll, and committed just after it.
        scene.crm.sql(&format!("update leads set town = 'Else', changed = {late} where id = 5")).await;
        for (minutes, updated) in [(1, 1), (2, 0)] {
            assert_eq!(
                (scene.poll(minutes).await.updated, scene.kind().await.as_str()),
                (updated, "incremental"),
                "{kind}"
            );
        }
    }
}
