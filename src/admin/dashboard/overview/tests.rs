//! Tests that in no combination of conditions two sentences of the overview contradict each other.

use chrono::TimeDelta;

use super::*;
use crate::rules::poll_record::LastPoll;
use crate::status::{HaltShown, HoldShown};
use crate::store::control::BreakerState;

const AT: DateTime<Utc> = DateTime::UNIX_EPOCH;

#[derive(Debug, Clone, Copy)]
struct OverviewCase {
    halted: bool,
    held: bool,
    paused: bool,
    probing: bool,
    source_away: bool,
    state_away: bool,
    waiting: bool,
    may_be_opt_outs: bool,
    unnamed: bool,
    paused_by_operator: bool,
}

fn every_circumstance() -> impl Iterator<Item = OverviewCase> {
    (0..1024_u16).map(|bits| {
        let is = |bit: u16| bits & (1 << bit) != 0;
        OverviewCase {
            halted: is(0),
            held: is(1),
            paused: is(2),
            probing: is(3),
            source_away: is(4),
            state_away: is(5),
            waiting: is(6),
            may_be_opt_outs: is(7),
            unnamed: is(8),
            paused_by_operator: is(9),
        }
    })
}

fn report(of: OverviewCase) -> StatusReport {
    let mut report = StatusReport::before_the_first_run();
    report.leads.extend([("in_sync", 19), ("assumed", 1370)]);
    report.last_poll = Some(LastPoll {
        at: AT,
        unnamed: if of.unnamed { 3 } else { 0 },
        kind: "full".to_owned(),
        rows: 4_000,
        changed: 0,
        duration_ms: 12,
        error: of.source_away.then(|| "the file is not there".to_owned()),
        cure: None,
        failing_since: None,
        succeeded_at: Default::default(),
        instances: None,
    });
    if of.may_be_opt_outs {
        report.received.possible_opt_outs = 1_200;
    }
    if of.halted {
        report.halt = Some(HaltShown { reason: "forbidden", since: AT, detail: None, cure: "ask" });
    }
    if of.paused_by_operator {
        let (conversation, until, reason) = (None, None, None);
        let pause = OperatorPause { conversation, since: AT, until, reason, who: "anna".to_owned() };
        report.pause = PauseShown::of(vec![pause], AT);
    }
    if of.held {
        report.leads.insert("held", 1_250);
        let reason = "mapping_changed".to_owned();
        report.hold = Some(HoldShown { reason, since: AT, leads: 1_250, new_people: 1_100, assumed_known: 1_000 });
    }
    if of.waiting {
        report.leads.extend([("pending", 1_500), ("retrying", 2)]);
    }
    report.pacing = Some(StoredPace {
        at: AT,
        requests_per_second: 5.0,
        ceiling: 5.0,
        paused_until: of.paused.then(|| AT + TimeDelta::minutes(5)),
        breaker: if of.probing { BreakerState::Open } else { BreakerState::Closed },
        next_probe_at: None,
        failures: 5,
        new_people_wait_until: None,
    });
    report
}

fn details(of: OverviewCase) -> OverviewDetails {
    let mut groups = Vec::new();
    if of.held {
        let group = |reason: &str, leads| WaitingGroup {
            status: LeadStatus::Held,
            reason: reason.to_owned(),
            leads,
            examples: Vec::new(),
        };
        groups = vec![group("mapping_changed", 1_200), group("ambiguous", 50)];
    }
    OverviewDetails {
        at: AT,
        oldest_due: of.waiting.then(|| AT - TimeDelta::hours(1)),
        hour: Vec::new(),
        day: Vec::new(),
        groups,
        needing: Vec::new(),
        decisions: Vec::new(),
        failed: Vec::new(),
        posts: Vec::new(),
        possible_opt_outs: Vec::new(),
    }
}

fn reasons(of: OverviewCase) -> Vec<UnreadyReason> {
    let reason = |reason| UnreadyReason { reason, detail: String::new(), cure: "look" };
    let source = of.source_away.then(|| reason("source"));
    of.state_away.then(|| reason("state")).into_iter().chain(source).collect()
}

fn page(of: OverviewCase) -> String {
    let overview = OverviewPage::of(
        PageFrame::plain("Overview"),
        true,
        &(report(of), details(of)),
        &reasons(of),
        AT + TimeDelta::seconds(3),
    );
    overview.render().unwrap()
}

#[test]
fn no_two_sentences_of_the_overview_contradict_each_other() {
    for of in every_circumstance() {
        let page = page(of);
        let says = |what: &str| page.contains(what);
        let stopped = of.halted || of.state_away || of.paused || of.paused_by_operator;
        let concern = of.may_be_opt_outs || of.unnamed;
        let trouble = stopped || of.held || of.probing || of.source_away || concern;
        let expect = |holds: bool, what: &str| assert!(holds, "{what}: {of:?}\n{page}");
        expect(says("All is well") != trouble, "all is well");
        expect(!stopped || !says("goes on being sent"), "known leads are not sent");
        expect(!stopped || !says("Up to 5 requests a second, as set"), "no request leaves");
        expect(
            !(stopped || of.probing) || !says("none of them overdue") && !says("has been due since"),
            "why leads wait",
        );
        expect(!stopped || !says("to be sent now"), "nothing is sent now");
        expect(!stopped || !says("tried again by itself"), "nothing is tried now");
        let banner = of.halted || of.held || of.source_away || of.state_away || concern;
        expect(!banner || !says("No lead is stuck"), "something needs a person");
        expect(!of.held || !says(">Nothing waits to be sent"), "held leads wait");
        expect(of.waiting != says("waits to be sent."), "whether anything waits");
        expect(!of.waiting || says("1,502 leads wait to be sent"), "as many as the table has");
        expect(
            !of.held || says("Held: 1,250 leads") && says("<strong>1,200 leads</strong>"),
            "the parts are those of the sum",
        );
        expect(!of.held || says("1,100 people would be contacted for the first time"), "new people");
        expect(of.may_be_opt_outs == says("Possible opt-outs: 1,200 damaged posts"), "possible opt-outs");
        expect(of.may_be_opt_outs == says("<code>conversica-sync received --possible-opt-outs</code>"), "what to do");
        expect(of.unnamed == says("Rows without a usable key: 3"), "rows without a key");
        expect(!says("at least"), "every number is exact");
        expect(of.paused_by_operator == says("End the pause"), "a pause is ended where it is shown");
        expect(!of.paused_by_operator || !says("Pause sending"), "it is not begun again");
        expect(of.halted == says("How to fix it"), "how to end a halt");
        let (fix, lift) = (page.find("href=\"/halted\""), page.find("href=\"/act/resume\""));
        expect(fix.is_some() == of.halted && fix <= lift, "the cure comes before the halt is lifted");
        expect(!of.source_away || !says("Last poll just now: 4,000 rows"), "the last poll failed");
    }
}
