//! The leads that a script asks for: of one status or of all that wait or need the operator, page by page.

use super::frame::QueryParameters;
use crate::conversica::lead::LeadId;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;
use crate::store::listing::{ListedLead, ListingCounts, ListingPages};
use crate::store::state_db::StateDb;

/// The selection and the start of a page.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// `None` selects all leads that wait or need the operator.
    pub status: Option<LeadStatus>,
    pub reason: String,
    /// Start behind that lead of that status.
    pub after: Option<(LeadStatus, LeadId)>,
}

/// Leads of one answer.
#[derive(Debug, Default)]
pub struct RequestedPage {
    pub leads: Vec<ListedLead>,
    pub has_later: bool,
}

impl ListRequest {
    pub fn read(asked: &QueryParameters) -> Self {
        let after = LeadStatus::from_name(asked.get("from")).zip(asked.given("after")).map(|(status, id)| {
            (status, LeadId { id: id.to_owned(), client_id: asked.get("after_client").to_owned() })
        });
        Self {
            status: LeadStatus::from_name(asked.get("status")),
            reason: asked.get("reason").trim().to_owned(),
            after,
        }
    }

    /// In the order of the list.
    fn statuses(&self) -> Vec<LeadStatus> {
        let wanted = |status: &LeadStatus| match self.status {
            Some(only) => *status == only,
            None => !status.is_settled(),
        };
        LeadStatus::ALL.into_iter().filter(wanted).collect()
    }

    /// How many leads have the statuses, whatever the reason.
    pub fn leads(&self, report: &StatusReport) -> i64 {
        self.statuses().into_iter().map(|status| report.leads(status)).sum()
    }

    /// One page of leads.
    pub async fn page(&self, db: &StateDb, report: &StatusReport, limit: i64) -> Result<RequestedPage, sqlx::Error> {
        let reason = (!self.reason.is_empty()).then_some(self.reason.as_str());
        let all = report.leads.values().sum();
        let mut listed = Vec::new();
        let begun = self.after.as_ref().map(|(status, _)| *status);
        for status in self.statuses().into_iter().skip_while(|status| begun.is_some_and(|begun| begun != *status)) {
            let left = limit + 1 - i64::try_from(listed.len()).unwrap_or(limit);
            // Settled leads have no reason; a search among millions would take long and find none.
            if left <= 0 || (reason.is_some() && matches!(status, LeadStatus::InSync | LeadStatus::Assumed)) {
                continue;
            }
            let mut pages = ListingPages::new(
                db,
                status,
                reason,
                ListingCounts { of_status: report.leads(status), all, wanted: left },
            );
            if let Some((_, lead)) = self.after.as_ref().filter(|(begun, _)| *begun == status) {
                pages = pages.behind(lead.clone());
            }
            listed.extend(pages.next(left).await?);
        }
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_later = listed.len() > limit;
        listed.truncate(limit);
        Ok(RequestedPage { leads: listed, has_later })
    }

    /// The rows are read after the counts: if they show a whole status, or more than was counted, the rows count.
    pub fn agree(&self, report: &mut StatusReport, page: &RequestedPage) {
        if !self.reason.is_empty() {
            return;
        }
        for status in self.statuses() {
            let rows = page.leads.iter().filter(|lead| lead.status == status).count();
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            if self.after.is_none() && !page.has_later {
                report.set_leads(status, rows);
            } else {
                let later = i64::from(page.has_later && self.status.is_some());
                report.set_leads(status, report.leads(status).max(rows + later));
            }
        }
    }
}
