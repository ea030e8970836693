//! Compares what two configurations make of the source's rows: who would be sent because of the configuration alone. Reads the source
//! only.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::error::SetupError;
use crate::rules::configuration_change::{ConfigurationChange, ConfigurationTotals, RowContent, difference};
use crate::rules::line::{RowBatch, RowLine};
use crate::rules::read_scope::ReadScope;
use crate::source::crm::ConnectedCrm;
use crate::source::read::{PreparedReading, RowBatches};

/// Compares in constant memory. `each` receives the leads that differ, in the order of the source.
///
/// # Errors
/// [`SetupError`] if the two configurations read their rows in different orders; the source's.
pub async fn compare_configurations(
    old: &ConnectedCrm,
    new: &ConnectedCrm,
    mut each: impl FnMut(ConfigurationChange) -> anyhow::Result<()>,
) -> anyhow::Result<ConfigurationTotals> {
    let (mut old_rows, mut new_rows) = (MappedRows::open(old).await?, MappedRows::open(new).await?);
    if old_rows.order != new_rows.order {
        return Err(SetupError::new(
            "the two configurations read leads in different orders, because their keys are of different types",
            "compare configurations with the same [source] key",
        )
        .into());
    }
    let order = new_rows.order;
    let mut totals = ConfigurationTotals::default();
    loop {
        let (old_lead, new_lead) = (old_rows.peek().await?, new_rows.peek().await?);
        let comes_first = match (&old_lead, &new_lead) {
            (None, None) => return Ok(totals),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((old, _)), Some((new, _))) => order.compare(old.as_pair(), new.as_pair()),
        };
        let (old_row, new_row) = match comes_first {
            std::cmp::Ordering::Less => (old_rows.take(), None),
            std::cmp::Ordering::Greater => (None, new_rows.take()),
            std::cmp::Ordering::Equal => (old_rows.take(), new_rows.take()),
        };
        let Some((lead, _)) = old_row.as_ref().or(new_row.as_ref()) else { continue };
        let content = |row: &Option<(LeadId, RowContent)>| row.as_ref().map(|(_, content)| content.clone());
        let change = difference(lead, content(&old_row).as_ref(), content(&new_row).as_ref());
        totals.add(change.as_ref());
        change.map_or(Ok(()), &mut each)?;
    }
}

/// The rows of a configuration, one after another, as its mapping makes them.
struct MappedRows<'a> {
    crm: &'a ConnectedCrm,
    batches: RowBatches,
    order: IdOrder,
    batch: RowBatch,
    next: usize,
    ahead: Option<(LeadId, RowContent)>,
}

impl<'a> MappedRows<'a> {
    async fn open(crm: &'a ConnectedCrm) -> anyhow::Result<Self> {
        let fitting = crm.fitting().await?;
        let mut batches = PreparedReading::new(crm, &fitting, ReadScope::All).start(&crm.db);
        let opened = batches.opened().await.map_err(|error| crm.explained(error.into()))?;
        Ok(Self { crm, batches, order: opened.order, batch: RowBatch::default(), next: 0, ahead: None })
    }

    /// The next row; rows without a key that names a lead are left out.
    async fn peek(&mut self) -> anyhow::Result<Option<&(LeadId, RowContent)>> {
        while self.ahead.is_none() {
            if self.next >= self.batch.len() {
                let batch = self.batches.next().await.map_err(|error| self.crm.explained(error.into()))?;
                let Some(batch) = batch else { return Ok(None) };
                (self.batch, self.next) = (batch, 0);
            }
            let row = RowLine::row(self.batch.line(self.next));
            self.next += 1;
            if row.key.is_some() {
                let mapped = self.crm.mapping.map(&row);
                self.ahead = Some((mapped.lead, mapped.desired));
            }
        }
        Ok(self.ahead.as_ref())
    }

    fn take(&mut self) -> Option<(LeadId, RowContent)> {
        self.ahead.take()
    }
}
