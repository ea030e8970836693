//! What `check` finds of the receiver: its certificate, its address, its password. Nobody is listened to.

use std::io;
use std::net::TcpListener;

use secrecy::ExposeSecret;

use crate::cli::check::Finding;
use crate::config::Settings;
use crate::error::SetupError;
use crate::receive;

/// Anybody who can reach the receiver may guess.
const SHORT_PASSWORD: usize = 12;

pub fn of_receiver(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let certificate = receive::prepare(settings)?;
    let Some(receive) = &settings.receive else {
        let text = "no [receive]: nothing that Conversica sends back is taken";
        return Ok(vec![Finding::Good(text.to_owned())]);
    };
    let by = match (certificate, receive.behind_proxy) {
        (Some(_), _) => "with TLS; certificate and key match",
        (None, true) => "without TLS, behind a proxy",
        (None, false) => "without TLS, on this machine only",
    };
    let address = receive.listen;
    let mut findings = vec![match TcpListener::bind(address) {
        Ok(_) => Finding::Good(format!("{address} can be listened on, {by}")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::Doubtful(format!("{address} is in use: by `conversica-sync run`, or by somebody else; {by}"))
        }
        Err(error) => {
            return Err(SetupError::new(
                format!("{address} cannot be listened on: {error}"),
                "set [receive] listen to an address of this machine, and to a port that this user may take",
            )
            .into());
        }
    }];
    if receive.password.expose_secret().chars().count() < SHORT_PASSWORD {
        findings.push(Finding::Doubtful(format!(
            "the password of [receive] has fewer than {SHORT_PASSWORD} characters: take a long one made by chance, for \
             anybody who can reach the receiver may guess"
        )));
    }
    Ok(findings)
}
