//! `check` of the write-back: whether tables and statements fit. It leaves no traces, and runs no statement of the operator's.

use crate::check::item::CheckItem;
use crate::config::{ServiceSettings, WritebackMode};
use crate::conversica::post::PostKind;
use crate::error::SetupError;
use crate::nearest::nearest;
use crate::source::dialect::SourceDialect;
use crate::source::writeback::ddl::WritebackDesign;
use crate::source::writeback::statements::{EventStatements, known_names};
use crate::source::writeback::writer::CrmWriter;

const SECTION: &str = "writeback";

pub(super) async fn of_writeback(settings: &ServiceSettings) -> anyhow::Result<Vec<CheckItem>> {
    if settings.receive.is_none() {
        return Ok(Vec::new());
    }
    let Some(writer) = CrmWriter::new(settings)? else {
        return Ok(vec![CheckItem::ok(SECTION, "tables", "mode is \"off\": nothing is written to the CRM")]);
    };
    let rehearsed = writer.rehearse().await;
    writer.close().await;
    let missing = rehearsed.map_err(|failure| SetupError::new(failure.to_string(), failure.cure()))?;
    let tables: Vec<&str> = WritebackDesign::of(settings).tables.iter().map(|table| table.name).collect();
    let tables = if missing.is_empty() {
        format!("{} can be written", tables.join(", "))
    } else {
        format!("{} can be made and written; made at first use", missing.join(", "))
    };
    let mut items = vec![CheckItem::ok(SECTION, "tables", tables)];
    if settings.writeback.mode == WritebackMode::Sql {
        items.extend(of_statements(settings)?);
    }
    Ok(items)
}

fn of_statements(settings: &ServiceSettings) -> Result<Vec<CheckItem>, SetupError> {
    let engine: SourceDialect = WritebackDesign::of(settings).engine;
    let statements = EventStatements::read(&settings.writeback, engine)?;
    let mut items = Vec::new();
    for kind in PostKind::ALL {
        let named = statements.of(kind);
        if named.is_empty() {
            let text = format!("there is no {}: such events are not written", kind.name());
            items.push(CheckItem::warn(SECTION, "statement", text));
            continue;
        }
        let text = format!("{} is understood by the database; it was not run", kind.name());
        items.push(CheckItem::ok(SECTION, "statement", text));
        let known = known_names(kind);
        let mut unknown: Vec<&str> =
            named.iter().flat_map(|named| named.names()).filter(|name| !known.contains(name)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for name in unknown {
            let meant =
                nearest(name, known.iter().copied()).map(|near| format!("; did you mean :{near}?")).unwrap_or_default();
            let text = format!(
                "{}: no published key is called :{name}, so it is NULL unless Conversica sends it{meant}",
                kind.name()
            );
            items.push(CheckItem::warn(SECTION, "parameter", text));
        }
    }
    Ok(items)
}
