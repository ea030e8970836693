//! `check`: tests whether everything is ready. Prints the findings of [`crate::check`], one per line. It sends nothing and shows
//! credentials to no server, unless the operator asks for a test lead.

mod for_conversica;

use std::io::stdout;
use std::path::Path;

use crate::check::item::{CheckItem, CheckVerdict, ItemState};
use crate::cli::context::{ExitCode, settings_unsaid};
use crate::cli::table;
use crate::config::ServiceSettings;
use crate::console::{self, printable, say};
use crate::conversica::outcome::{HaltReason, OutcomeClass};
use crate::conversica::token::TokenVeil;
use crate::daemon::open_state::open_state;
use crate::error::SetupError;
use crate::send::test_lead::{self, TestLeadOutcome};
use crate::store::instance::InstanceId;
use crate::{check, clock};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long, conflicts_with = "send_test_lead")]
    pub json: bool,
    /// When all is well, also send one made-up lead with the Test Lead Token, and show what Conversica says of it
    #[arg(long)]
    pub send_test_lead: bool,
    /// Print instead what to ask and to tell your account manager at Conversica: reads all rows, shows no lead
    #[arg(long, conflicts_with_all = ["json", "send_test_lead"])]
    pub for_conversica: bool,
    /// Address of that lead; yours, to see what Conversica's assistant writes
    #[arg(long, value_name = "ADDRESS", default_value = test_lead::EMAIL, requires = "send_test_lead")]
    pub test_email: String,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings_unsaid(file);
    if args.for_conversica {
        return for_conversica::run(&loaded?.settings).await;
    }
    let page = CheckTable::of_terminal();
    let list = check::walk(&loaded, clock::own(), |item| {
        if !args.json {
            page.show(item);
        }
    })
    .await;
    if args.json {
        say(format_args!("{:#}", list.document()));
    }
    let verdict = list.verdict();
    if verdict != CheckVerdict::Unready && args.send_test_lead {
        return send_test_lead(&loaded?.settings, &args.test_email, &page).await;
    }
    if !args.json {
        say(format_args!("\n{}", list.summary()));
    }
    match verdict {
        // `status` reports by its exit code that leads wait for the operator; here that is only a note.
        CheckVerdict::Ready | CheckVerdict::Decision => Ok(ExitCode::Done),
        CheckVerdict::Unready => Err(SetupError::new(
            format!("{} of the points above must be fixed before anything can be sent", list.count(ItemState::Fail)),
            "fix them in this order, then run `conversica-sync check` again",
        )
        .into()),
    }
}

/// The form of the list: one line per item, in columns, with its cure below.
struct CheckTable {
    /// Whether the locale has ticks.
    ticks: bool,
    colours: bool,
    /// Width of the terminal; elsewhere lines are not wrapped.
    width: Option<usize>,
}

/// Width of the section names.
const SECTION_WIDTH: usize = 9;
/// A narrower terminal wraps the lines itself.
const NARROW: usize = 60;

impl CheckTable {
    fn of_terminal() -> Self {
        Self {
            ticks: console::is_utf8(console::variable),
            colours: console::colours(&stdout()),
            width: table::plain(&[]).width().map(usize::from).filter(|width| *width >= NARROW),
        }
    }

    /// A tick and four letters, for screen readers and for grep.
    fn mark(&self, state: ItemState) -> String {
        let (tick, word, colour) = match state {
            ItemState::Ok => ('\u{2713}', "ok  ", "32"),
            ItemState::Warn => ('!', "look", "33"),
            ItemState::Fail => ('\u{2717}', "BAD ", "31"),
            ItemState::Skipped => ('-', "skip", "2"),
        };
        let mark = if self.ticks { format!("{tick} {word}") } else { word.to_owned() };
        if self.colours { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark }
    }

    fn mark_width(&self) -> usize {
        if self.ticks { 6 } else { 4 }
    }

    fn show(&self, item: &CheckItem) {
        let indent = self.mark_width() + 2 + SECTION_WIDTH + 1;
        let detail = self.wrapped(&item.detail, indent);
        say(format_args!("{}  {:<SECTION_WIDTH$} {detail}", self.mark(item.state), item.section));
        if let Some(cure) = &item.cure {
            let below = indent + "cure: ".len();
            say(format_args!("{:indent$}cure: {}", "", self.wrapped(cure, below)));
        }
    }

    /// Further lines begin below the first one.
    fn wrapped(&self, text: &str, indent: usize) -> String {
        // Settings and databases may contain any characters.
        let text = text.lines().map(printable).collect::<Vec<_>>().join(" ");
        let Some(width) = self.width else { return text };
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let line = lines.last_mut().expect("starts with one line");
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > width {
                lines.push(word.to_owned());
            } else {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
        }
        lines.join(&format!("\n{:indent$}", ""))
    }
}

/// The only part of `check` that sends, and only on request.
async fn send_test_lead(settings: &ServiceSettings, email: &str, page: &CheckTable) -> anyhow::Result<ExitCode> {
    if settings.conversica.test_lead_token.is_none() {
        // Before a state is created for it.
        return Err(SetupError::new(
            "[conversica] test_lead_token is not set, so no test lead can be sent",
            "set test_lead_token_file to the Test Lead Token that your Conversica account manager gave you",
        )
        .into());
    }
    let mut state = open_state(settings, "check --send-test-lead", InstanceId::default()).await?;
    let exit = match test_lead::send(&state.db, state.company, settings, email, clock::now()).await? {
        TestLeadOutcome::Halted(halt) => {
            let since = halt.since.format("%F %T UTC");
            say(format_args!(
                "{}  test lead halted ({}) since {since}: nothing is sent. cure: {}",
                page.mark(ItemState::Fail),
                halt.reason.name(),
                halt.reason.cure()
            ));
            ExitCode::Decision
        }
        TestLeadOutcome::Answered(attempt) => {
            let status = attempt.http_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
            // An answer may repeat the lead, whose last name is the token.
            let veil = TokenVeil::over(settings.conversica.test_lead_token.as_ref());
            let said = attempt
                .detail
                .as_deref()
                .map(|detail| format!(": {}", printable(&veil.text(detail))))
                .unwrap_or_default();
            let class = attempt.class;
            let (mark, exit) = match class {
                OutcomeClass::Accepted => (ItemState::Ok, ExitCode::Done),
                OutcomeClass::Halting => (ItemState::Fail, ExitCode::Decision),
                OutcomeClass::Rejected | OutcomeClass::Transient | OutcomeClass::Ambiguous => {
                    (ItemState::Fail, ExitCode::Attention)
                }
            };
            say(format_args!("{}  test lead {} ({status}){said}", page.mark(mark), class.name()));
            let remedy = attempt.halt.map_or(class.remedy(), HaltReason::cure);
            if class == OutcomeClass::Accepted {
                say("\nReady. Conversica should show the lead conversica-sync-test-lead. Next: conversica-sync plan");
            } else {
                say(format_args!("{:width$}cure: {remedy}", "", width = page.mark_width() + 2));
            }
            exit
        }
    };
    state.writer.leave().await;
    state.db.close().await;
    Ok(exit)
}
