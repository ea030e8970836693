//! Random histories of rows, polls, posts, claims, answers, crashes, erasures and changes of the suppression list, on both engines: no
//! payload introduces a person who is listed or has opted out under another id, and none that Conversica knows is sent without
//! the opt-out. In the end every lead is as the list and the people say.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::engine::{Engine, on_both_engines};
use crate::support::hearing::update;
use crate::support::lead_row::{LEASE, at, finished, id, record, resend, row, tester};
use conversica_sync::conversica::lead::RowHash;
use conversica_sync::conversica::outcome::OutcomeClass;
use conversica_sync::rules::contact::ContactPoint;
use conversica_sync::rules::content_hold::ContentHoldPolicy;
use conversica_sync::rules::diff::{self, RowDifference};
use conversica_sync::rules::lead_change::KnownLead;
use conversica_sync::rules::lead_claim::LeadClaim;
use conversica_sync::rules::lead_status::LeadStatus;
use conversica_sync::rules::mapping::MappedRow;
use conversica_sync::rules::retry::NextStep;
use conversica_sync::rules::suppression_ground::SuppressionScope;
use conversica_sync::send::consent::{self, LedgerUse};
use conversica_sync::send::people::record_people;
use conversica_sync::send::suppressed::mark_suppressed;
use conversica_sync::store::delivery::{self, ClaimRequest};
use conversica_sync::store::erase::{self, ErasureOutcome, ToldFact};
use conversica_sync::store::held::{self, HeldSelection, ReleaseKind};
use conversica_sync::store::lead_record::find_record;
use conversica_sync::store::orphan::{self, OrphanScope};
use conversica_sync::store::state_db::StateDb;
use conversica_sync::store::{compare, lead, suppression, suppression_review};

on_both_engines!(no_history_leads_to_a_payload_for_a_listed_person);

const IDS: [&str; 4] = ["1", "2", "3", "4"];
const ADDRESSES: [&str; 3] = ["ann@example.com", "Bea@Mail.Example.com", "cleo@other.example"];
const NUMBERS: [&str; 2] = ["+1 555 867 5301", "(555) 867-5302"];
/// What may be on the list: the addresses, the numbers and a domain.
const ENTRIES: [&str; 6] =
    ["ANN@example.com", "bea@mail.example.com", "cleo@other.example", "5558675301", "+15558675302", "example.com"];

#[derive(Debug, Clone)]
enum Step {
    Row { id: usize, address: usize, number: usize, opt_out: bool },
    Look(usize),
    Write(usize),
    Hold(usize),
    Approve,
    List(usize),
    Unlist(usize),
    Review,
    Claim,
    Answer(usize, OutcomeClass),
    Crash,
    Vanish(usize),
    Hear(usize, HeardWish),
    Erase(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeardWish {
    NoEmail,
    Email,
    NoSms,
    Sms,
}

/// Addresses and numbers, as a content has them.
type Points = BTreeSet<String>;

/// What is known of a person by one lead: opt-outs heard, and those that its row says.
#[derive(Debug, Default)]
struct Person {
    no_email: bool,
    no_sms: bool,
    heard: Points,
    by_row: Points,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop::sample::select(OutcomeClass::ALL.to_vec());
    let wish = prop::sample::select(vec![HeardWish::NoEmail, HeardWish::Email, HeardWish::NoSms, HeardWish::Sms]);
    prop_oneof![
        4 => (0..4_usize, 0..3_usize, 0..2_usize, prop::bool::weighted(0.1))
            .prop_map(|(id, address, number, opt_out)| Step::Row { id, address, number, opt_out }),
        6 => (0..4_usize).prop_map(Step::Look),
        6 => (0..4_usize).prop_map(Step::Write),
        1 => (0..4_usize).prop_map(Step::Hold),
        1 => Just(Step::Approve),
        2 => (0..6_usize).prop_map(Step::List),
        2 => (0..6_usize).prop_map(Step::Unlist),
        2 => Just(Step::Review),
        5 => Just(Step::Claim),
        6 => (0..4_usize, class).prop_map(|(place, class)| Step::Answer(place, class)),
        1 => Just(Step::Crash),
        1 => (0..4_usize).prop_map(Step::Vanish),
        2 => (0..4_usize, wish).prop_map(|(place, wish)| Step::Hear(place, wish)),
        1 => (0..12_usize).prop_map(|place| if place < 2 { Step::Erase(place) } else { Step::Review }),
    ]
}

struct Play {
    /// The instance that polls.
    db: StateDb,
    /// The instance that receives and sends.
    other: StateDb,
    seconds: i64,
    rows: BTreeMap<usize, (String, i64)>,
    looked: BTreeMap<usize, (MappedRow, Option<KnownLead>, Option<String>)>,
    listed: BTreeSet<usize>,
    in_flight: Vec<LeadClaim>,
    /// Leads that Conversica has, or may have.
    introduced: BTreeSet<String>,
    people: BTreeMap<usize, Person>,
    erased: BTreeSet<usize>,
    /// Opt-outs of erased leads.
    remembered: Points,
}

fn address_of(body: &str) -> String {
    ADDRESSES.iter().find(|address| body.contains(**address)).unwrap().to_string()
}

fn number_of(body: &str) -> String {
    NUMBERS.iter().find(|number| body.contains(**number)).unwrap().to_string()
}

fn points(place: usize) -> Vec<ContactPoint> {
    vec![ContactPoint::parse(ENTRIES[place]).unwrap()]
}

impl Play {
    /// Whether an entry of the list ends e-mails, and text messages, to the person of a content.
    fn ends(&self, body: &str, own: &str) -> (bool, bool) {
        let others = self.people.iter().filter(|(place, _)| IDS[**place] != own).map(|(_, person)| person);
        let named: Points = others.flat_map(|person| person.heard.union(&person.by_row).cloned()).collect();
        let is_out = |point: &String| named.contains(point) || self.remembered.contains(point);
        let (address, number) = (address_of(body), number_of(body));
        let has = |place: usize| self.listed.contains(&place);
        let mail = [("ann@example", 0), ("Bea@", 1), ("cleo@", 2)]
            .iter()
            .any(|(text, place)| body.contains(text) && has(*place));
        let domain = has(5) && (body.contains("ann@") || body.contains("Bea@"));
        let by_list = [("5301", 3), ("5302", 4)].iter().any(|(text, place)| body.contains(text) && has(*place));
        (mail || domain || is_out(&address), by_list || is_out(&number))
    }

    async fn step(&mut self, step: &Step) {
        self.seconds += 1;
        let now = at(self.seconds);
        match step {
            Step::Row { id, address, number, opt_out } => {
                let body = format!(
                    r#"{{"id":"{}","email":"{}","optOut":{opt_out},"cellPhone":"{}","smsOptIn":true,"city":"{}"}}"#,
                    IDS[*id],
                    ADDRESSES[*address],
                    NUMBERS[*number],
                    self.seconds % 3
                );
                if !self.erased.contains(id) {
                    self.rows.insert(*id, (body, self.seconds));
                }
            }
            Step::Look(place) => self.look(*place).await,
            Step::Write(place) => self.write(*place, false).await,
            Step::Hold(place) => self.write(*place, true).await,
            Step::Approve => {
                held::release_all(&self.db, &HeldSelection::default(), ReleaseKind::Send, now).await.unwrap();
            }
            Step::List(place) => {
                suppression::add(&self.db, &points(*place), now).await.unwrap();
                self.listed.insert(*place);
            }
            Step::Unlist(place) => {
                suppression::remove(&self.db, &points(*place), now).await.unwrap();
                self.listed.remove(place);
            }
            Step::Review => {
                suppression_review::review(&self.db, SuppressionScope::Person, now).await.unwrap();
            }
            Step::Claim => self.claim().await,
            Step::Answer(place, class) => {
                if self.in_flight.is_empty() {
                    return;
                }
                let claim = self.in_flight.remove(place % self.in_flight.len());
                let next = match class {
                    OutcomeClass::Accepted => NextStep::Done,
                    OutcomeClass::Rejected => NextStep::Rejected,
                    OutcomeClass::Halting => NextStep::Untried,
                    OutcomeClass::Transient | OutcomeClass::Ambiguous => NextStep::RetryAt(at(self.seconds + 2)),
                };
                if matches!(class, OutcomeClass::Accepted | OutcomeClass::Ambiguous) {
                    self.introduced.insert(claim.lead.id.clone());
                }
                record(&self.other, &[finished(&claim, *class, next, self.seconds)]).await;
            }
            Step::Crash => {
                self.introduced.extend(self.in_flight.drain(..).map(|claim| claim.lead.id));
                orphan::recover(&self.db, OrphanScope::All, &resend(), now).await.unwrap();
            }
            Step::Hear(place, wish) => self.hear(*place, *wish).await,
            Step::Erase(place) => {
                let lead = id(IDS[*place]);
                if self.in_flight.iter().any(|claim| claim.lead == lead) || self.erased.contains(place) {
                    return;
                }
                let erased = erase::erase(&self.db, &lead, ToldFact::ByHand, &tester(), now).await.unwrap();
                assert!(matches!(erased, ErasureOutcome::Done(_)), "{erased:?}");
                self.rows.remove(place);
                self.looked.remove(place);
                self.erased.insert(*place);
                let person = self.people.remove(place).unwrap_or_default();
                self.remembered.extend(person.heard.into_iter().chain(person.by_row));
            }
            Step::Vanish(place) => {
                if self.rows.remove(place).is_some() {
                    self.looked.remove(place);
                    lead::mark_gone(&self.db, &[id(IDS[*place])], now).await.unwrap();
                }
            }
        }
    }

    async fn hear(&mut self, place: usize, wish: HeardWish) {
        if self.erased.contains(&place) {
            return;
        }
        let (key, value) = match wish {
            HeardWish::NoEmail => ("doNotEmail", true),
            HeardWish::Email => ("doNotEmail", false),
            HeardWish::NoSms => ("smsOptOut", true),
            HeardWish::Sms => ("smsOptIn", true),
        };
        let post = serde_json::json!({"id": IDS[place], key: value, "note": self.seconds});
        let stored = find_record(&self.other, &id(IDS[place])).await.unwrap();
        let content = stored.and_then(|stored| stored.desired.clone().or(stored.accepted_content().map(str::to_owned)));
        update(&self.other, post, at(self.seconds)).await;
        let person = self.people.entry(place).or_default();
        match wish {
            HeardWish::NoEmail => person.no_email = true,
            HeardWish::Email => {
                person.no_email = false;
                person.heard.retain(|point| !point.contains('@'));
            }
            HeardWish::NoSms => person.no_sms = true,
            HeardWish::Sms => {
                person.no_sms = false;
                person.heard.retain(|point| point.contains('@'));
            }
        }
        self.add_heard(place, content.as_deref());
    }

    fn add_heard(&mut self, place: usize, content: Option<&str>) {
        let (Some(person), Some(content)) = (self.people.get_mut(&place), content) else { return };
        person.heard.extend(person.no_email.then(|| address_of(content)));
        person.heard.extend(person.no_sms.then(|| number_of(content)));
    }

    async fn look(&mut self, place: usize) {
        let Some((body, version)) = self.rows.get(&place).cloned() else { return };
        let lead = id(IDS[place]);
        let known = lead::known(&self.db, std::slice::from_ref(&lead)).await.unwrap();
        let hash = RowHash(version);
        if known.get(&lead).is_some_and(|known| !known.gone && known.row_hash == Some(hash)) {
            return;
        }
        let mapped = MappedRow {
            lead: lead.clone(),
            desired: Ok(body),
            withdrawn: Vec::new(),
            odd: Vec::new(),
            row_hash: Some(hash),
            grounds: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        };
        let rows = vec![(mapped, None)];
        let now = at(self.seconds);
        record_people(&self.db, &rows, &known, now).await.unwrap();
        let body = &self.rows[&place].0.clone();
        self.add_heard(place, Some(body));
        let said = body.contains("\"optOut\":true").then(|| address_of(body));
        let person = self.people.entry(place).or_default();
        match said {
            Some(address) => _ = person.by_row.insert(address),
            None => person.by_row.clear(),
        }
        let rows = consent::keep(&self.db, rows, LedgerUse::Write, SuppressionScope::Person, now).await.unwrap();
        let mut rows = mark_suppressed(&self.db, SuppressionScope::Person, rows, &known).await.unwrap();
        let delivered = lead::delivered(&self.db, std::slice::from_ref(&lead)).await.unwrap().remove(&lead);
        self.looked.insert(place, (rows.remove(0), known.get(&lead).cloned(), delivered));
    }

    async fn write(&mut self, place: usize, holds: bool) {
        let Some((mapped, known, delivered)) = self.looked.remove(&place) else { return };
        let now = at(self.seconds);
        match diff::compare(mapped, known.as_ref(), delivered.as_deref(), &ContentHoldPolicy::none()) {
            RowDifference::None => {}
            RowDifference::Reread(lead, hash) => compare::remember(&self.db, &[(lead, hash)]).await.unwrap(),
            RowDifference::Returned => lead::mark_returned(&self.db, known.as_slice(), now).await.unwrap(),
            RowDifference::Changed(mut change, kind) => {
                let hold = conversica_sync::rules::hold_reason::HoldReason::TooManyChanges;
                change.hold_reason = (holds && kind.sends() && !change.urgent).then_some(hold);
                lead::upsert(&self.db, &[change], now, now).await.unwrap();
            }
        }
    }

    async fn claim(&mut self) {
        let now = at(self.seconds);
        let claims = delivery::record_and_claim(&self.other, &[], ClaimRequest::up_to(5), now, LEASE).await.unwrap();
        for claim in claims {
            let (email, sms) = self.ends(&claim.body, &claim.lead.id);
            if email || sms {
                assert!(self.introduced.contains(&claim.lead.id), "a listed person is introduced: {claim:?}");
            }
            assert!(!email || claim.body.contains(r#""optOut":true"#), "{claim:?}");
            assert!(!sms || claim.body.contains(r#""smsOptOut":true"#), "{claim:?}");
            assert!(!sms || !claim.body.contains(r#""smsOptIn":true"#), "{claim:?}");
            self.in_flight.push(claim);
        }
    }

    /// The list is applied, all rows are polled and everything is accepted.
    async fn settle(&mut self) {
        self.step(&Step::Crash).await;
        self.looked.clear();
        for _ in 0..4 {
            self.step(&Step::Review).await;
            for place in 0..IDS.len() {
                self.step(&Step::Look(place)).await;
                self.step(&Step::Write(place)).await;
            }
            self.step(&Step::Approve).await;
            self.seconds += 4000;
            self.step(&Step::Claim).await;
            while !self.in_flight.is_empty() {
                self.step(&Step::Answer(0, OutcomeClass::Accepted)).await;
            }
        }
        for (place, (body, _)) in &self.rows {
            let (email, sms) = self.ends(body, IDS[*place]);
            let own = self.people.get(place).is_some_and(|person| person.no_email || person.no_sms);
            let stored = row(&self.db, IDS[*place]).await;
            let is_introduced = self.introduced.contains(IDS[*place]);
            match stored.status.as_str() {
                "suppressed" => {
                    assert!(!is_introduced && (email || sms || !self.erased.is_empty()), "{stored:?}");
                }
                "rejected" => {}
                "in_sync" => {
                    assert!(is_introduced, "{stored:?}");
                    let delivered = stored.delivered.clone().or(stored.desired.clone()).unwrap();
                    assert!(!email || delivered.contains(r#""optOut":true"#), "{stored:?}");
                    assert!(!sms || delivered.contains(r#""smsOptOut":true"#), "{stored:?}");
                    assert!(
                        email || sms || own || !self.erased.is_empty() || delivered == *body,
                        "what was lifted is sent again: {stored:?}"
                    );
                }
                other => panic!("{other}: {stored:?}"),
            }
        }
    }
}

async fn no_history_leads_to_a_payload_for_a_listed_person(engine: Engine) {
    let place = engine.place();
    let (db, other) = (place.state().await, place.state().await);
    let mut runner = TestRunner::deterministic();
    let mut suppressed = 0;
    for _ in 0..engine.pick(150, 50) {
        let steps = prop::collection::vec(step(), 20..80).new_tree(&mut runner).unwrap().current();
        let mut play = Play {
            db: db.clone(),
            other: other.clone(),
            seconds: 10,
            rows: BTreeMap::new(),
            looked: BTreeMap::new(),
            listed: BTreeSet::new(),
            in_flight: Vec::new(),
            introduced: BTreeSet::new(),
            people: BTreeMap::new(),
            erased: BTreeSet::new(),
            remembered: Points::new(),
        };
        for step in &steps {
            play.step(step).await;
        }
        play.settle().await;
        suppressed += lead::counts(&db).await.unwrap()[&LeadStatus::Suppressed];
        for table in [
            "decided",
            "decision",
            "outcome",
            "payload",
            "lead",
            "suppression",
            "control",
            "consent",
            "event",
            "conversation",
            "writeback",
            "possible_opt_out",
            "tombstone",
        ] {
            db.execute(format!("delete from {table}")).await.unwrap();
        }
    }
    assert!(suppressed > 5, "the histories suppress somebody");
}
