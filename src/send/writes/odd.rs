//! Withdrawals by odd opt-out values: undecided until the poll knows how many there are. See [`crate::rules::odd_opt_out`].

use std::collections::BTreeSet;

use tracing::warn;

use crate::conversica::lead::LeadKey;
use crate::rules::diff;
use crate::rules::lead_change::KnownLead;
use crate::rules::mapping::MappedRow;
use crate::rules::odd_opt_out::hold_odd;
use crate::send::odd_values::OddWithdrawal;
use crate::send::odd_values::UNDECIDED;
use crate::send::writes::PollWriter;
use crate::store::control;

impl PollWriter<'_> {
    pub(crate) async fn keep_odd(
        &mut self,
        mapped: MappedRow,
        known: Option<KnownLead>,
        delivered: Option<&str>,
    ) -> anyhow::Result<()> {
        for key in &mapped.odd {
            *self.odd.counts.entry(*key).or_default() += 1;
        }
        self.odd.waiting.push(OddWithdrawal { mapped, known, delivered: delivered.map(str::to_owned) });
        if self.odd.waiting.len() < UNDECIDED {
            return Ok(());
        }
        // Too many already, whatever the other rows hold.
        self.decide_odd(0).await
    }

    /// Sends the withdrawals of keys that have few of them among `rows` rows; the others wait for the operator.
    pub(crate) async fn decide_odd(&mut self, rows: u64) -> anyhow::Result<()> {
        let columns = &self.odd.columns;
        let many = self.odd.counts.iter().filter(|(key, odd)| columns.are_too_many(**key, **odd, rows));
        let many = many.map(|(key, _)| *key);
        let many: BTreeSet<LeadKey> = many.collect();
        let new: Vec<&str> = many.difference(&self.odd.columns.doubted).map(|key| key.name()).collect();
        if !new.is_empty() {
            warn!(
                keys = new.join(", "),
                "too many opt-out values are neither yes nor no: none of them is sent; look with `status`"
            );
        }
        self.odd.columns.doubted.extend(many);
        for OddWithdrawal { mapped, known, delivered } in std::mem::take(&mut self.odd.waiting) {
            let mapped = hold_odd(mapped, &self.odd.columns.doubted);
            let difference = diff::compare(mapped, known.as_ref(), delivered.as_deref(), &self.contents);
            self.different(difference, known).await?;
        }
        Ok(())
    }

    /// Records which keys wait for the operator. A full compare that finds no odd value of a key ends its wait.
    pub(crate) async fn record_odd(&self) -> anyhow::Result<()> {
        let mut columns = self.odd.columns.clone();
        if self.losses.is_of_everything() {
            columns.doubted.retain(|key| self.odd.counts.contains_key(key));
            columns.sent.clear();
        } else {
            for (key, odd) in self.odd.counts.iter().filter(|(key, _)| !self.odd.columns.doubted.contains(key)) {
                columns.add_sent(*key, *odd, self.polled.rows);
            }
        }
        if self.odd.stored.as_ref() != Some(&columns) && (self.odd.stored.is_some() || !columns.mapped.is_empty()) {
            control::write(self.state, &columns, self.now).await?;
        }
        Ok(())
    }
}
