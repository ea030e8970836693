//! What the page of leads shows: which leads, in which order, and from where on. It is read from an address, and names the
//! addresses of the pages around it.

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::frame::{QueryParameters, query};
use crate::conversica::lead::LeadId;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;
use crate::store::lead_table::{LeadFilter, LeadOrder, LeadPlace, LeadScope, PageStart, TableCounts};
use crate::store::{instant, micros};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListView {
    pub filter: LeadFilter,
    pub order: LeadOrder,
    pub start: PageStart,
    /// The days of the filter, as they were asked for.
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
}

/// How many leads a scope has.
pub fn of_scope(scope: LeadScope, report: &StatusReport) -> i64 {
    let wanted = |status: &LeadStatus| match scope {
        LeadScope::All => true,
        LeadScope::Waiting => !status.is_settled(),
        LeadScope::Status(only) => *status == only,
    };
    LeadStatus::ALL.into_iter().filter(wanted).map(|status| report.leads(status)).sum()
}

fn day(text: &str) -> Option<NaiveDate> {
    text.trim().parse().ok()
}

fn midnight(day: NaiveDate) -> Option<DateTime<Utc>> {
    day.and_hms_opt(0, 0, 0).map(|midnight| midnight.and_utc())
}

impl ListView {
    pub fn of(scope: LeadScope) -> Self {
        let filter = LeadFilter { scope, reason: None, changed_from: None, changed_to: None };
        Self { filter, order: LeadOrder::Id, start: PageStart::First, from: None, to: None }
    }

    pub fn read(asked: &QueryParameters) -> Self {
        let scope = match (asked.get("status"), LeadStatus::from_name(asked.get("status"))) {
            (_, Some(status)) => LeadScope::Status(status),
            ("all", None) => LeadScope::All,
            (_, None) => LeadScope::Waiting,
        };
        let (from, to) = (day(asked.get("since")), day(asked.get("until")));
        let order = match asked.get("order") {
            "newest" => LeadOrder::Newest,
            "oldest" => LeadOrder::Oldest,
            "id" => LeadOrder::Id,
            // A span of time is read in the order of time.
            _ if from.is_some() || to.is_some() => LeadOrder::Newest,
            _ => LeadOrder::Id,
        };
        let place = |id: &str| LeadPlace {
            changed_at: instant(asked.get("at").parse().unwrap_or(0)),
            lead: LeadId { id: id.to_owned(), client_id: asked.get("client").to_owned() },
        };
        let start = match (asked.given("after"), asked.given("before")) {
            (Some(id), _) => PageStart::After(place(id)),
            (None, Some(id)) => PageStart::Before(place(id)),
            (None, None) => PageStart::First,
        };
        let filter = LeadFilter {
            scope,
            reason: Some(asked.get("reason").trim().to_owned()).filter(|reason| !reason.is_empty()),
            changed_from: from.and_then(midnight),
            changed_to: to.and_then(|day| midnight(day.checked_add_days(Days::new(1))?)),
        };
        Self { filter, order, start, from, to }
    }

    /// Whether all leads of the scope are shown.
    pub fn is_whole(&self) -> bool {
        let LeadFilter { scope: _, reason, changed_from, changed_to } = &self.filter;
        reason.is_none() && changed_from.is_none() && changed_to.is_none()
    }

    pub fn is_first(&self) -> bool {
        self.start == PageStart::First
    }

    pub fn counts(&self, report: &StatusReport) -> TableCounts {
        let (of_scope, all) = (of_scope(self.filter.scope, report), of_scope(LeadScope::All, report));
        let finished = report.leads(LeadStatus::InSync) + report.leads(LeadStatus::Assumed);
        TableCounts { of_scope, all, unfinished: all - finished, wanted: 1 }
    }

    pub fn name(&self) -> &'static str {
        match self.filter.scope {
            LeadScope::All => "All leads",
            LeadScope::Waiting => "Leads that wait or need a person",
            LeadScope::Status(status) => status.name(),
        }
    }

    /// The value of `status` in an address.
    pub fn scope_name(&self) -> &'static str {
        match self.filter.scope {
            LeadScope::All => "all",
            LeadScope::Waiting => "",
            LeadScope::Status(status) => status.name(),
        }
    }

    pub fn order_name(&self) -> &'static str {
        match self.order {
            // A span of time has another order unless one is named.
            LeadOrder::Id if self.from.is_some() || self.to.is_some() => "id",
            LeadOrder::Id => "",
            LeadOrder::Newest => "newest",
            LeadOrder::Oldest => "oldest",
        }
    }

    pub fn reason(&self) -> &str {
        self.filter.reason.as_deref().unwrap_or_default()
    }

    pub fn since_text(&self) -> String {
        self.from.map(|day| day.to_string()).unwrap_or_default()
    }

    pub fn until_text(&self) -> String {
        self.to.map(|day| day.to_string()).unwrap_or_default()
    }

    fn asked(&self, page: &str, place: &[(&str, &str)]) -> String {
        let (from, to) = (self.since_text(), self.until_text());
        let filter = [
            ("status", self.scope_name()),
            ("reason", self.reason()),
            ("since", &from),
            ("until", &to),
            ("order", self.order_name()),
        ];
        let asked = query(&[&filter[..], place].concat());
        if asked.is_empty() { page.to_owned() } else { format!("{page}?{asked}") }
    }

    pub fn first(&self) -> String {
        self.asked("/leads", &[])
    }

    pub fn csv(&self) -> String {
        self.asked("/leads.csv", &[])
    }

    pub fn ordered(&self, order: LeadOrder) -> String {
        Self { order, ..self.clone() }.first()
    }

    fn beside(&self, name: &str, place: &LeadPlace) -> String {
        let at = micros(place.changed_at).to_string();
        let at = if self.order == LeadOrder::Id { "" } else { &at };
        self.asked("/leads", &[(name, &place.lead.id), ("client", &place.lead.client_id), ("at", at)])
    }

    pub fn after(&self, place: &LeadPlace) -> String {
        self.beside("after", place)
    }

    pub fn before(&self, place: &LeadPlace) -> String {
        self.beside("before", place)
    }

    /// The address of this page itself.
    pub fn here(&self) -> String {
        match &self.start {
            PageStart::First => self.first(),
            PageStart::After(place) => self.after(place),
            PageStart::Before(place) => self.before(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asked: &str) -> ListView {
        ListView::read(&QueryParameters::read(asked.as_bytes()))
    }

    #[test]
    fn an_address_leads_to_the_page_that_it_was_made_of() {
        for asked in [
            "",
            "status=held",
            "status=all&order=oldest",
            "status=in_sync&since=2026-11-01&until=2026-11-30&order=newest",
            "status=held&since=2026-11-01&order=id",
            "until=2026-11-30&order=id&after=7",
            "reason=a%26b",
            "status=held&after=7&client=x",
            "status=held&order=newest&before=a%2Fb&at=1800000000000000",
        ] {
            let view = read(asked);
            let (_, again) = view
                .here()
                .split_once('?')
                .map_or((String::new(), String::new()), |(page, asked)| (page.to_owned(), asked.to_owned()));
            assert_eq!(read(&again), view, "{asked}");
        }
    }

    #[test]
    fn a_span_of_time_includes_its_last_day_and_is_in_the_order_of_time() {
        let view = read("since=2026-11-01&until=2026-11-30");
        let at = |moment: Option<DateTime<Utc>>| moment.map(|moment| moment.to_rfc3339()).unwrap_or_default();
        assert_eq!(at(view.filter.changed_from), "2026-11-01T00:00:00+00:00");
        assert_eq!(at(view.filter.changed_to), "2026-12-01T00:00:00+00:00");
        assert_eq!(view.order, LeadOrder::Newest);
        assert_eq!(read("since=yesterday&until=2026-02-31"), read(""));
    }
}
