//! Lists of tables: their entries in the file and the environment, their secrets, their messages.

use super::*;
use crate::config::OperatorRole;

const TWO: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[[admin.operator]]\nname = \"anna\"\ntoken = \"first-token\"\nrole = \"act\"\n\
                   [[admin.operator]]\nname = \"ben\"\ntoken = \"second-token\"\nrole = \"look\"\n";

fn with_two() -> String {
    format!("{MINIMAL}{TWO}")
}

fn operators(loaded: &LoadedConfig) -> Vec<(String, String, OperatorRole)> {
    let operators = loaded.settings.admin.operator.iter();
    operators
        .map(|one| {
            (one.name.clone(), one.token.as_ref().map_or("", |token| token.expose_secret()).to_owned(), one.role)
        })
        .collect()
}

#[test]
fn entries_are_read_in_their_order() {
    let entry = |name: &str, token: &str, role| (name.to_owned(), token.to_owned(), role);
    let two = [entry("anna", "first-token", OperatorRole::Act), entry("ben", "second-token", OperatorRole::Look)];
    assert_eq!(operators(&loaded(&with_two(), &[])), two);
    assert_eq!(operators(&loaded(MINIMAL, &[])), []);
    let many: String = (0..12)
        .map(|n| format!("[[admin.operator]]\nname = \"n{n}\"\ntoken = \"token-{n}\"\nrole = \"look\"\n"))
        .collect();
    let names: Vec<String> =
        operators(&loaded(&format!("{MINIMAL}{many}"), &[])).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, (0..12).map(|n| format!("n{n}")).collect::<Vec<_>>(), "10 comes behind 9");
}

#[test]
fn variables_change_an_entry_and_add_one() {
    let loaded = loaded(
        &with_two(),
        &[
            ("CONVERSICA_SYNC__ADMIN__OPERATOR__1__ROLE", "act"),
            ("CONVERSICA_SYNC__ADMIN__OPERATOR__2__NAME", "carl"),
            ("CONVERSICA_SYNC__ADMIN__OPERATOR__2__TOKEN", "third-token"),
            ("CONVERSICA_SYNC__ADMIN__OPERATOR__2__ROLE", "look"),
        ],
    );
    let read: Vec<_> = operators(&loaded).into_iter().map(|(name, _, role)| (name, role)).collect();
    let wanted = [("anna", OperatorRole::Act), ("ben", OperatorRole::Act), ("carl", OperatorRole::Look)];
    assert_eq!(read, wanted.map(|(name, role)| (name.to_owned(), role)));
    let message =
        load_with(&with_two(), &[("CONVERSICA_SYNC__ADMIN__OPERATOR__3__NAME", "dora")]).expect_err("refused");
    says(&message.to_string(), &["OPERATOR__3__NAME", "`admin.operator.3` is set, but there is no `admin.operator.2`"]);
    let misspelt = refused_by_environment("CONVERSICA_SYNC__ADMIN__OPERATOR__0__ROL", "act");
    says(&misspelt, &["did you mean CONVERSICA_SYNC__ADMIN__OPERATOR__0__ROLE?"]);
}

#[test]
fn secrets_of_entries_are_read_from_files_and_never_shown() {
    let directory = TempDir::new().expect("it works");
    let file = directory.path().join("anna_token");
    fs::write(&file, "token-of-the-file\n").expect("it works");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it works");
    fs::write(directory.path().join("admin.operator.1.token"), "token-of-the-credential").expect("it works");
    let text = with_two().replace("token = \"first-token\"", &format!("token_file = \"{}\"", file.display()));
    let mut environment = environment(&[]);
    environment.credentials_directory = Some(directory.path().to_owned());
    let loaded = load_text("conversica-sync.toml", &text, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    let tokens: Vec<String> = operators(&loaded).into_iter().map(|(_, token, _)| token).collect();
    assert_eq!(tokens, ["token-of-the-file", "token-of-the-credential"]);
    // Its entry was removed. Counted anew, it would be the next person's.
    fs::write(directory.path().join("admin.operator.2.token"), "token-of-nobody").expect("it works");
    let refusal = load_text("conversica-sync.toml", &text, &environment).unwrap_err().to_string();
    says(&refusal, &["file admin.operator.2.token: it belongs to no entry", "rename the files of the entries"]);
    let shown = show::text(&loaded.effective);
    let lines: Vec<String> = shown
        .lines()
        .filter(|line| line.starts_with("admin."))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "admin.listen \"127.0.0.1:0\" conversica-sync.toml:16".to_owned(),
            "admin.token (not set)".to_owned(),
            "admin.sso_header (not set)".to_owned(),
            "admin.sso_from (not set)".to_owned(),
            "admin.operator.0.name \"anna\" conversica-sync.toml:18".to_owned(),
            format!("admin.operator.0.token (hidden) file {}, named by conversica-sync.toml:19", file.display()),
            "admin.operator.0.role \"act\" conversica-sync.toml:20".to_owned(),
            "admin.operator.1.name \"ben\" conversica-sync.toml:22".to_owned(),
            "admin.operator.1.token (hidden) credentials directory, file admin.operator.1.token".to_owned(),
            "admin.operator.1.role \"look\" conversica-sync.toml:24".to_owned(),
        ]
    );
    for text in [shown, format!("{loaded:?}"), show::json(&loaded.effective).to_string()] {
        assert!(!text.contains("token-of-the"), "{text}");
    }
}

#[test]
fn mistakes_in_entries_name_the_entry_its_line_and_the_cure() {
    let with = |from: &str, to: &str| {
        assert!(with_two().contains(from), "{from}");
        load_with(&with_two().replacen(from, to, 1), &[]).expect_err(to).to_string()
    };
    says(
        &with("name = \"ben\"", "nam = \"ben\""),
        &["conversica-sync.toml:22: unknown key `admin.operator.1.nam`: did you mean `name`?"],
    );
    says(
        &with("role = \"look\"", "role = \"watch\""),
        &["conversica-sync.toml:24: `admin.operator.1.role` is `watch`", "Write \"look\" or \"act\"."],
    );
    says(&with("name = \"ben\"", "name = 5"), &["`admin.operator.1.name` must be text, but is a number"]);
    let missing = with("token = \"second-token\"\n", "");
    says(
        &missing,
        &[
            "conversica-sync.toml:21",
            "`admin.operator.1.token` is not set",
            "Add under [[admin.operator]]: token =",
            "token_file",
        ],
    );
    let empty = refused_with("[[admin.operator]]\n");
    says(
        &empty,
        &["conversica-sync.toml:15: `admin.operator.0.name` is not set", "`admin.operator.0.role` is not set"],
    );
    let file = with("token = \"first-token\"", "token_file = \"/nonexistent/token\"");
    says(
        &file,
        &["conversica-sync.toml:19", "`admin.operator.0.token_file` names /nonexistent/token", "does not exist"],
    );
    assert_eq!(file.lines().filter(|line| line.contains("admin.operator")).count(), 1, "{file}");
    says(&refused_with("[admin.operator]\nname = \"anna\"\n"), &["is a list of tables", "Write [[admin.operator]]"]);
    says(
        &refused_with("[admin]\noperator = [\"anna\"]\n"),
        &["`admin.operator.0` is not a table", "[[admin.operator]]"],
    );
    says(
        &refused_with("[[admin.operater]]\nname = \"anna\"\n"),
        &["unknown key `admin.operater`: did you mean `operator`?"],
    );
    for message in [missing, file] {
        assert!(!message.contains("first-token") && !message.contains("second-token"), "{message}");
    }
}

#[test]
fn operators_of_one_name_or_token_are_refused() {
    let twice = with_two().replace("\"ben\"", "\"anna\"");
    says(
        &load_with(&twice, &[]).expect_err("refused").to_string(),
        &["`admin.operator.1.name` is `anna`, as `admin.operator.0.name` is"],
    );
    let twice = with_two().replace("second-token", "first-token");
    let message = load_with(&twice, &[]).expect_err("refused").to_string();
    says(&message, &["`admin.operator.1.token` is the same as `admin.operator.0.token`"]);
    let twice = with_two().replace("[admin]", "[admin]\ntoken = \"second-token\"");
    let message = load_with(&twice, &[]).expect_err("refused").to_string();
    says(&message, &["`admin.operator.1.token` is the same as `admin.token`"]);
    assert!(!message.contains("second-token"), "{message}");
}

#[test]
fn off_loopback_every_token_is_long() {
    let open = with_two().replace("127.0.0.1:0", "0.0.0.0:9464");
    let message = load_with(&open, &[]).expect_err("refused").to_string();
    says(
        &message,
        &["`admin.operator.0.token` has fewer than 20 characters", "`admin.operator.1.token`", "openssl rand"],
    );
    let long =
        open.replace("first-token", "first-token-that-is-long").replace("second-token", "second-token-that-is-long");
    assert_eq!(operators(&loaded(&long, &[])).len(), 2, "no [admin] token is needed");
}

#[test]
fn single_sign_on_says_from_where_its_header_counts() {
    let with = |lines: &str| with_two().replace("[admin]\n", &format!("[admin]\n{lines}"));
    let refused = |lines: &str| load_with(&with(lines), &[]).expect_err(lines).to_string();
    const HEADER: &str = "sso_header = \"X-Forwarded-User\"\n";
    let both = format!("{HEADER}sso_from = [\"127.0.0.1\", \"10.0.0.0/8\"]\n");
    let without_tokens = with(&both).replace("token = \"first-token\"\n", "").replace("token = \"second-token\"\n", "");
    assert!(loaded(&without_tokens, &[]).settings.admin.operator.iter().all(|one| one.token.is_none()));
    says(
        &refused(HEADER),
        &["conversica-sync.toml:16: `admin.sso_header` is set, but `admin.sso_from` is not", "anybody could set"],
    );
    says(&refused("sso_from = [\"127.0.0.1\"]\n"), &["`admin.sso_from` is set, but `admin.sso_header` is not"]);
    for (from, said) in [
        ("[\"0.0.0.0/0\"]", "means every address"),
        ("[\"10.0.0.1/8\"]", "has bits set behind its prefix"),
        ("[\"proxy.example.com\"]", "is neither an address nor a range"),
        ("[]", "is an empty list"),
    ] {
        says(&refused(&format!("{HEADER}sso_from = {from}\n")), &["`admin.sso_from`", said]);
    }
    says(&refused("sso_header = \"Cookie\"\nsso_from = [\"127.0.0.1\"]\n"), &["which cannot name an operator"]);
    let nobody = load_with(&format!("{MINIMAL}[admin]\n{both}"), &[]).expect_err("refused").to_string();
    says(&nobody, &["there is no operator that it could name"]);
}
