//! What all pages of the dashboard share.

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
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::REFERRER_POLICY;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::header::X_FRAME_OPTIONS;
use axum::middleware::Next;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

/// What the pages share.
pub struct Board {
    desk: Arc<Desk>,
    settings: Arc<Settings>,
    door: Door,
    /// The name of the session's cookie. With the port in it, for cookies are not told apart by that.
    cookie: String,
    sessions: Sessions,
    failures: Mutex<Failures>,
    overview: Seen<(Report, Details)>,
    row_notes: RowNotes,
    /// One decision at a time.
    acting: tokio::sync::Mutex<()>,
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
    async fn overview(&self) -> Option<Arc<(Report, Details)>> {
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
    async fn forget(&self) {
        self.desk.window.forget().await;
        *self.overview.lock().await = None;
    }

    fn veil(&self) -> Veil {
        Veil::over(self.settings.conversica.test_lead_token.as_ref())
    }
}
