//! `init`: inspects a database, proposes a configuration, shows its result on sample rows, and writes a commented configuration
//! file. Sends nothing, and writes nothing to the database.

pub mod args;
mod ask;
mod flags;
pub mod kept;
pub mod proposal_text;
mod show;
mod store;
pub mod suggested_line;
mod trial;
mod write;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crate::cli::context::ExitCode;
use crate::cli::init::args::Args;
use crate::config::{ProcessEnvironment, url_engine};
use crate::console::say;
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::db::pooler::StatementPooler;
use crate::error::SetupError;
use crate::nearest::nearest;
use crate::setup::introspect;
use crate::setup::introspect::table::InspectedTable;
use crate::setup::propose::proposal::{GivenValue, OperatorWishes, SourceProposal};
use crate::setup::propose::rank::{self, TableCandidate};
use crate::setup::propose::{SqlDialect, ancestors, propose, staff};
use crate::source::mysql;
use crate::source::source_db::SourceDb;
use store::ConfigTarget;
use trial::ConfigTrial;

/// The longest time for one query.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tables whose values are sampled before one is chosen.
const SAMPLED_TABLES: usize = 6;

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match propose_and_write(args, file).await {
        Err(error) if error.is::<ask::InitStopped>() => {
            say("Nothing was written.");
            Ok(ExitCode::Decision)
        }
        ended => ended,
    }
}

async fn propose_and_write(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let asks = !args.yes && !args.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let target = ConfigTarget::new(&args, file)?;
    let questions = if asks { ask::InitQuestions::Asked } else { ask::InitQuestions::None };
    let source = flags::source(&args, &ProcessEnvironment::of_process(), questions)?;
    let db = connect(&source.url).await?;
    let mut catalog = introspect::tables(&db).await?;
    let table = choose(&args, &db, &mut catalog, questions).await?;
    let dialect = match db {
        SourceDb::Sqlite(_) => SqlDialect::Sqlite,
        SourceDb::Postgres(_) => SqlDialect::Postgres,
        SourceDb::Mysql(_) => SqlDialect::Mysql,
    };
    let mut wishes = flags::wishes(&args);
    refuse_unknown_columns(&catalog[table], &wishes)?;
    let mut proposal = proposed(&db, &mut catalog, table, dialect, &wishes).await;
    let mut username = args.username.clone();
    if asks {
        ask::about(&proposal, &catalog[table], &mut wishes, &mut username)?;
        proposal = propose(&catalog, table, dialect, &wishes);
    }
    db.close().await;
    let username = refuse_missing(&proposal, &wishes, username)?;
    let text = write::config(
        &proposal,
        &write::ConfigSettings { source: &source, target: &target, args: &args, username: &username },
    );
    let mut trial = ConfigTrial::of(&target, &text, &source.url).await?;
    // Only a person at a terminal sees what a real row says.
    if !asks && !std::io::stdout().is_terminal() {
        trial.mask_sample();
    }
    if args.json {
        say(show::json(&proposal, &trial, &target, &catalog[table]));
    } else {
        show::proposal(&proposal, &catalog[table]);
        show::trial(&trial, &catalog[table], trial.sample.as_ref().filter(|_| !args.no_sample));
    }
    // A configuration without any valid lead is written only if the operator confirms it.
    if asks {
        ask::whether_to_write(&target, &trial)?;
    } else if trial.valid == 0 && !args.yes {
        if !args.json {
            say("Nothing was written, because no row makes a valid lead. To write the file all the same: --yes");
        }
        return Ok(ExitCode::Attention);
    }
    target.write(&text, &source)?;
    if !args.json {
        show::next_steps(&target, &source, &trial);
    }
    Ok(if trial.valid == 0 { ExitCode::Attention } else { ExitCode::Done })
}

async fn connect(url: &str) -> anyhow::Result<SourceDb> {
    if let Some(path) = db::sqlite_path(url).filter(|path| !path.exists()) {
        return Err(SetupError::new(
            format!("--url: there is no file {}", path.display()),
            "give the path of the CRM's SQLite file, like sqlite:///var/lib/crm/crm.db",
        )
        .into());
    }
    if let Some(refused) = url_engine::refuse(url) {
        return Err(SetupError::new(format!("--url: it {}", refused.what), refused.cure).into());
    }
    SourceDb::open_source(url, PATIENCE).await.map_err(|error| {
        if let Some((what, cure)) = mysql::explain_login(&error).filter(|_| db::is_mysql(url)) {
            return SetupError::new(format!("--url: {} cannot be reached: {what}", db::display_url(url)), cure).into();
        }
        if StatementPooler::is_cause_of(&error) {
            let what = format!("--url: {} cannot be used: {StatementPooler}", db::display_url(url));
            return SetupError::new(what, StatementPooler::CURE).into();
        }
        let what = format!("--url: {} cannot be reached: {error}", db::display_url(url));
        SetupError::new(
            what,
            "write it as sqlite:///absolute/path.db, postgres://user@host/database or mysql://user@host/database, and check that the database is running; \
             for a URL with a password, take --url-file",
        )
        .into()
    })
}

/// The table: the named one, the operator's choice, or the only likely one.
async fn choose(
    args: &Args,
    db: &SourceDb,
    catalog: &mut [InspectedTable],
    questions: ask::InitQuestions,
) -> anyhow::Result<usize> {
    if let Some(asked) = &args.table {
        let found = named(catalog, asked)?;
        introspect::sample(db, &mut catalog[found]).await;
        return Ok(found);
    }
    for candidate in rank::candidates(catalog).iter().take(SAMPLED_TABLES) {
        introspect::sample(db, &mut catalog[candidate.table]).await;
        for ancestor in ancestors(catalog, candidate.table) {
            introspect::sample(db, &mut catalog[ancestor]).await;
        }
    }
    let mut candidates = rank::candidates(catalog);
    candidates.retain(|candidate| catalog[candidate.table].rows.is_some());
    if candidates.is_empty() {
        return Err(no_candidate(catalog).into());
    }
    let likely: Vec<&TableCandidate> = candidates.iter().take(SAMPLED_TABLES).collect();
    if questions == ask::InitQuestions::Asked {
        return ask::which_table(&likely, catalog);
    }
    if let Some(winner) = rank::clear_winner(&candidates) {
        return Ok(winner.table);
    }
    let names: Vec<String> = likely.iter().map(|candidate| catalog[candidate.table].setting()).collect();
    Err(SetupError::new(
        format!("several tables may hold the leads: {}", names.join(", ")),
        format!("name the right one: --table {}", names[0]),
    )
    .into())
}

/// The tables that `init` may suggest: none of users or staff.
fn advisable(catalog: &[InspectedTable]) -> Vec<String> {
    let others = (0..catalog.len()).filter(|index| !staff::is_staff_in(catalog, *index));
    others.map(|index| catalog[index].setting()).collect()
}

fn no_candidate(catalog: &[InspectedTable]) -> SetupError {
    let mut names = advisable(catalog);
    names.truncate(20);
    let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if rank::has_addresses_of_staff(catalog) {
        return SetupError::new(
            "the only tables with e-mail addresses look like tables of users or staff, who are not to get messages as leads",
            format!(
                "init takes such a table only if you name it with --table NAME. Where the leads' addresses are in another                  database or schema, let this user read it (grant select). The other tables that can be seen: {list}"
            ),
        );
    }
    SetupError::new(
        "no table looks as if it held people with e-mail addresses",
        format!("name one with --table, and let this user read it (grant select); the tables that can be seen: {list}"),
    )
}

fn named(catalog: &[InspectedTable], asked: &str) -> Result<usize, SetupError> {
    let wanted = db::table_parts(asked);
    let parts = |table: &InspectedTable| match wanted.as_slice() {
        [name] => table.name.eq_ignore_ascii_case(name),
        [schema, name] => {
            let own = table.schema.as_deref().unwrap_or(if schema == "main" { "main" } else { "public" });
            own == schema && table.name.eq_ignore_ascii_case(name)
        }
        _ => false,
    };
    let exact = |table: &InspectedTable| table.setting() == asked;
    if let Some(found) = catalog.iter().position(exact).or_else(|| catalog.iter().position(parts)) {
        return Ok(found);
    }
    let names = advisable(catalog);
    let near = nearest(asked, names.iter().map(String::as_str));
    let hint = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    let list = names.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(SetupError::new(
        format!("--table {asked}: there is no such table or view that can be read"),
        format!("{hint}the tables: {list}"),
    ))
}

/// Proposes, samples the tables that the proposal would join, and proposes again with those samples.
async fn proposed(
    db: &SourceDb,
    catalog: &mut [InspectedTable],
    table: usize,
    dialect: SqlDialect,
    wishes: &OperatorWishes,
) -> SourceProposal {
    loop {
        let proposal = propose(catalog, table, dialect, wishes);
        let unseen: Vec<usize> =
            proposal.reads.iter().copied().filter(|index| catalog[*index].rows.is_none()).collect();
        if unseen.is_empty() {
            let is_seen = sample_labels(db, catalog, table).await;
            return if is_seen { propose(catalog, table, dialect, wishes) } else { proposal };
        }
        for index in unseen {
            introspect::sample(db, &mut catalog[index]).await;
            // A table that could not be counted counts as sampled, too.
            catalog[index].rows.get_or_insert(0);
        }
    }
}

/// Samples the tables that this one refers to and that were not sampled before; whether there were any. A table of words in
/// several languages is joined only if its values are known.
async fn sample_labels(db: &SourceDb, catalog: &mut [InspectedTable], table: usize) -> bool {
    let references = catalog[table].references.clone();
    let mut seen = false;
    for reference in references {
        let place = |t: &InspectedTable| t.schema == reference.schema && t.name == reference.table && t.rows.is_none();
        let Some(index) = catalog.iter().position(place) else { continue };
        introspect::sample(db, &mut catalog[index]).await;
        catalog[index].rows.get_or_insert(0);
        seen = true;
    }
    seen
}

fn refuse_unknown_columns(table: &InspectedTable, wishes: &OperatorWishes) -> Result<(), SetupError> {
    let flags = [("--key", &wishes.key), ("--client", &wishes.client)];
    let mut asked: Vec<(String, &str)> =
        flags.iter().filter_map(|(flag, column)| Some(((*flag).to_owned(), column.as_deref()?))).collect();
    for (key, given) in &wishes.given {
        if let GivenValue::Column(column) | GivenValue::Inverted(column) = given {
            asked.push((format!("--map {key}"), column));
        }
    }
    for (flag, column) in asked {
        if table.column(column).is_none_or(|found| !found.readable) {
            let names = || table.columns.iter().map(|column| column.name.as_str());
            let hint = nearest(column, names()).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
            let list = names().collect::<Vec<_>>().join(", ");
            return Err(SetupError::new(
                format!("{flag}: {} has no column \"{column}\" that can be read", table.setting()),
                format!("{hint}the columns: {list}"),
            ));
        }
    }
    Ok(())
}

/// All missing choices in one message.
fn refuse_missing(
    proposal: &SourceProposal,
    wishes: &OperatorWishes,
    username: Option<String>,
) -> Result<String, SetupError> {
    let mut missing: Vec<String> = Vec::new();
    if proposal.key.is_none() {
        missing.push("--key COLUMN (no column is unique, as far as can be seen)".to_owned());
    }
    for key in proposal.missing() {
        missing.push(match key {
            LeadKey::LeadSource => "--value leadSource=Website, or --map leadSource=COLUMN".to_owned(),
            LeadKey::RepName => "--value repName='The Sales Team', or --map repName=COLUMN".to_owned(),
            other => format!("--map {other}=COLUMN"),
        });
    }
    let left_out = wishes.given.contains(&(LeadKey::ConversationId, GivenValue::Nothing));
    if proposal.field(LeadKey::ConversationId).is_none() && !left_out {
        missing.push(
            "--conversation NAME, or --map conversationId=COLUMN (--map conversationId= leaves it out)".to_owned(),
        );
    }
    match username {
        Some(username) if missing.is_empty() => Ok(username),
        username => {
            if username.is_none() {
                missing.push("--username NAME".to_owned());
            }
            Err(SetupError::new(
                format!(
                    "this cannot be known from the database ({}), and there is no terminal to ask at:\n  {}",
                    proposal.table,
                    missing.join("\n  ")
                ),
                "give it on the command line, or run init on a terminal, without --yes",
            ))
        }
    }
}
