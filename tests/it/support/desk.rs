//! Writing to the CRM, step by step: a CRM on one engine, a state on the other, and a clock that only the test moves.

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::engine::Engine;
use super::heard::Heard;
use super::postgres::cluster;
use super::scene::Store;
use conversica_sync::config::{ProcessEnvironment, ServiceSettings, layers};
use conversica_sync::receive::writeback::{self, WritebackError, WritebackStep};
use conversica_sync::source::writeback::writer::CrmWriter;
use conversica_sync::store::state_db::StateDb;

pub struct Desk {
    pub engine: Engine,
    pub crm: Store,
    pub state: Store,
    pub now: DateTime<Utc>,
    settings: ServiceSettings,
    db: StateDb,
    writer: CrmWriter,
    runtime: Runtime,
    _directory: TempDir,
}

impl Desk {
    /// `writeback` is the content of that section; `{crm}` in it is the CRM's URL.
    pub fn new(engine: Engine, crm_sql: &str, writeback: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| Store::File(directory.path().join(name));
        let database = || Store::Database(cluster().database());
        let (crm, state) = (engine.pick(file("crm.db"), database()), engine.pick(database(), file("state.db")));
        crm.sql(&format!("create table leads (id integer primary key, name text); {crm_sql}"));
        let url = crm.url();
        Self::open(engine, &url, (crm, state), writeback, directory)
    }

    /// For a CRM on another server, with a table `leads`; the test changes it by its own means, and not by `crm`.
    pub fn beside(crm_url: &str, writeback: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| Store::File(directory.path().join(name));
        let stores = (file("no-crm.db"), file("state.db"));
        Self::open(Engine::Sqlite, crm_url, stores, writeback, directory)
    }

    fn open(engine: Engine, crm_url: &str, (crm, state): (Store, Store), writeback: &str, directory: TempDir) -> Self {
        let text = format!(
            "[source]\nurl = {:?}\ntable = \"leads\"\nkey = \"id\"\n[lead]\nfirstName = \"name\"\nemail = \"name\"\n\
             leadSource = {{ value = \"Website\" }}\nrepName = {{ value = \"Rae\" }}\n\
             [conversica]\nrequire_conversation_id = false\nusername = \"acme-api\"\npassword = \"secret\"\n[state]\nurl = {:?}\n[writeback]\n{}\n",
            crm_url,
            state.url(),
            writeback.replace("{crm}", crm_url)
        );
        let loaded = layers::load_text("test.toml", &text, &ProcessEnvironment::default());
        let settings = loaded.unwrap_or_else(|errors| panic!("{errors}")).settings;
        let runtime = Runtime::new().expect("a runtime starts");
        let (db, writer) = runtime.block_on(async {
            let db = StateDb::open_state(&state.url()).await.expect("a fresh state");
            (db, CrmWriter::new(&settings).expect("settings that can be read").expect("it is not off"))
        });
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a moment");
        Self { engine, crm, state, now, settings, db, writer, runtime, _directory: directory }
    }

    pub fn hear(&self, all: &[Heard]) {
        Heard::put_all(all, &self.state);
    }

    pub fn try_step(&mut self) -> Result<WritebackStep, WritebackError> {
        let step = writeback::step(&self.db, &mut self.writer, &self.settings.delivery.retry, self.now);
        self.runtime.block_on(step).map(|stepped| stepped.expect("nobody else is there"))
    }

    #[track_caller]
    pub fn step(&mut self) -> (usize, usize) {
        let stepped = self.try_step().unwrap_or_else(|trouble| panic!("{trouble}"));
        (stepped.written, stepped.failed)
    }

    /// Steps an hour at a time until a step does nothing.
    #[track_caller]
    pub fn settle(&mut self) {
        loop {
            self.now += TimeDelta::hours(1);
            if self.step() == (0, 0) {
                return;
            }
        }
    }

    /// Opens everything again, as a restart of the program does.
    pub fn restart(&mut self) {
        let _inside = self.runtime.enter();
        self.writer = CrmWriter::new(&self.settings).expect("settings that can be read").expect("it is not off");
    }

    /// The number of waiting events, and of stopped ones.
    pub fn queue(&self) -> (usize, usize) {
        let all = self.state.sql("select status from writeback");
        let stopped = all.iter().filter(|status| *status == "stopped").count();
        (all.len() - stopped, stopped)
    }

    /// The state after a crash between the CRM's commit and our own record of it.
    pub fn forget_that_anything_was_written(&self) {
        self.state.sql(
            "insert into writeback (event_seq, lane, status, due_at) \
             select seq, case kind when 'chat_lead' then 'chat' || seq else id end, 'waiting', 0 from event \
             where seq not in (select event_seq from writeback)",
        );
    }
}
