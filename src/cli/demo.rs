//! `demo`: see [`crate::demo`].

use crate::cli::context::ExitCode;
use crate::cli::signal;
use crate::demo;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself once everything has arrived, for scripts
    #[arg(long)]
    pub once: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = signal::stop_on_signal()?;
    let ending = if args.once { demo::DemoEnding::ByItself } else { demo::DemoEnding::OnSignal };
    demo::run(ending, stop).await?;
    Ok(ExitCode::Done)
}
