//! The configuration for the sample CRM: an operator of the demo reads it first, so it explains itself. Pure.

use std::net::SocketAddr;
use std::path::Path;

/// The text, with the places that differ from run to run in braces.
pub const CONFIG: &str = r#"# The demo's configuration: a CRM in SQLite, and the sandbox in place of Conversica.

[source]
url = {source_url}
table = "leads"
key = "id"
changed_at = "updated_at"
poll_interval = "1s"

# Conversica's key = the CRM's column
[lead]
id = "id"
conversationId = { value = "Inbound Leads" }
firstName = "first_name"
lastName = "last_name"
email = "email"
homePhone = "phone"
cellPhone = "mobile"
leadSource = { column = "source", default = "Website" }
leadStatus = { column = "status", map = { "1" = "New", "2" = "Working", "3" = "Sold", "4" = "Lost" } }
repName = "owner_name"
repEmail = "owner_email"
optOut = "do_not_contact"
date = "created_at"
year = "vehicle_year"
make = "make"
model = "model"

# a key agreed with Conversica beyond the published ones
[lead.custom]
dealerGroup = "group_name"

[conversica]
endpoint = {endpoint}
username = {username}
password = {password}

[delivery]
requests_per_second = 60

# The sandbox writes to nobody. With a real account, leave this out and look at `plan` first.
[safety]
first_run = "send"

[state]
url = {state_url}

# What Conversica sends back is kept, and written to conversica_leads and conversica_messages in the CRM's database.
[receive]
listen = {receive}
username = {username}
password = {password}

[writeback]
mode = "tables"

[admin]
listen = {admin}
"#;

/// The values that differ from run to run.
#[derive(Debug, Clone, Copy)]
pub struct DemoPlaces<'a> {
    /// Files of the sample CRM and of the program's own state.
    pub crm: &'a Path,
    pub state: &'a Path,
    pub endpoint: &'a str,
    pub username: &'a str,
    pub password: &'a str,
    /// The receiver's address; the sandbox has to know the port.
    pub receive: SocketAddr,
    /// Where the dashboard listens; port 0 picks a free one.
    pub admin: SocketAddr,
}

/// [`CONFIG`] with everything filled in.
pub fn config_text(places: &DemoPlaces<'_>) -> String {
    let values = [
        ("{source_url}", sqlite_url(places.crm)),
        ("{state_url}", sqlite_url(places.state)),
        ("{endpoint}", places.endpoint.to_owned()),
        ("{username}", places.username.to_owned()),
        ("{password}", places.password.to_owned()),
        ("{receive}", places.receive.to_string()),
        ("{admin}", places.admin.to_string()),
    ];
    // Line by line and once per line: a value that looks like a placeholder must not be replaced again.
    let fill = |line: &str| match values.iter().find(|(place, _)| line.ends_with(place)) {
        Some((place, value)) => line.replace(place, &toml::Value::from(value.as_str()).to_string()),
        None => line.to_owned(),
    };
    CONFIG.lines().map(|line| fill(line) + "\n").collect()
}

/// Escapes only characters that would end the path or be decoded.
fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for letter in path.to_string_lossy().chars() {
        match letter {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            ' ' => url.push_str("%20"),
            other => url.push(other),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_toml_whatever_is_filled_in() {
        let text = config_text(&DemoPlaces {
            crm: Path::new("/tmp/with space/100%/crm.db"),
            state: Path::new("/tmp/state.db"),
            endpoint: "http://127.0.0.1:8099/json/",
            username: "{password}",
            password: "quote \" and \\ and {admin}",
            receive: "127.0.0.1:8443".parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
        });
        let settings: toml::Table = text.parse().unwrap();
        assert_eq!(settings["source"]["url"].as_str(), Some("sqlite:///tmp/with%20space/100%25/crm.db"));
        assert_eq!(settings["conversica"]["username"].as_str(), Some("{password}"));
        assert_eq!(settings["conversica"]["password"].as_str(), Some("quote \" and \\ and {admin}"));
        assert_eq!(settings["admin"]["listen"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(settings["lead"]["custom"]["dealerGroup"].as_str(), Some("group_name"));
    }
}
