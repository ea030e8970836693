//! Settings loaded as an operator's would be: layers, messages, secrets.

mod channels;
mod lists;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::config::{FieldRule, FirstRun, OnAmbiguous, WhenNull};
use crate::conversica::lead::LeadKey;

const MINIMAL: &str = r#"
[source]
url = "sqlite:///tmp/crm.db"
table = "leads"
key = "id"
[lead]
firstName = "first_name"
email = "email"
leadSource = "source"
repName = "owner"
conversationId = { value = "Inbound" }
[conversica]
username = "acme-api"
password = "hunter2"
"#;

fn environment(variables: &[(&str, &str)]) -> ProcessEnvironment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ProcessEnvironment { variables, credentials_directory: None }
}

fn load_with(toml: &str, variables: &[(&str, &str)]) -> Result<LoadedConfig, ConfigErrors> {
    load_text("conversica-sync.toml", toml, &environment(variables))
}

fn loaded(toml: &str, variables: &[(&str, &str)]) -> LoadedConfig {
    load_with(toml, variables).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Loads MINIMAL with one line changed, and returns the error message.
fn refused(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    load_with(&MINIMAL.replacen(from, to, 1), &[]).expect_err(to).to_string()
}

fn refused_with(more: &str) -> String {
    load_with(&format!("{MINIMAL}{more}"), &[]).expect_err(more).to_string()
}

fn refused_by_environment(name: &str, value: &str) -> String {
    load_with(MINIMAL, &[(name, value)]).expect_err(name).to_string()
}

#[track_caller]
fn says(message: &str, expected: &[&str]) {
    for part in expected {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn a_minimal_file_gets_the_defaults_of_the_contract() {
    let loaded = loaded(MINIMAL, &[]);
    let settings = loaded.settings;
    assert_eq!(settings.source.poll_interval, Duration::from_secs(15));
    assert_eq!(settings.source.lookback, Duration::from_secs(300));
    assert_eq!(settings.source.statement_timeout, Duration::from_secs(600));
    assert_eq!(settings.delivery.requests_per_second, 5.0);
    assert_eq!(settings.delivery.concurrency, 4);
    assert_eq!(settings.delivery.on_ambiguous, OnAmbiguous::Resend);
    assert_eq!(settings.delivery.retry.max_elapsed, Duration::from_secs(86_400));
    assert_eq!(settings.conversica.endpoint.as_str(), "https://integrations-api.conversica.com/json/");
    assert_eq!(settings.conversica.api_version, "7.2");
    assert_eq!(settings.safety.first_run, None);
    assert_eq!(settings.safety.approve_above, 1000);
    assert!(settings.consent.keep_opt_outs);
    assert!(settings.receive.is_none());
    assert_eq!(settings.admin.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.lead.published[&LeadKey::Id], FieldRule::column("id"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let text = format!("{MINIMAL}[delivery]\nconcurrency = 8\ntimeout = \"20s\"\n");
    let settings = loaded(&text, &[("CONVERSICA_SYNC__DELIVERY__CONCURRENCY", "16")]).settings;
    assert_eq!(settings.delivery.concurrency, 16);
    assert_eq!(settings.delivery.timeout, Duration::from_secs(20));
    assert_eq!(settings.delivery.requests_per_second, 5.0);
}

#[test]
fn variables_are_matched_whatever_the_case_of_the_key() {
    let settings = loaded(
        MINIMAL,
        &[
            ("CONVERSICA_SYNC__LEAD__FIRSTNAME", "given_name"),
            ("CONVERSICA_SYNC__LEAD__CONVERSATIONID__VALUE", "Big Event"),
            ("CONVERSICA_SYNC__LEAD__CUSTOM__dealerGroup", "grp"),
            ("CONVERSICA_SYNC__SOURCE__WHERE", "a = 1"),
            ("CONVERSICA_SYNC__SAFETY__FIRST_RUN", "send"),
            ("CONVERSICA_SYNC__CONVERSICA__SMS", "false"),
            ("CONVERSICA_SYNC__DELIVERY__RETRY__MULTIPLIER", "3"),
            ("CONVERSICA_SYNC_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/root"),
        ],
    )
    .settings;
    assert_eq!(settings.lead.published[&LeadKey::FirstName], FieldRule::column("given_name"));
    assert_eq!(settings.lead.published[&LeadKey::ConversationId], FieldRule::Value("Big Event".to_owned()));
    assert_eq!(settings.lead.custom["dealerGroup"], FieldRule::column("grp"));
    assert_eq!(settings.source.filter.as_deref(), Some("a = 1"));
    assert_eq!(settings.safety.first_run, Some(FirstRun::Send));
    assert_eq!(settings.delivery.retry.multiplier, 3.0);
}

#[test]
fn passwords_that_look_like_numbers_stay_as_they_are() {
    for password in ["007", "1e5", "true", "0x10", " spaced ", "a\"b\\c"] {
        let by_variable = loaded(MINIMAL, &[("CONVERSICA_SYNC__CONVERSICA__PASSWORD", password)]);
        assert_eq!(by_variable.settings.conversica.password.expose_secret(), password);
        let quoted = MINIMAL.replace("\"hunter2\"", &format!("'{password}'"));
        assert_eq!(loaded(&quoted, &[]).settings.conversica.password.expose_secret(), password);
        if password.trim() != password {
            continue;
        }
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        let named = [("CONVERSICA_SYNC__CONVERSICA__PASSWORD_FILE", file.to_str().unwrap())];
        assert_eq!(loaded(MINIMAL, &named).settings.conversica.password.expose_secret(), password);
    }
}

#[test]
fn keys_of_a_map_survive_as_written() {
    let text = MINIMAL.to_owned()
        + r#"
[lead.leadStatus]
column = "status"
default = 7.20
map = { 1 = "New", "Do Not Call" = true, "a.b" = 0.10, "*" = "Other" }
when_null = "empty"
"#;
    let FieldRule::Column { default, map, when_null, .. } =
        loaded(&text, &[]).settings.lead.published[&LeadKey::LeadStatus].clone()
    else {
        panic!("a column")
    };
    let pairs = [("1", "New"), ("Do Not Call", "true"), ("a.b", "0.10"), ("*", "Other")];
    assert_eq!(map, pairs.map(|(from, to)| (from.to_owned(), to.to_owned())).into());
    assert_eq!((default.as_deref(), when_null), (Some("7.20"), WhenNull::Empty));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let message = refused("table = \"leads\"", "table = \"leads\"\npol_interval = \"5s\"");
    says(&message, &["conversica-sync.toml:5: unknown key `source.pol_interval`: did you mean `poll_interval`?"]);
    says(&refused("[conversica]", "[conversca]"), &["unknown key `conversca`", "did you mean `conversica`?"]);
    says(&refused("firstName", "first_name"), &["unknown key `lead.first_name`", "`firstName`", "[lead.custom]"]);
    says(&refused("repName", "apiVersion"), &["comes from `conversica.api_version`"]);
    says(&refused_with("[delivery.retry]\nconcurrency = 5"), &["`delivery.concurrency`", "[delivery]"]);
    says(&refused_with("[lead.custm]\na = \"b\""), &["unknown key `lead.custm`: did you mean `custom`?"]);
    assert_eq!(refused("[conversica]", "[conversca]").matches("cure:").count(), 1);
    says(&load_with("source = 1", &[]).unwrap_err().to_string(), &["`source` is a section, not a key"]);
}

#[test]
fn a_misspelt_key_is_not_reported_as_missing_too() {
    assert_eq!(refused("username", "user_name").matches("cure:").count(), 1);
    assert_eq!(refused("table =", "tabel =").matches("cure:").count(), 1);
    assert_eq!(refused("firstName =", "firstname =").matches("cure:").count(), 1);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = MINIMAL.replace("key = \"id\"", "changes = \"pol\"\npoll_interval = 15")
        + "[delivery]\nconcurrency = 0\n[lead.custom]\nemail = \"mail\"\n";
    let errors = load_with(&text, &[("CONVERSICA_SYNC__STATE__URL", "mysql://x")]).unwrap_err();
    says(
        &errors.to_string(),
        &[
            "conversica-sync.toml: `source.key` is not set\n  cure: Add under [source]: key = \"id\"",
            "did you mean `poll`?",
            "`source.poll_interval` must be a duration, but is a number",
            "`delivery.concurrency` is 0",
            "`lead.custom.email` is a published key",
            "environment variable CONVERSICA_SYNC__STATE__URL: `state.url` is on MySQL or MariaDB",
        ],
    );
    assert_eq!(errors.0.len(), 6, "{errors}");
}

#[test]
fn an_empty_file_names_what_must_be_set() {
    let message = load_with("", &[]).unwrap_err().to_string();
    let expected = [
        "`source.url`",
        "`source.key`",
        "`source.table`",
        "`conversica.username`",
        "`conversica.password`",
        "password_file",
        "`lead.firstName`",
        "`lead.email`",
        "`lead.leadSource`",
        "`lead.repName`",
    ];
    says(&message, &expected);
}

#[test]
fn a_text_that_is_not_toml_is_placed() {
    let message = refused("table = \"leads\"", "table = leads");
    says(&message, &["conversica-sync.toml:4:9: this is not TOML"]);
    says(&refused("key = \"id\"", "table = \"x\""), &["conversica-sync.toml:5:1", "duplicate"]);
    assert!(!refused("\"hunter2\"", "hunter2").contains("hunter2"));
}

#[test]
fn variables_are_refused_with_reasons() {
    says(
        &refused_by_environment("CONVERSICA_SYNC__SOURCE__POL_INTERVAL", "5s"),
        &["CONVERSICA_SYNC__SOURCE__POLL_INTERVAL?"],
    );
    says(
        &refused_by_environment("CONVERSICA_SYNC__DELIVERY__CONCURRENCY", "2.9"),
        &["2.9, which is not a whole number"],
    );
    says(&refused_by_environment("CONVERSICA_SYNC__CONVERSICA__SMS", "yes"), &["must be true or false"]);
    says(&refused_by_environment("CONVERSICA_SYNC__CONVERSICA__PASSWORD", ""), &["is empty", "Unset the variable"]);
    says(&refused_by_environment("CONVERSICA_SYNC__NONSENSE", "x"), &["it sets no known key"]);
    let single = loaded(MINIMAL, &[("CONVERSICA_SYNC_SOURCE_TABLE", "x")]);
    says(&single.warnings[0], &["CONVERSICA_SYNC_SOURCE_TABLE is ignored", "CONVERSICA_SYNC__SOURCE__TABLE"]);
}

#[test]
fn a_secret_comes_from_the_last_layer_that_has_it() {
    let directory = TempDir::new().unwrap();
    let credential = directory.path().join("conversica.password");
    fs::write(&credential, "from-credential\n").unwrap();
    fs::write(directory.path().join("receive.password"), "unused").unwrap();
    let text = MINIMAL.replace("password = \"hunter2\"", "password_file = \"/nonexistent/password\"");
    let mut environment = environment(&[]);
    environment.credentials_directory = Some(directory.path().to_owned());
    let loaded = load_text("a.toml", &text, &environment).unwrap();
    assert_eq!(loaded.settings.conversica.password.expose_secret(), "from-credential");
    assert!(loaded.settings.receive.is_none());
    let shown = loaded.effective.iter().find(|effective| effective.key == "conversica.password").unwrap();
    assert_eq!(shown.layer, "credentials directory, file conversica.password");
    environment.variables.insert("CONVERSICA_SYNC__CONVERSICA__PASSWORD".to_owned(), "from-variable".to_owned());
    let loaded = load_text("a.toml", &text, &environment).unwrap();
    assert_eq!(loaded.settings.conversica.password.expose_secret(), "from-variable");
}

#[test]
fn secret_files_that_do_not_work_are_explained() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("secret");
    let name = file.to_str().unwrap().to_owned();
    let line = format!("password_file = \"{name}\"");
    says(&refused("password = \"hunter2\"", &line), &["`conversica.password_file` names", &name, "does not exist"]);
    fs::write(&file, "\n").unwrap();
    says(&refused("password = \"hunter2\"", &line), &["which is empty"]);
    for (text, fault) in [
        ("\u{feff}secret\n", "begins with a byte order mark"),
        (" secret\n", "begins with a blank"),
        ("\nsecret\n", "begins with a blank, a tab or a line break"),
        ("secret \n", "ends with a blank"),
        ("secret\t", "ends with a blank, a tab"),
        ("secret\u{a0}", "ends with a blank"),
        ("secret\n\n", "has more than one line"),
        ("secret\nanother\n", "has more than one line"),
        ("sec\u{200b}ret", "cannot be seen"),
    ] {
        fs::write(&file, text).unwrap();
        says(&refused("password = \"hunter2\"", &line), &["`conversica.password_file` names", &name, fault, "printf"]);
    }
    for text in ["two words\n", "secret\r\n", "secret"] {
        fs::write(&file, text).unwrap();
        let kept = loaded(&MINIMAL.replace("password = \"hunter2\"", &line), &[]).settings.conversica.password;
        assert_eq!(kept.expose_secret(), text.trim());
    }
    fs::write(&file, "secret\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(loaded(&MINIMAL.replace("password = \"hunter2\"", &line), &[]).warnings.is_empty());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    says(&loaded(&MINIMAL.replace("password = \"hunter2\"", &line), &[]).warnings[0], &["every user", "chmod 600"]);
    let both = format!("password = \"hunter2\"\n{line}");
    says(&refused("password = \"hunter2\"", &both), &["both `conversica.password` and `conversica.password_file`"]);
}

#[test]
fn no_secret_is_ever_shown() {
    let text = MINIMAL.replace("sqlite:///tmp/crm.db", "postgres://reader:hunter2@127.0.0.1/crm")
        + "[admin]\ntoken = \"hunter2\"\n";
    let loaded = loaded(&text, &[]);
    let shown = show::text(&loaded.effective);
    says(
        &shown,
        &["source.url", "postgres://reader:***@127.0.0.1/crm", "(hidden)", "conversica-sync.toml:3", "default"],
    );
    for text in
        [shown, show::json(&loaded.effective).to_string(), format!("{loaded:?}"), format!("{:?}", loaded.settings)]
    {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let secrets = [
        ("\"hunter2\"", "4711"),
        ("username = \"acme-api\"", "username = \"x\""),
        ("sqlite:///tmp/crm.db", "sqlserver://u:hunter2@db/crm"),
        ("sqlite:///tmp/crm.db", "postgres://u:hun#ter2:x@db/crm"),
        ("[conversica]", "[conversica]\nendpoint = \"http://user:hunter2@example.com/\""),
        ("[conversica]", "[conversica]\nendpoint = \"hunter2\""),
    ];
    for (from, to) in secrets {
        let message = refused(from, to);
        assert!(!message.contains("hunter2") && !message.contains("ter2") && !message.contains("4711"), "{message}");
    }
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    says(&refused("table = \"leads\"", "table = \"leads\"\nquery = \"SELECT 1\""), &["both `source.table` and"]);
    says(&refused("table = \"leads\"", "query = \"SELECT 1\"\nwhere = \"a\""), &["`source.where` is set together"]);
    says(&refused("table = \"leads\"", "query = \"SELECT 1\"\nchanges = \"triggers\""), &["needs a table"]);
    says(&refused_with("[state]\nurl = \"sqlite:/tmp/crm.db\""), &["same SQLite file"]);
    says(&refused_with("[receive]\nlisten = \"0.0.0.0:1\"\nusername = \"u\"\npassword = \"p\""), &["there is no TLS"]);
    says(&refused_with("[receive]"), &["`receive.listen` is not set", "`receive.username`", "`receive.password`"]);
    says(&refused_with("[admin]\nlisten = \"0.0.0.0:9464\""), &["`admin.token` is not set"]);
    says(&refused_with("[writeback]\nmode = \"sql\""), &["no statement is set"]);
    says(
        &refused_with("[delivery.retry]\ninitial_interval = \"1h\""),
        &["`delivery.retry.initial_interval` is 1h, more than `max_interval`, which is 15m"],
    );
}

#[test]
fn the_mapping_must_make_leads_that_conversica_takes() {
    says(&refused("email = \"email\"\n", ""), &["`lead.email` is not mapped", "email = \"email\""]);
    says(&refused("[lead]", "[lead]\nid = \"other\""), &["`lead.id` differs from `source.key`"]);
    says(&refused("[lead]", "[lead]\noptOut = { column = \"o\", when_null = \"empty\" }"), &["is no text"]);
    says(&refused("[conversica]", "[conversica]\nsms = true"), &["`lead.cellPhone`", "`lead.smsOptIn`"]);
    let clients = "key = \"id\"\nclient = \"dealer\"";
    let filled = loaded(&MINIMAL.replace("key = \"id\"", clients), &[]).settings;
    assert_eq!(filled.lead.published[&LeadKey::ClientId], FieldRule::column("dealer"));
    let other = MINIMAL.replace("key = \"id\"", clients).replace("[lead]", "[lead]\nclientId = { value = \"x\" }");
    says(&load_with(&other, &[]).unwrap_err().to_string(), &["`lead.clientId` differs from `source.client`"]);
    says(
        &refused("email = \"email\"", "email = { colum = \"email\" }"),
        &["`lead.email`: unknown name `colum`", "`column`?"],
    );
    says(&refused("email = \"email\"", "email = 5"), &["`lead.email`", "a column or a rule"]);
    let text = MINIMAL.replace("conversationId = { value = \"Inbound\" }\n", "");
    let refusal = load_with(&text, &[]).unwrap_err().to_string();
    says(&refusal, &["`lead.conversationId` is not mapped", "automotive", "require_conversation_id = false"]);
    let without = text.replace("[conversica]", "[conversica]\nrequire_conversation_id = false");
    says(&loaded(&without, &[]).warnings[0], &["`lead.conversationId` is not mapped", "apisupport@conversica.com"]);
}

#[test]
fn plain_http_is_for_this_machine_only() {
    let at = |url: &str| MINIMAL.replace("[conversica]", &format!("[conversica]\nendpoint = \"{url}\""));
    for url in ["http://127.0.0.1:8080/json/", "http://localhost/", "http://[::1]:1/", "https://example.com/"] {
        loaded(&at(url), &[]);
    }
    for url in ["http://example.com/", "http://127.0.0.1.example.com/", "ftp://127.0.0.1/", "https://u:p@example.com/"]
    {
        assert!(load_with(&at(url), &[]).is_err(), "{url}");
    }
}

#[test]
fn a_remote_database_without_sslmode_is_worth_a_word() {
    let at = |url: &str| loaded(&MINIMAL.replace("sqlite:///tmp/crm.db", url), &[]).warnings;
    says(&at("postgres://u@db.example.com/crm")[0], &["does not say `sslmode`"]);
    for url in [
        "postgres://u@db.example.com/crm?sslmode=require",
        "postgres://u@localhost/crm",
        "postgres:///crm?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/crm",
    ] {
        assert_eq!(at(url), Vec::<String>::new(), "{url}");
    }
}

#[test]
fn a_receiver_gets_its_defaults() {
    let text = format!("{MINIMAL}[receive]\nlisten = \"127.0.0.1:0\"\nusername = \"conversica\"\npassword = \"p\"\n");
    let receive = loaded(&text, &[]).settings.receive.unwrap();
    assert_eq!((receive.max_body_bytes(), receive.behind_proxy), (1024 * 1024, false));
}

#[test]
fn the_example_is_a_working_configuration() {
    let directory = TempDir::new().unwrap();
    for name in ["conversica.password", "receive.password"] {
        fs::write(directory.path().join(name), "a password").unwrap();
        fs::set_permissions(directory.path().join(name), Permissions::from_mode(0o600)).unwrap();
    }
    let environment = ProcessEnvironment {
        credentials_directory: Some(directory.path().to_owned()),
        ..ProcessEnvironment::default()
    };
    let example = include_str!("../../../config/example.toml");
    let loaded = load_text("example.toml", example, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.settings.safety.first_run, Some(FirstRun::Baseline));
}

#[test]
fn a_file_that_is_not_there_is_explained() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("my.toml");
    says(
        &find_file(Some(&path), &environment(&[])).unwrap_err().to_string(),
        &["--config", "does not exist", "config/example.toml"],
    );
    let named = environment(&[("CONVERSICA_SYNC_CONFIG", path.to_str().unwrap())]);
    says(&find_file(None, &named).unwrap_err().to_string(), &["CONVERSICA_SYNC_CONFIG", "does not exist"]);
    let nothing = find_file(None, &environment(&[])).unwrap_err().to_string();
    says(&nothing, &["./conversica-sync.toml", "/etc/conversica-sync/conversica-sync.toml", "config/example.toml"]);
    fs::write(&path, MINIMAL).unwrap();
    assert_eq!(find_file(None, &named).unwrap(), path);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let loaded = load(&path, &named).unwrap();
    assert_eq!(loaded.file.as_deref(), Some(&*path));
    says(&loaded.warnings[0], &["conversica.password", "chmod 600"]);
}

#[test]
fn a_wait_that_nothing_can_end_is_warned_of() {
    let text = format!("{MINIMAL}[delivery]\non_ambiguous = \"wait\"\n");
    let warnings = load_with(&text, &[]).unwrap().warnings.join("\n");
    says(&warnings, &["delivery.on_ambiguous", "no receiver", "ambiguous_wait"]);
    let text = format!("{text}[receive]\nlisten = \"127.0.0.1:0\"\nusername = \"conversica\"\npassword = \"p\"\n");
    assert_eq!(load_with(&text, &[]).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn paths_of_the_receiver_are_paths_and_each_kind_has_its_own() {
    let section = "[receive]\nlisten = \"127.0.0.1:0\"\nusername = \"conversica\"\npassword = \"p\"\n";
    for path in ["hooks/lead", "https://host/lead", "/lead?key=1", "/a b"] {
        let said = refused_with(&format!("{section}lead_update_path = {path:?}"));
        says(&said, &["`receive.lead_update_path` is", "not the path", "/hooks/conversica/lead"]);
    }
    let said = refused_with(&format!("{section}lead_update_path = \"/x\"\nchat_lead_path = \"/x/\""));
    says(&said, &["`/x` is the path of two kinds", "receive.chat_lead_path"]);
    let said = refused_with(&format!("{section}lead_update_path = \"/conversica/message\""));
    says(&said, &["`/conversica/message` is the path of two kinds", "receive.lead_update_path"]);
    let text = format!("{MINIMAL}{section}lead_update_path = \"/conversica/message/\"\nmessage_path = \"/m\"\n");
    let paths = loaded(&text, &[]).settings.receive.unwrap().paths();
    let paths = paths.map(|(_, paths)| paths.join(" "));
    assert_eq!(paths, ["/conversica/message", "/m", "/conversica/create /conversicaCreate"]);
}

#[test]
fn a_share_of_leads_lies_between_nothing_and_all() {
    for (share, fits) in [("0", true), ("0.5", true), ("1", true), ("-0.1", false), ("1.5", false)] {
        let text = format!("{MINIMAL}[safety]\nsource_shrinks_below = {share}\n");
        let loaded = load_with(&text, &[]).map(|_| ());
        assert_eq!(loaded.is_ok(), fits, "{share}");
        if let Err(error) = loaded {
            says(&error.to_string(), &["safety.source_shrinks_below", "no share", "0.5"]);
        }
    }
}

#[test]
fn a_list_is_written_in_brackets_and_in_a_variable_also_with_commas() {
    const NAME: &str = "CONVERSICA_SYNC__LEAD__REQUIRED";
    let required = |toml: &str, variables: &[(&str, &str)]| loaded(toml, variables).settings.lead.required;
    assert_eq!(required(MINIMAL, &[]), Vec::<String>::new());
    let text = MINIMAL.replace("[lead]", "[lead]\nlastName = \"last\"\nrequired = [\"lastName\", \"email\"]");
    assert_eq!(required(&text, &[]), ["lastName", "email"]);
    assert_eq!(required(&text, &[(NAME, "repName")]), ["repName"], "the environment replaces the file's list");
    assert_eq!(required(&text, &[(NAME, "repName, lastName")]), ["repName", "lastName"]);
    assert_eq!(required(&text, &[(NAME, r#"["repName", "lastName"]"#)]), ["repName", "lastName"]);
    assert_eq!(required(&text, &[(NAME, "[]")]), Vec::<String>::new());
    for broken in ["[repName", "[1]", "[\"a\"]\nx = [\"b\"]"] {
        says(&refused_by_environment(NAME, broken), &[NAME, "`lead.required` must be a list, but is text"]);
    }
    says(&refused_by_environment(NAME, "repName,,email"), &["`lead.required` has an empty entry"]);
    says(
        &refused("[lead]", "[lead]\nrequired = \"email\""),
        &["must be a list, but is text", "[\"one\", \"another\"]"],
    );
    says(&refused("[lead]", "[lead]\nrequired = [1]"), &["conversica-sync.toml:7", "an entry that is a number"]);
    let misspelt = refused("[lead]", "[lead]\nrequired = [\"emial\"]");
    says(&misspelt, &["`lead.required` names `emial`, which is not mapped", "did you mean `email`?"]);
    says(&refused("[lead]", "[lead]\nrequierd = []"), &["unknown key `lead.requierd`: did you mean `required`?"]);
    let shown = show::text(&loaded(&text, &[]).effective);
    says(&shown, &["lead.required", r#"["lastName","email"]"#, "conversica-sync.toml:8"]);
}
