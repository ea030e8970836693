//! Changes from triggers undergo the same safety checks as those of a poll: a source that lost its leads, a bulk change
//! larger than one read of the log, and the same in many small commits.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::support::engine::{Engine, Place, on_both_engines};
use crate::support::lead_row::at;
use crate::support::reading;
use conversica_sync::config::{FirstRun, OnDelete, ServiceSettings};
use conversica_sync::rules::hold_reason::HoldReason;
use conversica_sync::rules::poll_record::LastPoll;
use conversica_sync::send::poll::{PollOutcome, poll};
use conversica_sync::send::poll_context::PollContext;
use conversica_sync::send::reach::PollReach;
use conversica_sync::send::tally::RunTally;
use conversica_sync::source::changes::ddl::ListenerWake;
use conversica_sync::source::crm::ConnectedCrm;
use conversica_sync::store::control;
use conversica_sync::store::held::{self, HeldSelection};
use conversica_sync::store::state_db::StateDb;

on_both_engines!(
    leads_that_go_in_one_statement_are_held_however_many_steps_it_takes_to_read_them,
    a_key_that_changes_everywhere_contacts_nobody_anew,
    leads_that_go_in_many_small_commits_are_held_before_half_of_them_are_gone,
    leads_that_go_in_small_commits_are_no_more_than_need_no_approval,
    leads_that_go_now_and_then_are_believed,
    a_bulk_change_is_held_as_one_however_many_steps_it_takes_to_read_it,
    a_bulk_change_that_needs_no_approval_is_read_row_by_row,
    rows_without_a_key_outside_the_filter_cost_no_comparison_and_inside_it_are_told,
);

/// A source with triggers; Conversica knows all of its leads, and gets a stop for each that goes.
struct Source {
    place: Place,
    _states: Place,
    crm: ConnectedCrm,
    state: StateDb,
    settings: ServiceSettings,
}

impl Source {
    async fn new(engine: Engine, leads: u32, approve_above: u32) -> Self {
        let (place, states) = (engine.place(), engine.place());
        place.sql("create table leads (id integer, name text, dealer text, kind text default 'lead')").await;
        place.sql("create index leads_id on leads (id)").await;
        place
            .sql(&format!(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < {leads}) \
                 insert into leads (id, name) select i, 'Bell' from n"
            ))
            .await;
        let mut settings = reading::settings(
            &place,
            "table = 'leads'\nkey = 'id'\nclient = 'dealer'\nwhere = \"kind = 'lead'\"\nchanges = 'triggers'",
            "lastName = 'name'",
        );
        settings.source.on_delete = OnDelete::StopMessaging;
        settings.safety.approve_above = approve_above;
        settings.safety.first_run = Some(FirstRun::Baseline);
        let state = states.state().await;
        let crm = ConnectedCrm::open(&settings).await.unwrap();
        place.sql(&crm.log.as_ref().unwrap().design.install(None, ListenerWake::Notify)).await;
        let source = Self { place, _states: states, crm, state, settings };
        source.poll(0).await;
        source
    }

    async fn try_to_poll(&self, seconds: i64) -> anyhow::Result<PollOutcome> {
        let now = at(0) + TimeDelta::seconds(seconds);
        poll(
            PollContext {
                crm: &self.crm,
                state: &self.state,
                settings: &self.settings,
                tally: &RunTally::default(),
                now,
            },
            PollReach::AsDue,
        )
        .await
    }

    async fn poll(&self, seconds: i64) -> PollOutcome {
        let polled = self.try_to_poll(seconds).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(self.crm.log.as_ref().unwrap().is_empty().await.unwrap(), "everything was drained");
        polled
    }

    async fn kind(&self) -> String {
        control::read::<LastPoll>(&self.state).await.unwrap().unwrap().kind
    }

    /// Reason → leads.
    async fn held(&self) -> BTreeMap<String, i64> {
        held::look(&self.state, &HeldSelection::default()).await.unwrap().reasons
    }
}

fn reason(reason: HoldReason, leads: i64) -> BTreeMap<String, i64> {
    BTreeMap::from([(reason.name().to_owned(), leads)])
}

async fn leads_that_go_in_one_statement_are_held_however_many_steps_it_takes_to_read_them(engine: Engine) {
    for (leads, limit) in [(300, 1000), (12_000, 8000)] {
        let source = Source::new(engine, leads, limit).await;
        source.place.sql("delete from leads").await;
        let polled = source.poll(1).await;
        assert_eq!((polled.gone, polled.stopped), (0, 0), "{leads} leads");
        assert_eq!(source.held().await, reason(HoldReason::SourceShrank, leads.into()));
    }
    // Many leads are left, and still more go than may go without approval.
    let source = Source::new(engine, 30_000, 8000).await;
    source.place.sql("delete from leads where id <= 12000").await;
    let polled = source.poll(1).await;
    assert_eq!((polled.gone, polled.stopped), (0, 0));
    assert_eq!(source.held().await, reason(HoldReason::SourceShrank, 12_000));
}

async fn a_key_that_changes_everywhere_contacts_nobody_anew(engine: Engine) {
    for (leads, limit) in [(300, 0), (300, 100), (6000, 0)] {
        let source = Source::new(engine, leads, limit).await;
        source.place.sql("update leads set id = id + 1000000").await;
        let polled = source.poll(1).await;
        assert_eq!((polled.gone, polled.stopped), (0, 0), "{leads} leads");
        assert_eq!(source.held().await, reason(HoldReason::SourceShrank, 2 * i64::from(leads)));
    }
}

/// Deletes three leads a second; returns how many of 40 go before the others are held.
async fn gone_bit_by_bit(source: &Source) -> u64 {
    let mut gone = 0;
    for step in 0..13 {
        source.place.sql(&format!("delete from leads where id > {} and id <= {}", step * 3, step * 3 + 3)).await;
        gone += source.poll(step + 1).await.gone;
    }
    let held = source.held().await;
    assert_eq!(held, reason(HoldReason::SourceShrank, 39 - i64::try_from(gone).unwrap()));
    gone
}

async fn leads_that_go_in_many_small_commits_are_held_before_half_of_them_are_gone(engine: Engine) {
    assert_eq!(gone_bit_by_bit(&Source::new(engine, 40, 0).await).await, 18);
}

async fn leads_that_go_in_small_commits_are_no_more_than_need_no_approval(engine: Engine) {
    assert_eq!(gone_bit_by_bit(&Source::new(engine, 40, 5).await).await, 3);
}

async fn leads_that_go_now_and_then_are_believed(engine: Engine) {
    let source = Source::new(engine, 4, 1000).await;
    for (seconds, id) in [(10, 1), (7300, 2)] {
        source.place.sql(&format!("delete from leads where id = {id}")).await;
        assert_eq!(source.poll(seconds).await.stopped, 1, "{seconds} s");
    }
    // A row that returns was no loss.
    source.place.sql("insert into leads (id, name) values (2, 'Bell')").await;
    source.poll(7301).await;
    source.place.sql("delete from leads where id = 3").await;
    assert_eq!(source.poll(7302).await.stopped, 1);
    source.place.sql("delete from leads where id = 4").await;
    assert_eq!(source.poll(7303).await.stopped, 0);
    assert_eq!(source.held().await, reason(HoldReason::SourceShrank, 1));
}

async fn a_bulk_change_is_held_as_one_however_many_steps_it_takes_to_read_it(engine: Engine) {
    let source = Source::new(engine, 12_000, 8000).await;
    source.place.sql("update leads set name = 'Changed'").await;
    source.poll(1).await;
    assert_eq!(source.held().await, reason(HoldReason::TooManyChanges, 12_000));

    let source = Source::new(engine, 12_000, 1000).await;
    source.place.sql("update leads set name = case when id > 4200 then 'Changed' else name end").await;
    source.poll(1).await;
    assert_eq!(source.held().await, reason(HoldReason::TooManyChanges, 7800));
}

async fn a_bulk_change_that_needs_no_approval_is_read_row_by_row(engine: Engine) {
    for limit in [0, 20_000] {
        let source = Source::new(engine, 12_000, limit).await;
        source.place.sql("update leads set name = 'Changed'").await;
        assert_eq!(source.poll(1).await.updated, 12_000, "limit {limit}");
        assert_eq!((source.held().await, &*source.kind().await), (BTreeMap::new(), "incremental"), "limit {limit}");
    }
}

async fn rows_without_a_key_outside_the_filter_cost_no_comparison_and_inside_it_are_told(engine: Engine) {
    let source = Source::new(engine, 3, 1000).await;
    source.place.sql("insert into leads (id, name, dealer, kind) values (null, 'Nobody', 'north', 'draft')").await;
    source.place.sql("update leads set name = 'Changed' where id = 2 or id is null").await;
    assert_eq!(source.poll(1).await.updated, 1);
    assert_eq!(source.kind().await, "incremental");
    source.place.sql("update leads set kind = 'lead' where id is null").await;
    assert_eq!(source.poll(2).await.unnamed, 1);
    source.place.sql("update leads set id = 4 where id is null").await;
    assert_eq!(source.poll(3).await.created, 1);
}
