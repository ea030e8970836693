//! A report on the leads that Conversica works, for people who lead a team: who is hot, at risk or wants an answer, by
//! conversation, rep and source, the way through the stages, and how long people wait. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::conversica::lead::LeadId;
use crate::conversica::vocabulary::STAGES;
use crate::rules::lead_person::LeadPerson;

/// People in one list.
pub const LISTED: usize = 25;
/// Names in one table; the rest are counted together.
const NAMES: usize = 12;

/// What is known of one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationFacts {
    pub lead: LeadId,
    pub person: LeadPerson,
    /// The keys of its Lead Updates, merged.
    pub picture: Map<String, Value>,
    pub last_heard_at: DateTime<Utc>,
    /// When the CRM made the lead, as its `date` says.
    pub created_at: Option<DateTime<Utc>>,
    /// When Conversica first took it from here.
    pub accepted_at: Option<DateTime<Utc>>,
}

impl ConversationFacts {
    fn text(&self, key: &str) -> &str {
        self.picture.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, key: &str) -> bool {
        self.picture.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn date(&self, key: &str) -> Option<DateTime<Utc>> {
        instant_of(self.picture.get(key)?.as_str()?)
    }

    /// When that came true: by its own date, or when it was heard last.
    fn since(&self, key: &str, date: &str) -> Option<DateTime<Utc>> {
        self.is(key).then(|| self.date(date).unwrap_or(self.last_heard_at))
    }

    fn hot_since(&self) -> Option<DateTime<Utc>> {
        let by_status = (self.text("leadStatus") == "Hot Lead")
            .then(|| self.date("hotLeadDate").or(self.date("leadStatusDate")).unwrap_or(self.last_heard_at));
        self.since("hotLead", "hotLeadDate").or(by_status)
    }

    fn replied_at(&self) -> Option<DateTime<Utc>> {
        let answered = self.text("conversationStatus") == "Received Response";
        self.date("lastResponseDate").or(answered.then_some(self.last_heard_at))
    }
}

/// Reads a datetime with a zone.
pub fn instant_of(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

/// A person in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedPerson {
    pub lead: LeadId,
    pub person: LeadPerson,
    pub at: DateTime<Utc>,
}

/// The newest people of a kind, and how many there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeopleList {
    pub people: Vec<ReportedPerson>,
    pub all: u64,
}

impl PeopleList {
    fn add(&mut self, facts: &ConversationFacts, at: DateTime<Utc>) {
        self.all += 1;
        if self.people.len() >= 2 * LISTED {
            self.cut();
        }
        self.people.push(ReportedPerson { lead: facts.lead.clone(), person: facts.person.clone(), at });
    }

    fn cut(&mut self) {
        self.people.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.lead.cmp(&b.lead)));
        self.people.truncate(LISTED);
    }
}

/// Numbers of people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeopleCounts {
    /// Conversica has posted something about them.
    pub heard: u64,
    pub replied: u64,
    pub hot: u64,
    pub at_risk: u64,
    pub action_required: u64,
    pub opted_out: u64,
}

impl PeopleCounts {
    fn add(&mut self, other: PeopleCounts) {
        self.heard += other.heard;
        self.replied += other.replied;
        self.hot += other.hot;
        self.at_risk += other.at_risk;
        self.action_required += other.action_required;
        self.opted_out += other.opted_out;
    }
}

/// How long something takes: the half of the people wait for less than the median, nine in ten for less than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingTime {
    pub people: u64,
    pub median: TimeDelta,
    pub nine_in_ten: TimeDelta,
}

/// Waits in steps of some percent, so that a million people take no memory.
#[derive(Debug, Clone, Default, PartialEq)]
struct WaitingSteps(BTreeMap<u32, u64>);

/// How many steps double a wait.
const STEPS: f64 = 16.0;

impl WaitingSteps {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small positive numbers"
    )]
    fn add(&mut self, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) {
        let Some(seconds) = from.zip(to).map(|(from, to)| (to - from).num_seconds()).filter(|wait| *wait >= 0) else {
            return;
        };
        let step = ((seconds as f64 + 1.0).log2() * STEPS).round() as u32;
        *self.0.entry(step).or_default() += 1;
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds of a wait")]
    fn waiting_time(&self) -> Option<WaitingTime> {
        let people: u64 = self.0.values().sum();
        let at = |rank: u64| {
            let mut below = 0;
            let step = self.0.iter().find(|(_, people)| {
                below += **people;
                below >= rank
            });
            step.map(|(step, _)| TimeDelta::seconds(((f64::from(*step) / STEPS).exp2() - 1.0).round() as i64))
        };
        Some(WaitingTime {
            people,
            median: at(people.div_ceil(2).max(1))?,
            nine_in_ten: at((people * 9).div_ceil(10).max(1))?,
        })
    }
}

/// The way from the CRM to the first message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeadSpeed {
    pub created_to_accepted: Option<WaitingTime>,
    pub accepted_to_message: Option<WaitingTime>,
    pub created_to_message: Option<WaitingTime>,
}

/// The report about a span of time.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationReport {
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub all: PeopleCounts,
    pub hot: PeopleList,
    pub at_risk: PeopleList,
    pub action_required: PeopleList,
    pub replied: PeopleList,
    /// Of the ledger of consent, which this file does not read.
    pub opt_outs: PeopleList,
    /// The largest first; blank names are those without one.
    pub conversations: Vec<(String, PeopleCounts)>,
    pub reps: Vec<(String, PeopleCounts)>,
    pub sources: Vec<(String, PeopleCounts)>,
    /// The number of people at each stage; Conversica's own stages first, in their order.
    pub stages: Vec<(String, u64)>,
    /// Hot leads of each day, oldest first.
    pub hot_days: Vec<(DateTime<Utc>, u64)>,
    pub speed: LeadSpeed,
}

/// A report under construction.
#[derive(Debug, Clone)]
pub struct ReportBuilder {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    all: PeopleCounts,
    hot: PeopleList,
    at_risk: PeopleList,
    action_required: PeopleList,
    replied: PeopleList,
    conversations: BTreeMap<String, PeopleCounts>,
    reps: BTreeMap<String, PeopleCounts>,
    sources: BTreeMap<String, PeopleCounts>,
    stages: BTreeMap<String, u64>,
    hot_days: BTreeMap<i64, u64>,
    waits: [WaitingSteps; 3],
}

/// In seconds.
const DAY: i64 = 86_400;
/// Names that are told apart; the mapping may use a name for each lead.
const MOST_NAMES: usize = 5_000;

impl ReportBuilder {
    pub fn new(since: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self {
            since,
            until,
            all: PeopleCounts::default(),
            hot: PeopleList::default(),
            at_risk: PeopleList::default(),
            action_required: PeopleList::default(),
            replied: PeopleList::default(),
            conversations: BTreeMap::new(),
            reps: BTreeMap::new(),
            sources: BTreeMap::new(),
            stages: BTreeMap::new(),
            hot_days: BTreeMap::new(),
            waits: Default::default(),
        }
    }

    /// Adds a conversation about which Conversica posted something in the span of time. `opted_out` is whether its person withdrew consent in it.
    pub fn add(&mut self, facts: &ConversationFacts, opted_out: u64) {
        let within = |at: &DateTime<Utc>| *at >= self.since && *at < self.until;
        let hot = facts.hot_since().filter(within);
        let at_risk = facts.since("leadAtRisk", "leadAtRiskDate").filter(within);
        let action_required = facts.since("actionRequired", "actionRequiredDate").filter(within);
        let replied = facts.replied_at().filter(within);
        let message = facts.date("firstMessageDate").filter(within);
        let one = |at: Option<DateTime<Utc>>| u64::from(at.is_some());
        let counts = PeopleCounts {
            heard: 1,
            replied: one(replied),
            hot: one(hot),
            at_risk: one(at_risk),
            action_required: one(action_required),
            opted_out,
        };
        let lists = [
            (&mut self.hot, hot),
            (&mut self.at_risk, at_risk),
            (&mut self.action_required, action_required),
            (&mut self.replied, replied),
        ];
        for (list, at) in lists {
            if let Some(at) = at {
                list.add(facts, at);
            }
        }
        self.all.add(counts);
        let person = &facts.person;
        for (names, name) in [
            (&mut self.conversations, &person.conversation),
            (&mut self.reps, &person.rep),
            (&mut self.sources, &person.source),
        ] {
            if names.len() < MOST_NAMES || names.contains_key(name) {
                names.entry(name.clone()).or_default().add(counts);
            }
        }
        let stage = facts.text("conversationStage");
        if self.stages.len() < MOST_NAMES || self.stages.contains_key(stage) {
            *self.stages.entry(stage.to_owned()).or_default() += 1;
        }
        if let Some(at) = hot {
            *self.hot_days.entry(at.timestamp().div_euclid(DAY)).or_default() += 1;
        }
        if message.is_some() {
            let (created, accepted) = (facts.created_at, facts.accepted_at);
            self.waits[0].add(created, accepted);
            self.waits[1].add(accepted, message);
            self.waits[2].add(created, message);
        }
    }

    pub fn finish(mut self) -> ConversationReport {
        for list in [&mut self.hot, &mut self.at_risk, &mut self.action_required, &mut self.replied] {
            list.cut();
        }
        let (first, last) = (self.since.timestamp().div_euclid(DAY), (self.until.timestamp() - 1).div_euclid(DAY));
        let day = |day: i64| DateTime::from_timestamp(day * DAY, 0).unwrap_or(self.since);
        let of_day = |number: i64| (day(number), self.hot_days.get(&number).copied().unwrap_or(0));
        let [created_to_accepted, accepted_to_message, created_to_message] =
            self.waits.each_ref().map(WaitingSteps::waiting_time);
        ConversationReport {
            since: self.since,
            until: self.until,
            all: self.all,
            hot_days: (first..=last).map(of_day).collect(),
            hot: self.hot,
            at_risk: self.at_risk,
            action_required: self.action_required,
            replied: self.replied,
            opt_outs: PeopleList::default(),
            conversations: largest(self.conversations),
            reps: largest(self.reps),
            sources: largest(self.sources),
            stages: in_order(self.stages),
            speed: LeadSpeed { created_to_accepted, accepted_to_message, created_to_message },
        }
    }
}

/// The name under which the remaining names are counted.
pub const OTHERS: &str = "\u{2026}";

fn largest(names: BTreeMap<String, PeopleCounts>) -> Vec<(String, PeopleCounts)> {
    let mut all: Vec<(String, PeopleCounts)> = names.into_iter().collect();
    all.sort_by(|a, b| b.1.heard.cmp(&a.1.heard).then_with(|| a.0.cmp(&b.0)));
    if all.len() > NAMES {
        let mut others = PeopleCounts::default();
        all.split_off(NAMES - 1).into_iter().for_each(|(_, counts)| others.add(counts));
        all.push((OTHERS.to_owned(), others));
    }
    all
}

fn in_order(mut stages: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let known = STAGES.iter().map(|(stage, _)| ((*stage).to_owned(), stages.remove(*stage).unwrap_or(0)));
    let mut ordered: Vec<(String, u64)> = known.collect();
    let mut others: Vec<(String, u64)> = stages.into_iter().collect();
    others.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if others.len() > NAMES {
        let rest = others.split_off(NAMES - 1).into_iter().map(|(_, people)| people).sum();
        others.push((OTHERS.to_owned(), rest));
    }
    ordered.extend(others);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> DateTime<Utc> {
        instant_of(text).unwrap()
    }

    fn facts(id: u32, rep: &str, picture: Value) -> ConversationFacts {
        ConversationFacts {
            lead: LeadId { id: id.to_string(), client_id: String::new() },
            person: LeadPerson { name: format!("Ann {id}"), rep: rep.to_owned(), ..LeadPerson::default() },
            picture: picture.as_object().cloned().unwrap(),
            last_heard_at: at("2026-11-20T12:00:00Z"),
            created_at: Some(at("2026-11-19T08:00:00Z")),
            accepted_at: Some(at("2026-11-19T08:01:00Z")),
        }
    }

    fn report(all: &[ConversationFacts]) -> ConversationReport {
        let mut builder = ReportBuilder::new(at("2026-11-15T00:00:00Z"), at("2026-11-21T09:00:00Z"));
        all.iter().for_each(|facts| builder.add(facts, u64::from(facts.is("doNotEmail"))));
        builder.finish()
    }

    #[test]
    fn people_are_listed_and_counted_by_what_is_true_of_them_in_the_span_of_time() {
        let report = report(&[
            facts(
                1,
                "Rae",
                json!({"conversationStage": "Messaging", "hotLead": true, "hotLeadDate": "2026-11-18T09:00:00+00:00"}),
            ),
            facts(2, "Rae", json!({"conversationStage": "Messaging", "conversationStatus": "Received Response"})),
            facts(3, "Sam", json!({"conversationStage": "Lead Stopped", "doNotEmail": true})),
            facts(
                4,
                "",
                json!({"leadAtRisk": true, "leadAtRiskDate": "2026-10-01T00:00:00+00:00", "conversationStage": "Musing"}),
            ),
            facts(5, "Rae", json!({"actionRequired": true, "hotLead": false})),
        ]);
        assert_eq!(
            report.all,
            PeopleCounts { heard: 5, replied: 1, hot: 1, at_risk: 0, action_required: 1, opted_out: 1 }
        );
        assert_eq!(report.hot.people[0].person.name, "Ann 1");
        assert_eq!((report.replied.all, report.action_required.people[0].lead.id.as_str()), (1, "5"));
        let reps: Vec<_> = report.reps.iter().map(|(rep, counts)| (rep.as_str(), counts.heard)).collect();
        assert_eq!(reps, [("Rae", 3), ("", 1), ("Sam", 1)]);
        let stages: Vec<_> = report.stages.iter().filter(|(_, people)| *people > 0).cloned().collect();
        let stage = |name: &str, people| (name.to_owned(), people);
        assert_eq!(stages, [stage("Messaging", 2), stage("Lead Stopped", 1), stage("", 1), stage("Musing", 1)]);
        let days: Vec<u64> = report.hot_days.iter().map(|(_, people)| *people).collect();
        assert_eq!(days, [0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn waits_are_told_by_their_middle_to_a_few_percent() {
        let all: Vec<ConversationFacts> = (1..=99)
            .map(|minutes| {
                let message = at("2026-11-19T08:01:00Z") + TimeDelta::minutes(minutes);
                facts(1, "Rae", json!({"firstMessageDate": message.to_rfc3339()}))
            })
            .collect();
        let speed = report(&all).speed;
        let time = speed.accepted_to_message.unwrap();
        assert_eq!(time.people, 99);
        let near = |is: TimeDelta, minutes: i64| (is.num_seconds() - minutes * 60).abs() <= minutes * 3;
        assert!(near(time.median, 50) && near(time.nine_in_ten, 90), "{time:?}");
        assert!(near(speed.created_to_accepted.unwrap().median, 1));
        assert_eq!(report(&[]).speed, LeadSpeed::default());
    }

    #[test]
    fn of_many_people_the_newest_are_listed_and_of_many_names_the_largest() {
        let all: Vec<ConversationFacts> = (0..500)
            .map(|n| {
                let hot = at("2026-11-16T00:00:00Z") + TimeDelta::minutes(i64::from(n * 7 % 500));
                facts(n, &format!("Rep {}", n % 40), json!({"hotLead": true, "hotLeadDate": hot.to_rfc3339()}))
            })
            .collect();
        let report = report(&all);
        assert_eq!((report.hot.all, report.hot.people.len()), (500, LISTED));
        let newest = at("2026-11-16T00:00:00Z") + TimeDelta::minutes(499);
        assert!(report.hot.people.iter().all(|one| newest - one.at < TimeDelta::minutes(25)));
        assert_eq!((report.reps.len(), report.reps[11].0.as_str()), (NAMES, OTHERS));
        assert_eq!(report.reps.iter().map(|(_, counts)| counts.heard).sum::<u64>(), 500);
    }
}
