//! `[admin]`: who may sign in, and whether their tokens can be guessed.

use secrecy::{ExposeSecret, SecretString};

use crate::config::AdminSettings;
use crate::config::validate::report::ValidationReport;

/// Where other machines can guess. 20 random letters and digits are more than 100 bits.
const SHORTEST_ADMIN_TOKEN: usize = 20;

pub fn check(admin: &AdminSettings, report: &mut ValidationReport<'_>) {
    let is_open = !admin.listen.ip().is_loopback();
    if is_open && admin.token.is_none() && admin.operator.is_empty() {
        report.problem(
            "admin.token",
            format!("`admin.token` is not set, but `admin.listen` is {}, open to other machines", admin.listen),
            "Set `token_file` under [admin], or listen on 127.0.0.1.",
        );
    }
    let tokens: Vec<(String, &SecretString)> = admin
        .token
        .iter()
        .map(|token| ("admin.token".to_owned(), token))
        .chain(admin.operator.iter().enumerate().map(|(n, one)| (format!("admin.operator.{n}.token"), &one.token)))
        .collect();
    for (n, (key, token)) in tokens.iter().enumerate() {
        if is_open && token.expose_secret().chars().count() < SHORTEST_ADMIN_TOKEN {
            report.problem(
                key,
                format!(
                    "`{key}` has fewer than {SHORTEST_ADMIN_TOKEN} characters, and `admin.listen` is {}, open to other machines",
                    admin.listen
                ),
                "Make a long one: `openssl rand -hex 32 > admin_token`, named by `token_file`.",
            );
        }
        let is_same = |(_, other): &&(String, &SecretString)| other.expose_secret() == token.expose_secret();
        if let Some((other, _)) = tokens[..n].iter().find(is_same)
            && !report.is_spoiled(other)
        {
            report.problem(
                key,
                format!("`{key}` is the same as `{other}`"),
                "Give each person a token of their own: it says who decides.",
            );
        }
    }
    for (n, one) in admin.operator.iter().enumerate() {
        let key = format!("admin.operator.{n}.name");
        if one.name.chars().any(char::is_control) {
            report.problem(&key, format!("`{key}` has a control character"), "Write a plain name, like \"anna\".");
        }
        if let Some(m) = admin.operator[..n].iter().position(|other| other.name.eq_ignore_ascii_case(&one.name)) {
            report.problem(
                &key,
                format!("`{key}` is `{}`, as `admin.operator.{m}.name` is", one.name),
                "Give each operator a name of their own.",
            );
        }
    }
}
