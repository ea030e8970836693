//! Shared by all pages of the dashboard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use crate::admin::answer::AdminContext;
use crate::admin::dashboard::backlog::BacklogMark;
use crate::admin::dashboard::conversations_kept::ConversationReports;
use crate::admin::dashboard::details::OverviewDetails;
use crate::admin::dashboard::door::AccessPolicy;
use crate::admin::dashboard::row_notes::RowNotes;
use crate::admin::dashboard::session::SessionTable;
use crate::admin::dashboard::token_guard::TokenGuard;
use crate::admin::kept_read::KeptRead;
use crate::admin::window::REPORT_WITHIN;
use crate::clock;
use crate::config::ServiceSettings;
use crate::conversica::token::TokenVeil;
use crate::status::StatusReport;
use crate::store::state_db::StateDb;

/// The pages' shared context.
pub struct DashboardContext {
    pub(crate) desk: Arc<AdminContext>,
    pub(crate) settings: Arc<ServiceSettings>,
    pub(crate) door: AccessPolicy,
    /// The name of the session's cookie. It includes the port, because browsers share cookies between ports.
    pub(crate) cookie: String,
    pub(crate) sessions: SessionTable,
    pub(crate) token_guard: Mutex<TokenGuard>,
    pub(crate) overview: Arc<KeptRead<(StatusReport, OverviewDetails)>>,
    pub(crate) conversations: ConversationReports,
    pub(crate) backlog: BacklogMark,
    pub(crate) row_notes: RowNotes,
    /// Serialises decisions.
    pub(crate) acting: tokio::sync::Mutex<()>,
}

impl DashboardContext {
    pub fn new(desk: Arc<AdminContext>, settings: Arc<ServiceSettings>, listens_on: SocketAddr) -> Self {
        Self {
            desk,
            door: AccessPolicy::new(&settings.admin, listens_on),
            settings,
            cookie: format!("conversica_sync_{}", listens_on.port()),
            sessions: SessionTable::default(),
            token_guard: Mutex::default(),
            overview: Arc::default(),
            conversations: ConversationReports::default(),
            backlog: BacklogMark::default(),
            row_notes: RowNotes::default(),
            acting: tokio::sync::Mutex::default(),
        }
    }

    /// Report and details from one read, so that the page never counts stuck leads without showing any: it counts leads that need
    /// the operator exactly as the groups do.
    pub(crate) async fn overview(&self) -> Option<Arc<(StatusReport, OverviewDetails)>> {
        let veil = self.veil();
        let read = move |db: StateDb| {
            let veil = veil.clone();
            async move {
                let now = clock::now();
                let mut report = StatusReport::of(&db, now).await?;
                let details = OverviewDetails::of(&db, &veil, now).await?;
                details.needing.iter().for_each(|(status, leads)| report.set_leads(*status, *leads));
                Ok((report, details))
            }
        };
        self.desk.window.see(&self.overview, REPORT_WITHIN, read).await
    }

    /// A decision has changed the state: drops the cached data.
    pub(crate) fn forget(&self) {
        self.desk.window.forget();
        self.overview.forget();
    }

    pub(crate) fn veil(&self) -> TokenVeil {
        TokenVeil::over(self.settings.conversica.test_lead_token.as_ref())
    }
}
