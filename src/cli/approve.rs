//! `approve` and `baseline`: the operator decides about held leads. The decision covers the leads that were shown; leads that
//! joined since are shown next.

use std::path::Path;

use crate::cli::context::{ExitCode, confirmed, existing_state, person, settings};
use crate::cli::{progress, table};
use crate::console::{printable, say};
use crate::error::SetupError;
use crate::rules::first_contact::FirstContactPolicy;
use crate::store::held::{self, HeldLeads, HeldSelection, ReleaseKind, ReleaseOrder, ReleaseOutcome};
use crate::wording::{self, outgrown, question};
use crate::{clock, decide};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these leads; all that are held if none is named
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only leads held for this reason, as `status` and `plan` name it
    #[arg(long)]
    pub reason: Option<String>,
    /// The set that `plan` showed, by the name it gave it: if more is held by now, nothing is released unasked
    #[arg(long, value_name = "SET")]
    pub shown: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// The cure where there is no terminal for the question.
const WITHOUT_ASKING: &str = "look at `plan`, then add --yes, or --shown SET --yes for exactly what it showed";

pub async fn run(args: Args, release: ReleaseKind, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let shown = args.shown.as_deref().map(set_named).transpose()?;
    let selection = HeldSelection { ids: args.ids, reason: args.reason };
    let Some(state) = existing_state(&loaded.settings).await? else {
        return nothing_held("Nothing is held: there is no state yet.", &selection);
    };
    let mut shown = shown;
    let mut decided = false;
    loop {
        let held = held::look(&state, &selection).await?;
        if held.leads == 0 {
            return if decided { Ok(ExitCode::Done) } else { nothing_held("Nothing is held.", &selection) };
        }
        decide::refuse_more_tests(&held, release, &loaded.settings, &state).await?;
        if let Some(shown) = shown.take().filter(|shown| held.has_outgrown(shown)) {
            say(outgrown(shown.leads, held.leads));
            if args.yes {
                say("Nothing was changed. Look at `plan` again; it names the set as it is now.");
                return Ok(ExitCode::Decision);
            }
        }
        let on_delete = loaded.settings.source.on_delete;
        if !args.yes && !confirmed(&question(&held, release, on_delete), WITHOUT_ASKING)? {
            say(if decided { "Nothing else was changed." } else { "Nothing was changed." });
            return Ok(ExitCode::Decision);
        }
        let now = clock::now();
        let who = person();
        let order = ReleaseOrder { selection: &selection, shown: &held, release, who: &who };
        let released =
            match decide::release(&state, &loaded.settings, order, now, progress::deciding(held.leads)).await? {
                ReleaseOutcome::Leads(leads) => leads,
                ReleaseOutcome::Grown => {
                    // An operator who was asked is asked again; --yes without --shown covers every held lead.
                    shown = (!args.yes || args.shown.is_some()).then_some(held);
                    continue;
                }
            };
        decided = true;
        for sentence in wording::released(&released, release, on_delete) {
            say(sentence);
        }
        if held.reasons.len() > 1 {
            say(format_args!("They were held for: {}.", wording::held_for(&held)));
        }
        if release == ReleaseKind::Send && released.new_people > 0 {
            for held in FirstContactPolicy::of(&loaded.settings).in_words() {
                say(format_args!("But {held}."));
            }
        }
        let left = held::look(&state, &selection).await?;
        if left.leads > 0 {
            say(format_args!("{} joined meanwhile and still wait: look at `plan`.", table::leads(left.leads)));
            if args.yes || released.leads == 0 {
                return Ok(ExitCode::Decision);
            }
        }
    }
}

/// A selection that matches no held lead may be misspelt: then the operator's decision has not been made.
fn nothing_held(otherwise: &str, selection: &HeldSelection) -> anyhow::Result<ExitCode> {
    if selection.is_everything() {
        say(otherwise);
        return Ok(ExitCode::Done);
    }
    let ids = (!selection.ids.is_empty()).then(|| format!("with the id {}", table::ids_of(&selection.ids)));
    let reason = selection.reason.as_ref().map(|reason| format!("for the reason {}", printable(reason)));
    let selected = ids.into_iter().chain(reason).collect::<Vec<_>>().join(" and ");
    Err(SetupError::new(
        format!("Nothing of that is held: no lead {selected}. Nothing was changed"),
        "`conversica-sync leads --status held` lists the leads that are held and the reason of each",
    )
    .into())
}

fn set_named(name: &str) -> Result<HeldLeads, SetupError> {
    HeldLeads::named(name).ok_or_else(|| {
        SetupError::new(format!("--shown {name}: there is no such set"), "copy the name from the output of `plan`")
    })
}
