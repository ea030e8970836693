//! What all pages of the dashboard share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use crate::admin::answer::Desk;
use crate::admin::dashboard::details::Details;
use crate::admin::dashboard::door::Door;
use crate::admin::dashboard::row_notes::RowNotes;
use crate::admin::dashboard::session::Sessions;
use crate::admin::window::Seen;
use crate::clock;
use crate::config::Settings;
use crate::conversica::token::Veil;
use crate::receive::credentials::Failures;
use crate::status::Report;
use crate::store::state_db::StateDb;

/// What the pages share.
pub struct Board {
    pub(crate) desk: Arc<Desk>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) door: Door,
    /// The name of the session's cookie. With the port in it, for cookies are not told apart by that.
    pub(crate) cookie: String,
    pub(crate) sessions: Sessions,
    pub(crate) failures: Mutex<Failures>,
    pub(crate) overview: Seen<(Report, Details)>,
    pub(crate) row_notes: RowNotes,
    /// One decision at a time.
    pub(crate) acting: tokio::sync::Mutex<()>,
}

impl Board {
    pub fn new(desk: Arc<Desk>, settings: Arc<Settings>, listens_on: SocketAddr) -> Self {
        Self {
            desk,
            door: Door::new(settings.admin.token.as_ref(), listens_on),
            settings,
            cookie: format!("conversica_sync_{}", listens_on.port()),
            sessions: Sessions::default(),
            failures: Mutex::default(),
            overview: Seen::default(),
            row_notes: RowNotes::default(),
            acting: tokio::sync::Mutex::default(),
        }
    }

    /// By one look, so that a page does not say that something is stuck and show nothing that is: what needs a person is
    /// counted as the groups count it.
    pub(crate) async fn overview(&self) -> Option<Arc<(Report, Details)>> {
        let veil = self.veil();
        let window = &self.desk.window;
        let read = async |db: &StateDb| {
            let mut report = Report::of(db).await?;
            let details = Details::of(db, &veil, clock::now()).await?;
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

    pub(crate) fn veil(&self) -> Veil {
        Veil::over(self.settings.conversica.test_lead_token.as_ref())
    }
}
