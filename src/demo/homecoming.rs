//! Shows one conversation of the demo from the CRM's tables. Reads the sample CRM only.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row as _, SqliteConnection};

const TICK: Duration = Duration::from_millis(100);

/// The story of the first lead that became a hot lead, line by line.
///
/// # Errors
/// When there is none after `patience`.
pub async fn one_conversation(crm_file: &Path, patience: Duration) -> anyhow::Result<Vec<String>> {
    let options = SqliteConnectOptions::new().filename(crm_file).read_only(true).busy_timeout(Duration::from_secs(5));
    let mut crm = options.disable_statement_logging().connect().await?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        // The table does not exist before the first post is written back.
        if let Ok(Some(lines)) = look(&mut crm).await {
            return Ok(lines);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "no conversation came home in time");
        tokio::time::sleep(TICK).await;
    }
}

/// `None` until such a conversation is complete.
async fn look(crm: &mut SqliteConnection) -> Result<Option<Vec<String>>, sqlx::Error> {
    let found = sqlx::query(
        "select l.id, l.first_name, l.last_name, l.source, l.owner_name, c.conversation_stage, c.conversation_status, \
         c.lead_status, c.discovered_phone1 from conversica_leads c join leads l on cast(l.id as text) = c.id \
         where c.hot_lead = 1 and (select count(*) from conversica_messages m where m.id = c.id) >= 3 \
         order by l.id limit 1",
    )
    .fetch_optional(&mut *crm)
    .await?;
    let Some(lead) = found else { return Ok(None) };
    let text = |column: usize| lead.try_get::<Option<String>, _>(column).map(Option::unwrap_or_default);
    let (id, first): (i64, String) = (lead.try_get(0)?, text(1)?);
    let mut lines = vec![
        "One of them, there and back again:".to_owned(),
        format!("  sent      lead {id}, {first} {}, from {}, of {}", text(2)?, text(3)?, text(4)?),
    ];
    let messages = sqlx::query("select action, body from conversica_messages where id = $1 order by date, received_at")
        .bind(id.to_string())
        .fetch_all(crm)
        .await?;
    for message in messages {
        let who = if message.try_get::<String, _>(0)? == "sent" { "assistant".to_owned() } else { first.clone() };
        let body: String = message.try_get(1)?;
        lines.push(format!("  heard     {who:9}  {}", body.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.push(format!("  in the CRM: {} · {} · {}, telephone {}", text(7)?, text(5)?, text(6)?, text(8)?));
    lines.push("  (tables conversica_leads and conversica_messages of the sample CRM)\n".to_owned());
    Ok(Some(lines))
}
