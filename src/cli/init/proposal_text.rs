//! Text about a proposal.

use crate::config::FieldRule;
use crate::setup::propose::proposal::SourceProposal;

/// Every doubt, including those of single fields.
pub fn doubts(proposal: &SourceProposal) -> Vec<String> {
    let of_fields =
        proposal.fields.iter().filter_map(|field| Some(format!("{}: {}", field.key, field.doubt.as_ref()?)));
    of_fields.chain(proposal.doubts.iter().cloned()).collect()
}

/// The source of a key, in a few words.
pub(crate) fn from(rule: &FieldRule) -> String {
    match rule {
        FieldRule::Value(value) => format!("always \"{value}\""),
        FieldRule::Column { column, default, map, .. } => {
            let map = if map.is_empty() { "" } else { ", translated" };
            let default = default.as_ref().map(|text| format!(", or \"{text}\"")).unwrap_or_default();
            format!("{column}{map}{default}")
        }
    }
}
