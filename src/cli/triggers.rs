//! `triggers`: shows, creates and removes the triggers in the CRM database and the change log that they fill. It runs only
//! statements that it has shown.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use crate::cli::context::{ExitCode, settings};
use crate::cli::help;
use crate::config::{ChangeDetection, ServiceSettings, SourceSettings};
use crate::console::say;
use crate::db::pooler::StatementPooler;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::source::changes::ddl::{ListenerWake, SourceEngine, TriggerDesign};
use crate::source::changes::design;
use crate::source::changes::ground;
use crate::source::changes::standing::{self, TriggerStanding};
use crate::source::changes::watch_query;
use crate::source::source_db::SourceDb;

#[derive(Debug, clap::Subcommand)]
pub enum TriggersCommand {
    /// Show the script, to read it or to run it yourself: `… | psql -v ON_ERROR_STOP=1 URL`, `… | sqlite3 -bail FILE`
    #[command(after_help = help::TRIGGERS_PRINT)]
    Print {
        /// The script that removes everything again
        #[arg(long, conflicts_with_all = ["role", "no_notify", "notify", "published"])]
        remove: bool,
        #[command(flatten)]
        made: InstalledTriggers,
    },
    /// Make change log and triggers, after showing the statements and asking
    #[command(after_help = help::TRIGGERS_INSTALL)]
    Install {
        #[command(flatten)]
        made: InstalledTriggers,
        #[command(flatten)]
        run: RunningDaemon,
    },
    /// Remove triggers and change log without a trace, after showing the statements and asking
    #[command(after_help = help::TRIGGERS_REMOVE)]
    Remove {
        #[command(flatten)]
        run: RunningDaemon,
    },
}

#[derive(Debug, clap::Args)]
pub struct InstalledTriggers {
    /// PostgreSQL: the role that conversica-sync reads with [default: that of source.url]
    #[arg(long)]
    pub role: Option<String>,
    /// PostgreSQL: do not notify at a commit; the next poll finds the changes. NOTIFY lets transactions that use it commit one at
    /// a time, which a database with very many writers may feel
    #[arg(long)]
    pub no_notify: bool,
    /// PostgreSQL: notify listeners even where max_prepared_transactions is above 0. A transaction that has notified cannot be
    /// prepared for two-phase commit, so there NOTIFY is left out unless you say so
    #[arg(long, conflicts_with = "no_notify")]
    pub notify: bool,
    /// PostgreSQL: make the change log although a publication of all tables, or of its schema, publishes it: every subscriber
    /// has a table of that name
    #[arg(long)]
    pub published: bool,
}

#[derive(Debug, clap::Args)]
pub struct RunningDaemon {
    /// File with the database URL of the table's owner [default: $CONVERSICA_SYNC_OWNER_URL, or source.url]
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// An environment variable for a URL that may hold a password: an argument would appear in every list of processes.
const OWNER_URL: &str = "CONVERSICA_SYNC_OWNER_URL";

pub async fn run(command: TriggersCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = settings(file)?.settings;
    let url = settings.source.url.expose_secret();
    let reader = open(url, &settings.source).await?;
    let removes = matches!(command, TriggersCommand::Print { remove: true, .. } | TriggersCommand::Remove { .. });
    let design = match removes {
        true => design::design_of_removal(&reader, &settings.source).await?,
        false => design::design(&reader, &settings.source).await?,
    };
    let remains = ground::remains(&reader, &design).await?;
    let standing = standing::look(&reader, &design).await?;
    if standing == TriggerStanding::Foreign {
        return Err(standing::foreign(&design).into());
    }
    let exit = match command {
        TriggersCommand::Print { remove: true, .. } => {
            print(&design, &design.remove(&remains));
            ExitCode::Done
        }
        TriggersCommand::Print { made, .. } => {
            ground::refuse_foreign_parts(&reader, &design).await?;
            refuse_unsafe(&reader, &settings.source, &design).await?;
            if !made.published {
                ground::refuse_published(&reader, &design).await?;
            }
            let wake = wake(&made, &reader).await?;
            if is_left_out(&made, wake, design.engine) {
                say(format_args!("-- {WITHOUT_NOTIFY}"));
            }
            let role = role(made.role, &reader).await?;
            print(&design, &design.install(role.as_deref(), wake));
            ExitCode::Done
        }
        TriggersCommand::Install { made, run } => {
            ground::refuse_foreign_parts(&reader, &design).await?;
            let is_new = !matches!(standing, TriggerStanding::Complete { .. });
            if is_new && !made.published {
                ground::refuse_published(&reader, &design).await?;
            }
            let wake = wake(&made, &reader).await?;
            let is_left_out = is_left_out(&made, wake, design.engine);
            let named = made.role.is_some();
            let role = role(made.role, &reader).await?;
            let script = match (standing, &role) {
                (TriggerStanding::Complete { misowned: Some(_), .. }, role) => {
                    Some(design.replace(role.as_deref(), wake, &remains))
                }
                (TriggerStanding::Complete { wake: found, .. }, Some(role)) if found == wake && named => {
                    Some(format!("{};\n", design.grant(role)))
                }
                (TriggerStanding::Complete { wake: found, .. }, Some(_)) if found == wake => None,
                (TriggerStanding::Complete { .. }, None) => None,
                (TriggerStanding::Absent, role) if remains.is_empty() => Some(design.install(role.as_deref(), wake)),
                (_, role) => Some(design.replace(role.as_deref(), wake, &remains)),
            };
            let Some(script) = script else {
                say("Installed already; nothing was changed.");
                return Ok(ExitCode::Done);
            };
            refuse_unsafe(&reader, &settings.source, &design).await?;
            let Some(()) = execute(&design, &script, &run, &settings).await? else { return Ok(ExitCode::Decision) };
            let verb = if design.tables.len() == 1 { "is" } else { "are" };
            say(format_args!("Installed: {} {verb} logged in {}.", design.place(), design.log.quoted()));
            if is_left_out {
                say(WITHOUT_NOTIFY);
            }
            if is_new && design.engine == SourceEngine::Postgres {
                say(format_args!(
                    "A role that runs pg_dump and is neither owner nor superuser fails from now on without: grant select on {}, \
                     {} to it; or leave the log out with --exclude-table.",
                    design.log.quoted(),
                    design.sequence().quoted()
                ));
            }
            for other in ground::other_logs(&reader, &design).await? {
                let SetupError { what, cure } = ground::other_log(&other);
                say(format_args!("Beside that, {what}: {cure}."));
            }
            if settings.source.changes == ChangeDetection::Poll {
                say(
                    "Next: write changes = \"triggers\" under [source], and start conversica-sync again. Until then the log grows.",
                );
            }
            ExitCode::Done
        }
        TriggersCommand::Remove { run } => {
            if standing == TriggerStanding::Absent && remains.is_empty() {
                say("There is nothing to remove.");
                for other in ground::other_logs(&reader, &design).await? {
                    let SetupError { what, cure } = ground::other_log(&other);
                    say(format_args!("But {what}: {cure}."));
                }
                return Ok(ExitCode::Done);
            }
            let Some(()) = execute(&design, &design.remove(&remains), &run, &settings).await? else {
                return Ok(ExitCode::Decision);
            };
            say("Removed.");
            if settings.source.changes == ChangeDetection::Triggers {
                say("[source] changes is still \"triggers\": write changes = \"poll\", or polls will fail and say so.");
            }
            ExitCode::Done
        }
    };
    reader.close().await;
    Ok(exit)
}

/// Refuses an installation that would let another role use the rights of the tables' owner, or that the owner cannot have.
async fn refuse_unsafe(reader: &SourceDb, source: &SourceSettings, design: &TriggerDesign) -> anyhow::Result<()> {
    ground::refuse_powerless_owner(reader, design).await?;
    ground::refuse_foreign_type(reader, design).await?;
    watch_query::refuse_unsafe(reader, source, (&design.tables, design.owner.as_deref())).await
}

const WITHOUT_NOTIFY: &str = "Without NOTIFY: max_prepared_transactions of this server is above 0, and a transaction that has \
                              notified cannot be prepared for two-phase commit. Changes are found at the next poll; where \
                              nobody uses two-phase commit, give --notify.";

async fn wake(made: &InstalledTriggers, reader: &SourceDb) -> Result<ListenerWake, sqlx::Error> {
    let is_silent = made.no_notify || (!made.notify && ground::has_two_phase_commit(reader).await?);
    Ok(if is_silent { ListenerWake::Silent } else { ListenerWake::Notify })
}

/// Whether the triggers do not notify, although the operator did not ask for that.
fn is_left_out(made: &InstalledTriggers, wake: ListenerWake, engine: SourceEngine) -> bool {
    engine == SourceEngine::Postgres && wake == ListenerWake::Silent && !made.no_notify
}

async fn open(url: &str, source: &SourceSettings) -> anyhow::Result<SourceDb> {
    if let Some(path) = db::sqlite_path(url).filter(|path| !path.exists()) {
        return Err(SetupError::new(
            format!("there is no file {}", path.display()),
            "give the path of the CRM's SQLite file in [source] url",
        )
        .into());
    }
    SourceDb::open_source(url, source.statement_timeout).await.map_err(|error| unreachable(url, &error))
}

fn unreachable(url: &str, error: &sqlx::Error) -> anyhow::Error {
    if StatementPooler::is_cause_of(error) {
        let what = format!("{} cannot be used: {StatementPooler}", db::display_url(url));
        return SetupError::new(what, StatementPooler::CURE).into();
    }
    let what = format!("{} cannot be reached: {error}", db::display_url(url));
    SetupError::new(what, "check that the database is running, and the host, database, user and password of its URL")
        .into()
}

/// The role that drains the log: the named one, or that of the reader's session.
async fn role(named: Option<String>, reader: &SourceDb) -> Result<Option<String>, sqlx::Error> {
    match reader {
        SourceDb::Sqlite(_) | SourceDb::Mysql(_) => Ok(None),
        SourceDb::Postgres(_) if named.is_some() => Ok(named),
        SourceDb::Postgres(pool) => {
            let user: Result<String, _> = sqlx::query_scalar("select current_user::text").fetch_one(pool).await;
            user.map(Some).map_err(discreet::of_source)
        }
    }
}

fn print(design: &TriggerDesign, script: &str) {
    let (table, log) = (design.place(), design.log.quoted());
    say(format_args!("-- conversica-sync: triggers on {table}, change log {log}\n{}", script.trim_end()));
}

/// Shows the script, asks, and runs exactly that; `None` where the operator declined.
async fn execute(
    design: &TriggerDesign,
    script: &str,
    run: &RunningDaemon,
    settings: &ServiceSettings,
) -> anyhow::Result<Option<()>> {
    print(design, script);
    if !run.yes && !confirmed()? {
        say("Nothing was changed.");
        return Ok(None);
    }
    let own = settings.source.url.expose_secret();
    let url = owner_url(run)?.unwrap_or_else(|| own.to_owned());
    let same_engine = db::sqlite_path(&url).is_some() == (design.engine == SourceEngine::Sqlite);
    if !same_engine {
        return Err(SetupError::new(
            "the owner's URL is of another kind of database than [source] url",
            "give the URL of the same database, with the user that owns the table",
        )
        .into());
    }
    let opened = SourceDb::change_log(&url, settings.source.statement_timeout).map_err(|_| {
        SetupError::new(
            "the owner's URL cannot be read as one",
            "write it as sqlite:///absolute/path.db or postgres://user@host/database, alone in its file",
        )
    })?;
    let done = match opened {
        SourceDb::Mysql(pool) => sqlx::raw_sql(db::trusted(script.to_owned())).execute(&pool).await.map(drop),
        SourceDb::Sqlite(pool) => sqlx::raw_sql(db::trusted(script.to_owned())).execute(&pool).await.map(drop),
        SourceDb::Postgres(pool) => match pool.acquire().await.map_err(discreet::of_source) {
            // The script is one transaction of its own, and its settings end with it.
            Ok(mut session) => {
                session.close_on_drop();
                sqlx::raw_sql(db::trusted(script.to_owned())).execute(&mut *session).await.map(drop)
            }
            Err(error) => return Err(unreachable(&url, &error)),
        },
    };
    done.map_err(discreet::of_source).map_err(|error| refused(&error))?;
    Ok(Some(()))
}

fn refused(error: &sqlx::Error) -> SetupError {
    let code = match error {
        sqlx::Error::Database(database) => database.code().map(|code| code.into_owned()),
        _ => None,
    };
    let cure = match code.as_deref() {
        Some("42501") => {
            "this takes the user that owns the table, or a superuser where an earlier installation belongs to somebody else: put \
             the URL into a file and give --url-file FILE, set $CONVERSICA_SYNC_OWNER_URL, or let that user run what `triggers \
             print` shows"
        }
        Some("2BP01") => {
            "something else in the database uses the function or the change log: what `triggers print --remove` shows, run by \
             hand, says what it is; drop or change that first"
        }
        Some("42704") => "make that role first, or name another one with --role",
        Some("55P03" | "5" | "6" | "261" | "517") => {
            "another session keeps the table locked: try again in a calm moment"
        }
        Some("8" | "14" | "1032") => "this takes a user that may write the file and its directory",
        _ => "run what `triggers print` shows by hand, to see more",
    };
    SetupError::new(format!("the database refused, and nothing was changed: {error}"), cure)
}

fn owner_url(run: &RunningDaemon) -> Result<Option<String>, SetupError> {
    let Some(path) = &run.url_file else {
        return Ok(std::env::var(OWNER_URL).ok().filter(|url| !url.is_empty()));
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        SetupError::new(
            format!("--url-file {}: it cannot be read: {error}", path.display()),
            "give a file that holds the URL alone",
        )
    })?;
    Ok(Some(text.trim().to_owned()))
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(SetupError::new(
            "this needs a yes, and there is no terminal to ask on",
            "read the statements above, then add --yes",
        )
        .into());
    }
    print!("Run these statements in the CRM database? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
