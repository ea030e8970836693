//! `init`: looks at a database, proposes what to sync, and writes a commented configuration file.

use std::path::Path;

use crate::cli::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(_args: Args, _file: Option<&Path>) -> anyhow::Result<Exit> {
    anyhow::bail!("not made yet")
}
