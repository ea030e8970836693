//! `reconcile`: one verdict a lead.

use std::path::Path;

use crate::cli::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(_args: Args, _file: Option<&Path>) -> anyhow::Result<Exit> {
    anyhow::bail!("not made yet")
}
