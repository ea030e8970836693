//! What all pages of the dashboard share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use crate::admin::answer::AdminContext;
use crate::admin::dashboard::details::OverviewDetails;
use crate::admin::dashboard::door::AccessPolicy;
use crate::admin::dashboard::row_notes::RowNotes;
use crate::admin::dashboard::session::SessionTable;
use crate::admin::window::CachedStatus;
use crate::clock;
use crate::config::ServiceSettings;
use crate::conversica::token::TokenVeil;
use crate::receive::credentials::LoginFailures;
use crate::status::StatusReport;
use crate::store::state_db::StateDb;

/// What the pages share.
pub struct DashboardContext {
    pub(crate) desk: Arc<AdminContext>,
    pub(crate) settings: Arc<ServiceSettings>,
    pub(crate) door: AccessPolicy,
    /// The name of the session's cookie. With the port in it, for cookies are not told apart by that.
    pub(crate) cookie: String,
    pub(crate) sessions: SessionTable,
    pub(crate) failures: Mutex<LoginFailures>,
    pub(crate) overview: CachedStatus<(StatusReport, OverviewDetails)>,
    pub(crate) row_notes: RowNotes,
    /// One decision at a time.
    pub(crate) acting: tokio::sync::Mutex<()>,
}

impl DashboardContext {
    pub fn new(desk: Arc<AdminContext>, settings: Arc<ServiceSettings>, listens_on: SocketAddr) -> Self {
        Self {
            desk,
            door: AccessPolicy::new(settings.admin.token.as_ref(), listens_on),
            settings,
            cookie: format!("conversica_sync_{}", listens_on.port()),
            sessions: SessionTable::default(),
            failures: Mutex::default(),
            overview: CachedStatus::default(),
            row_notes: RowNotes::default(),
            acting: tokio::sync::Mutex::default(),
        }
    }

    /// By one look, so that a page does not say that something is stuck and show nothing that is: what needs a person is
    /// counted as the groups count it.
    pub(crate) async fn overview(&self) -> Option<Arc<(StatusReport, OverviewDetails)>> {
        let veil = self.veil();
        let window = &self.desk.window;
        let read = async |db: &StateDb| {
            let mut report = StatusReport::of(db).await?;
            let details = OverviewDetails::of(db, &veil, clock::now()).await?;
            details.needing.iter().for_each(|(status, leads)| report.set_leads(*status, *leads));
            Ok((report, details))
        };
        window.see(&self.overview, read).await
    }

    /// Something has just been changed: what was seen serves no longer.
    pub(crate) async fn forget(&self) {
        self.desk.window.forget().await;
        *self.overview.lock().await = None;
    }

    pub(crate) fn veil(&self) -> TokenVeil {
        TokenVeil::over(self.settings.conversica.test_lead_token.as_ref())
    }
}
