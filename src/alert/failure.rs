//! Why a message did not get through a channel, and what the operator can do. Without data: neither the address nor the message. Pure.

/// A failed try of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFailure {
    pub what: String,
    pub cure: &'static str,
}

const LATER: &str = "nothing, if the service comes back by itself; the alert is tried again for a day";
const NO_CONNECTION: &str = "see that the host's name is right, that it answers, and that this machine may reach it";

impl ChannelFailure {
    pub fn new(what: impl Into<String>, cure: &'static str) -> Self {
        Self { what: what.into(), cure }
    }

    /// An answer other than 2xx.
    pub fn of_status(status: u16) -> Self {
        let cure = match status {
            300..400 => "write the address that this one leads to: redirects are not followed",
            401 | 403 => "see that the address, its key and `headers` are right: the service refuses them",
            404 | 410 => "make a new webhook and write its address: the service does not know this one (any more)",
            400 | 413 | 415 | 422 => {
                "see that `format` fits the service behind the address, and that `routing_key` is the right one"
            }
            _ => LATER,
        };
        Self::new(format!("status {status}"), cure)
    }

    pub fn no_answer() -> Self {
        Self::new("no answer within the time limit", "see that the service answers; [alerts] timeout is the limit")
    }

    pub fn no_connection() -> Self {
        Self::new("no connection", NO_CONNECTION)
    }

    pub fn broken_connection() -> Self {
        Self::new("the connection failed", NO_CONNECTION)
    }

    /// How a command ended.
    pub fn of_command(what: impl Into<String>) -> Self {
        Self::new(what, "run the command by hand, as the user of the service, with a message on its standard input")
    }

    /// The channel has failed several times in a row, and another alert tries it at this moment.
    pub fn untried() -> Self {
        Self::new("not tried: the channel has failed several times, and another alert tries it now", LATER)
    }

    pub fn of_smtp(code: u16) -> Self {
        let cure = match code {
            530 | 534 | 535 => "see that user and password in `smtp_url` are right",
            550..=554 => "see that `from` may send through this server and that `to` exists",
            _ => LATER,
        };
        Self::new(format!("mail server status {code}"), cure)
    }

    /// The mail server lacks what this program needs, as it says itself.
    pub fn of_mail_server() -> Self {
        Self::new(
            "the mail server offers no STARTTLS, or no known way to sign in",
            "write smtps:// if it has TLS from the start; leave user and password out if it asks for none",
        )
    }

    pub fn of_tls() -> Self {
        Self::new(
            "TLS with the mail server failed",
            "see that its certificate is valid for the host in `smtp_url`; smtp:// needs STARTTLS, smtps:// TLS from the start",
        )
    }
}
