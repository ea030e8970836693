//! Arguments, and one file per command; each command is a thin caller of the library.

pub mod alerts;
pub mod approve;
pub mod backup;
pub mod check;
pub mod completions;
pub mod config;
pub mod context;
mod dashboard;
pub mod demo;
pub mod health;
mod help;
pub mod init;
pub mod lead;
pub mod leads;
pub mod man;
pub mod once;
pub mod output;
pub mod pause;
pub mod plan;
pub mod progress;
pub mod received;
pub mod reconcile;
pub mod resend;
mod resume;
pub mod retry;
pub mod run;
pub mod sandbox;
pub mod signal;
pub mod status;
pub mod suppress;
pub mod table;
mod test;
pub mod triggers;
pub mod writeback;

use std::path::PathBuf;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::context::ExitCode;
use crate::console;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::store::held::ReleaseKind;
use crate::store::state_failure::state_cure;

/// Keeps a CRM database (SQLite, PostgreSQL, MySQL or MariaDB) and Conversica in step.
///
/// A request to Conversica makes a machine write to a human being: what is in doubt is held, and says why.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = help::PROGRAM
)]
pub struct CommandLine {
    /// Configuration file [default: $CONVERSICA_SYNC_CONFIG, ./conversica-sync.toml,
    /// /etc/conversica-sync/conversica-sync.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the daemon: poll, deliver, until told to stop
    #[command(after_help = help::RUN)]
    Run(run::Args),
    /// One pass: read, compare, deliver until nothing is due, then end
    #[command(after_help = help::ONCE)]
    Once(once::Args),
    /// Show what a pass would send and why; sends nothing, stores nothing
    #[command(after_help = help::PLAN)]
    Plan(plan::Args),
    /// Look at a database, propose table, key, change column and mapping, and write a commented configuration file
    Init(Box<init::args::Args>),
    /// Check settings, source, mapping, state, endpoint and receiver; sends no credentials unless a test lead is asked for
    #[command(after_help = help::CHECK)]
    Check(check::Args),
    /// Ask the running daemon whether it is alive
    #[command(after_help = help::HEALTH)]
    Health(health::Args),
    /// Show the state of the service and what needs the operator
    #[command(after_help = help::STATUS)]
    Status(status::Args),
    /// List leads: those that wait or need a person, and why
    #[command(after_help = help::LEADS)]
    Leads(leads::Args),
    /// Tell everything that is known of one lead
    #[command(after_help = help::LEAD)]
    Lead(lead::Args),
    /// Compare the CRM, what Conversica accepted and what it sent back: one verdict a lead, and how to fix it
    Reconcile(reconcile::Args),
    /// What Conversica has posted; what could not be read is shown, and read again
    #[command(after_help = help::RECEIVED)]
    Received(received::Args),
    /// Release what is held: send it
    #[command(after_help = help::APPROVE)]
    Approve(approve::Args),
    /// Release what is held: treat it as already delivered
    #[command(after_help = help::BASELINE)]
    Baseline(approve::Args),
    /// Put rejected and exhausted leads back in the queue
    #[command(after_help = help::RETRY)]
    Retry(retry::Args),
    /// Send leads again that Conversica has accepted, or is assumed to know
    #[command(after_help = help::RESEND, override_usage = "conversica-sync resend [OPTIONS] [ID]...")]
    Resend(resend::Args),
    /// Lift a halt by hand
    #[command(after_help = help::RESUME)]
    Resume,
    /// Stop first contacts and updates, for everybody or for a conversation; withdrawals of consent are still sent
    #[command(after_help = help::PAUSE)]
    Pause(pause::Args),
    /// End a pause
    #[command(after_help = help::UNPAUSE)]
    Unpause(pause::UnpauseArgs),
    /// Try the mapping on rows from a file: Lead objects out, without a database and without the network
    #[command(after_help = help::TEST)]
    Test(test::Args),
    /// Print a link that signs in to the dashboard of the running daemon, once
    #[command(after_help = help::DASHBOARD)]
    Dashboard(dashboard::Args),
    /// People who are never written to, by address, telephone number or domain: kept as keyed hashes
    #[command(after_help = help::SUPPRESS)]
    Suppress {
        #[command(subcommand)]
        command: suppress::SuppressCommand,
    },
    /// Copy an SQLite state into a file, while the daemon runs
    #[command(after_help = help::BACKUP)]
    Backup(backup::Args),
    /// Say that the state came out of a backup: what would be sent waits for a person
    #[command(after_help = help::RESTORED)]
    Restored(backup::RestoredArgs),
    /// Triggers in the CRM database, for source.changes = "triggers": show, make and remove them
    #[command(after_help = help::TRIGGERS)]
    Triggers {
        #[command(subcommand)]
        command: triggers::TriggersCommand,
    },
    /// What Conversica sends, on its way to the CRM database: the tables for it, and what the CRM refuses
    #[command(after_help = help::WRITEBACK)]
    Writeback {
        #[command(subcommand)]
        command: writeback::WritebackCommand,
    },
    /// Whether the channels of [alerts] reach people: a test notice through each
    #[command(after_help = alerts::ALERTS)]
    Alerts {
        #[command(subcommand)]
        command: alerts::AlertsCommand,
    },
    /// A local Conversica to try things against
    #[command(after_help = help::SANDBOX)]
    Sandbox(Box<sandbox::Args>),
    /// Sample CRM, sandbox and the real daemon in one command, nothing to set up
    #[command(after_help = help::DEMO)]
    Demo(demo::Args),
    /// Print completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(completions::Args),
    /// Print the manual page, or write one for each command
    #[command(after_help = help::MAN)]
    Man(man::Args),
    /// Show the settings in force, or their JSON Schema
    #[command(after_help = help::CONFIG)]
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
}

/// The arguments of the process. Prints help, version and mistakes itself, and ends the process with them.
pub fn parse() -> CommandLine {
    // Set here for all output: clap itself follows further variables that force colours into a pipe.
    let colours = console::colours(&std::io::stdout()) && console::colours(&std::io::stderr());
    let colours = if colours { ColorChoice::Auto } else { ColorChoice::Never };
    let matches = CommandLine::command().color(colours).get_matches();
    CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Runs the command.
pub async fn dispatch(cli: CommandLine) -> anyhow::Result<ExitCode> {
    let file = cli.config.as_deref();
    match cli.command {
        CliCommand::Run(args) => run::run(args, file).await,
        CliCommand::Once(args) => once::run(args, file).await,
        CliCommand::Plan(args) => plan::run(args, file).await,
        CliCommand::Check(args) => check::run(args, file).await,
        CliCommand::Health(args) => health::run(args, file).await,
        CliCommand::Status(args) => status::run(args, file).await,
        CliCommand::Leads(args) => leads::run(args, file).await,
        CliCommand::Lead(args) => lead::run(args, file).await,
        CliCommand::Init(args) => init::run(*args, file).await,
        CliCommand::Reconcile(args) => reconcile::run(args, file).await,
        CliCommand::Received(args) => received::run(args, file).await,
        CliCommand::Approve(args) => approve::run(args, ReleaseKind::Send, file).await,
        CliCommand::Baseline(args) => approve::run(args, ReleaseKind::Baseline, file).await,
        CliCommand::Retry(args) => retry::run(args, file).await,
        CliCommand::Resend(args) => resend::run(args, file).await,
        CliCommand::Resume => resume::run(file).await,
        CliCommand::Pause(args) => pause::run(args, file).await,
        CliCommand::Unpause(args) => pause::end(args, file).await,
        CliCommand::Test(args) => test::run(args, file),
        CliCommand::Dashboard(args) => dashboard::run(args, file).await,
        CliCommand::Suppress { command } => suppress::run(command, file).await,
        CliCommand::Backup(args) => backup::run(args, file).await,
        CliCommand::Restored(args) => backup::restored(args, file).await,
        CliCommand::Triggers { command } => triggers::run(command, file).await,
        CliCommand::Writeback { command } => writeback::run(command, file).await,
        CliCommand::Alerts { command } => alerts::run(command, file).await,
        CliCommand::Sandbox(args) => sandbox::run(*args).await.map(|()| ExitCode::Done),
        CliCommand::Demo(args) => demo::run(args).await,
        CliCommand::Completions(args) => completions::run(args, CommandLine::command()),
        CliCommand::Man(args) => man::run(args, CommandLine::command()),
        CliCommand::Config { command } => config::run(command, file).map(|()| ExitCode::Done),
    }
}

/// The exit code of a failure, and the message for it.
pub fn failure(error: &anyhow::Error) -> (u8, String) {
    for cause in error.chain() {
        if cause.is::<SetupError>() || cause.is::<crate::config::layers::ConfigErrors>() {
            return (2, cause.to_string());
        }
    }
    // The chain of causes does not include context that `anyhow` puts around an error.
    match error.downcast_ref::<SetupError>() {
        Some(setup) => (2, setup.to_string()),
        None => (1, format!("{}{}", discreet::in_words(error), damage_cure(error))),
    }
}

/// The cure for a damaged state, below the message; blank for other failures.
fn damage_cure(error: &anyhow::Error) -> String {
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>());
    let damage = failure.filter(|failure| db::is_damage(failure) && !discreet::is_of_crm(failure));
    damage.map(|damage| format!("\n  cure: {}", state_cure(damage))).unwrap_or_default()
}
