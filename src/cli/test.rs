//! `test`: mapping tests. Rows in, Lead objects out, from TOML files; without a database and without the network.

use std::path::{Path, PathBuf};

use crate::cli::context::{ExitCode, settings};
use crate::console::{printable, say};
use crate::error::SetupError;
use crate::rules::mapping::LeadMapping;
use crate::rules::mapping_test::{MappingTests, TestedColumns};
use crate::wording::number;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files with tests
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

pub fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let mapping = LeadMapping::new(&loaded.settings);
    let source = &loaded.settings.source;
    let columns = TestedColumns { key: &source.key, client: source.client.as_deref() };
    let (mut passed, mut failed) = (0_u64, 0_u64);
    for file in &args.files {
        for (place, test) in read(file)?.tests.iter().enumerate() {
            let differences = test.differences(&mapping, columns);
            if differences.is_empty() {
                passed += 1;
                continue;
            }
            failed += 1;
            let name = if test.name.is_empty() { format!("number {}", place + 1) } else { test.name.clone() };
            say(format_args!("FAILED {}: {}", file.display(), printable(&name)));
            for line in differences {
                say(format_args!("  {}", printable(&line)));
            }
        }
    }
    if passed + failed == 0 {
        return Err(
            SetupError::new("the files hold no tests", "write [[test]] entries; `--help` has an example").into()
        );
    }
    say(format_args!("{} passed, {} failed.", number(passed), number(failed)));
    Ok(if failed == 0 { ExitCode::Done } else { ExitCode::Failed })
}

fn read(file: &Path) -> Result<MappingTests, SetupError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        SetupError::new(format!("{} cannot be read: {error}", file.display()), "name a file with [[test]] entries")
    })?;
    toml::from_str(&text).map_err(|error| {
        SetupError::new(
            format!("{} is no file of mapping tests: {}", file.display(), error.to_string().trim_end()),
            "write [[test]] entries with a row, and with lead, has, lacks, invalid or notes; `conversica-sync test --help` has an example",
        )
    })
}
