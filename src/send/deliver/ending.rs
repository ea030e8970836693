//! Shutdown of the deliverer: it waits, up to a deadline, for the requests in flight and records their outcomes.

use std::time::Duration;

use tracing::warn;

use super::{ClaimIntake, LeadDeliverer};

impl LeadDeliverer {
    /// Waits for requests in flight and records them; starts none. Requests still in flight at `deadline` stay claimed, and the
    /// next start records them as ambiguous.
    pub async fn drain(&mut self, deadline: tokio::time::Instant) -> anyhow::Result<()> {
        loop {
            let step = self.step(ClaimIntake::Closed, crate::clock::now());
            let Ok(step) = tokio::time::timeout_at(deadline, step).await else {
                self.leave_behind();
                return Ok(());
            };
            if self.requests.is_empty() && self.finished.is_empty() {
                return step.map(drop);
            }
            if tokio::time::Instant::now() >= deadline {
                self.leave_behind();
                return Ok(());
            }
            if step.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            } else {
                let _ = tokio::time::timeout_at(deadline, async {
                    if let Some(joined) = self.requests.join_next().await {
                        self.finish(joined, crate::clock::now());
                    }
                })
                .await;
            }
        }
    }

    fn leave_behind(&self) {
        warn!(
            in_flight = self.requests.len(),
            unwritten = self.finished.len(),
            "stopped with requests on their way, or their outcomes unwritten; the next start records them as ambiguous"
        );
    }
}
