//! What the page before a decision shows, and what comes after the decision.

use super::effect::ShownEffect;

/// The effect of the decision at this moment.
#[derive(Default)]
pub struct ActionPreview {
    pub title: String,
    pub question: String,
    pub asides: Vec<String>,
    pub button: &'static str,
    /// Names the set that was shown: if more leads join it, the page shows them first.
    pub shown: String,
    /// What the operator may write.
    pub inputs: Vec<ActionInput>,
    /// Its effect on single leads.
    pub effect: ShownEffect,
}

/// A line of the form that the operator fills in.
pub struct ActionInput {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    /// What was written before, if the page is shown again.
    pub value: String,
}

/// The result of the decision.
pub enum ActionResult {
    Said(String),
    /// The set has grown, or the form cannot be read: the page shows it again, with this message.
    Grown(String),
}

/// The loops notice decisions by themselves.
pub const TAKEN_UP: &str = " It is taken up within seconds.";
