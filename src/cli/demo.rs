//! `demo`: see [`crate::demo`].

use std::path::PathBuf;

use crate::cli::context::ExitCode;
use crate::cli::signal;
use crate::demo;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself once everything has arrived, for scripts
    #[arg(long)]
    pub once: bool,
    /// Your own CRM instead of the sample: with the source and the mapping of that configuration file
    ///
    /// The leads are read as `run` reads them, and go to a local Conversica that ends with the demo. Nothing is sent to
    /// Conversica, nothing is written to your database, no alert is sent, and your own state is not touched. Of `safety` only
    /// `duplicates` counts: what `run` would hold or delay is shown as sent. One lead is shown as it is sent. No account at Conversica is needed.
    #[arg(long, value_name = "FILE")]
    pub crm: Option<PathBuf>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = signal::stop_on_signal()?;
    let ending = if args.once { demo::DemoEnding::ByItself } else { demo::DemoEnding::OnSignal };
    match args.crm {
        Some(file) => demo::own_crm::run(&file, ending, stop).await?,
        None => demo::run(ending, stop).await?,
    }
    Ok(ExitCode::Done)
}
