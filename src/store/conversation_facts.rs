//! Tables `conversation`, `lead` and `consent`, for the report to people who lead a team: read part by part, in the order of the
//! leads, so that a million conversations need no memory and hold no snapshot open.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::conversica::lead::LeadId;
use crate::rules::conversation_report::{
    ConversationFacts, ConversationReport, LISTED, PeopleList, ReportBuilder, ReportedPerson, instant_of,
};
use crate::rules::lead_person::LeadPerson;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// Conversations that are read at once.
const PART: i64 = 5_000;

/// A conversation with its lead.
#[derive(FromRow)]
struct ConversationRow {
    id: String,
    client_id: String,
    picture: String,
    last_heard_at: i64,
    body: Option<String>,
    first_contact_at: Option<i64>,
    assumed_at: Option<i64>,
    opt_outs: i64,
}

impl ConversationRow {
    fn into_facts(self) -> (ConversationFacts, u64) {
        let person = LeadPerson::of_lead_object(self.body.as_deref().unwrap_or_default());
        let facts = ConversationFacts {
            lead: LeadId { id: self.id, client_id: self.client_id },
            picture: serde_json::from_str(&self.picture).unwrap_or_default(),
            last_heard_at: instant(self.last_heard_at),
            created_at: instant_of(&person.date),
            accepted_at: self.first_contact_at.filter(|_| self.assumed_at.is_none()).map(instant),
            person,
        };
        (facts, u64::from(self.opt_outs > 0))
    }
}

/// The report about the conversations about which Conversica posted something in that span of time.
pub async fn read_report(
    db: &StateDb,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<ConversationReport, sqlx::Error> {
    let mut builder = ReportBuilder::new(since, until);
    let mut after: Option<LeadId> = None;
    loop {
        let mut part = StateStatement::new(
            "select c.id, c.client_id, c.picture, c.last_heard_at, coalesce(lead.desired, lead.delivered) as body, \
             lead.first_contact_at, lead.assumed_at, (select count(*) from consent k where k.id = c.id \
             and k.client_id = c.client_id and k.given = 0 and k.source = 'conversica' and k.heard_at >= ",
        );
        part.push_bind(micros(since));
        part.push(
            ") as opt_outs from conversation c left join lead on lead.id = c.id and lead.client_id = c.client_id \
             where c.last_heard_at >= ",
        );
        part.push_bind(micros(since)).push(" and c.first_heard_at < ").push_bind(micros(until));
        if let Some(after) = &after {
            part.push(" and (c.id, c.client_id) > (").push_bind(&after.id).push(", ");
            part.push_bind(&after.client_id).push(")");
        }
        part.push(&format!(" order by c.id, c.client_id limit {PART}"));
        let rows: Vec<ConversationRow> = db.fetch_all(part).await?;
        let is_last = i64::try_from(rows.len()).is_ok_and(|rows| rows < PART);
        for row in rows {
            let (facts, opted_out) = row.into_facts();
            builder.add(&facts, opted_out);
            after = Some(facts.lead);
        }
        if is_last {
            break;
        }
    }
    let mut report = builder.finish();
    report.opt_outs = opt_outs(db, since, until).await?;
    Ok(report)
}

/// The newest withdrawals of consent that Conversica has reported.
async fn opt_outs(db: &StateDb, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<PeopleList, sqlx::Error> {
    const WITHDRAWN: &str = "given = 0 and source = 'conversica' and heard_at >= $1 and heard_at < $2";
    let span = |text: String| StateStatement::new(text).bind(micros(since)).bind(micros(until));
    let count =
        span(format!("select count(*) from (select distinct id, client_id from consent where {WITHDRAWN}) people"));
    let (all,): (i64,) = db.fetch_one(count).await?;
    let newest = span(format!(
        "select k.id, k.client_id, k.heard_at, coalesce(lead.desired, lead.delivered) from \
         (select id, client_id, max(heard_at) as heard_at from consent where {WITHDRAWN} group by id, client_id \
         order by 3 desc, 1, 2 limit {LISTED}) k \
         left join lead on lead.id = k.id and lead.client_id = k.client_id order by 3 desc, 1, 2"
    ));
    let rows: Vec<(String, String, i64, Option<String>)> = db.fetch_all(newest).await?;
    let person = |(id, client_id, at, body): (String, String, i64, Option<String>)| ReportedPerson {
        lead: LeadId { id, client_id },
        person: LeadPerson::of_lead_object(body.as_deref().unwrap_or_default()),
        at: instant(at),
    };
    Ok(PeopleList { people: rows.into_iter().map(person).collect(), all: u64::try_from(all).unwrap_or(0) })
}
