//! How to end a halt: the page behind the first button of the banner, step by step. Lifting the halt by hand is the last step, because
//! wrong credentials that are tried again can lock the account.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::frame::{PageFrame, ShownMoment, TextPiece, away, moment, note, page, pieces};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::clock;
use crate::console::printable;
use crate::conversica::outcome::HaltReason;

#[derive(Template)]
#[template(path = "admin/dashboard/halt_help.html", config = ".askama.toml")]
struct HaltHelpPage {
    frame: PageFrame,
    may_act: bool,
    what: &'static str,
    since: ShownMoment,
    detail: Option<String>,
    steps: Vec<Vec<TextPiece>>,
    last: Vec<TextPiece>,
}

pub async fn show(State(board): State<Arc<DashboardContext>>, PeopleVisitor(visitor): PeopleVisitor) -> Response {
    let Some(report) = board.desk.window.report().await else { return away(&board, &visitor) };
    let frame = PageFrame::of(&board, &visitor, "How to end the halt");
    let Some(halt) = &report.halt else {
        return note(StatusCode::OK, frame, "Nothing is halted.", "", Some(("Overview", "/")));
    };
    let reason = HaltReason::ALL.into_iter().find(|reason| reason.name() == halt.reason);
    let help = HaltHelp::of(reason.unwrap_or(HaltReason::Endpoint));
    let shown = HaltHelpPage {
        frame,
        may_act: visitor.may_act(),
        what: help.what,
        since: moment(halt.since, clock::now()),
        detail: halt.detail.as_ref().map(|detail| printable(&board.veil().text(detail)).into_owned()),
        steps: help.steps.iter().map(|step| pieces(step)).collect(),
        last: pieces(help.last),
    };
    page(StatusCode::OK, &shown)
}

struct HaltHelp {
    what: &'static str,
    steps: [&'static str; 3],
    /// When to lift the halt by hand.
    last: &'static str,
}

impl HaltHelp {
    fn of(reason: HaltReason) -> Self {
        match reason {
            HaltReason::Credentials => Self {
                what: "Conversica did not accept the username and the password (401).",
                steps: [
                    "Ask your Conversica account manager for the username and the password of the API. What people sign in with does \
                     not work here.",
                    "Put them into the settings: `username` and `password_file` under `[conversica]`. `conversica-sync config show` names \
                     the file that each value comes from.",
                    "Reload the service: `systemctl reload conversica-sync`, or send SIGHUP to it. With other credentials the halt ends \
                     by itself; one request tries them first.",
                ],
                last: "Lift the halt by hand only if the same username and password are right again, for example after Conversica has \
                       unlocked the account. Each wrong try brings a lock nearer.",
            },
            HaltReason::Forbidden => Self {
                what: "Conversica has refused the account or this machine (403).",
                steps: [
                    "Ask your Conversica account manager whether the account is locked, or the address of this machine is banned.",
                    "Tell them the time below, and the public address of this machine.",
                    "Wait until they say that it is unlocked.",
                ],
                last: "Then lift the halt. The next request goes alone; if it is refused too, everything halts again.",
            },
            HaltReason::Endpoint => Self {
                what: "Another server than Conversica's seems to answer: a wrong address, a redirect or a sign-in page.",
                steps: [
                    "Compare `endpoint` under `[conversica]` with the address that Conversica has given you; `conversica-sync config show` \
                     shows it.",
                    "See whether a proxy of your network stands in between: `conversica-sync check` reaches for the address without sending \
                     a lead.",
                    "Correct the address and reload the service. With another address the halt ends by itself.",
                ],
                last: "Lift the halt by hand only if the address was right all along, and the server behind it is Conversica's again.",
            },
        }
    }
}
