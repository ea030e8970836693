//! Merges the three layers; later ones win: the embedded defaults, the file, the environment. Credentials come between the last
//! two.
//!
//! Each value keeps its origin, for messages and for `config show`. All mistakes are reported at once.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::check::{self, ConfigProblems};
use crate::config::environment::{self, ProcessEnvironment};
use crate::config::layer::ConfigLayer;
use crate::config::loaded::{EffectiveSetting, LoadedConfig};
use crate::config::merged::{MergedConfig, ReceiverSection};
use crate::config::{file, key, schema, secret, show, validate};
use crate::error::SetupError;

/// All mistakes in the settings. Exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<SetupError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<SetupError> for ConfigErrors {
    fn from(error: SetupError) -> Self {
        Self(vec![error])
    }
}

/// The file to read: the requested one, `$CONVERSICA_SYNC_CONFIG`, then the usual places.
pub fn find_file(explicit: Option<&Path>, environment: &ProcessEnvironment) -> Result<PathBuf, SetupError> {
    const USUAL: [&str; 2] = ["conversica-sync.toml", "/etc/conversica-sync/conversica-sync.toml"];
    const VARIABLE: &str = "CONVERSICA_SYNC_CONFIG";
    const CURE: &str = "Let `conversica-sync init` write one, copy config/example.toml to one of these places and edit it, or name a file with --config FILE.";
    let named = explicit.map(|path| (path.to_owned(), "--config"));
    let named = named.or_else(|| environment.variables.get(VARIABLE).map(|path| (PathBuf::from(path), VARIABLE)));
    match named {
        Some((path, _)) if path.exists() => Ok(path),
        Some((path, by)) if path.as_os_str().is_empty() => {
            Err(SetupError::new(format!("{by} is empty"), format!("Unset it. {CURE}")))
        }
        Some((path, by)) => Err(SetupError::new(format!("{}, named by {by}, does not exist", path.display()), CURE)),
        None => USUAL.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            let what = format!("there is no configuration: looked for ${VARIABLE}, ./{} and {}", USUAL[0], USUAL[1]);
            SetupError::new(what, CURE)
        }),
    }
}

/// Reads and checks the settings.
pub fn load(file: &Path, environment: &ProcessEnvironment) -> Result<LoadedConfig, ConfigErrors> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| {
        SetupError::new(
            format!("{name} cannot be read: {error}"),
            "Name a TOML file that this user may read, with --config FILE.",
        )
    })?;
    let mut loaded = load_text(&name, &text, environment)?;
    let from_here = format!("{name}:");
    let has_secret = |effective: &EffectiveSetting| {
        effective.value == Some(secret::HIDDEN.into()) && effective.layer.starts_with(&from_here)
    };
    if secret::world_readable(file)
        && let Some(effective) = loaded.effective.iter().find(|effective| has_secret(effective))
    {
        loaded.warnings.push(format!(
            "{name} holds `{}` and can be read by every user of this machine; cure: chmod 600 {name}",
            effective.key
        ));
    }
    loaded.file = Some(file.to_owned());
    Ok(loaded)
}

/// The same from a text; messages call the file `name`.
pub fn load_text(name: &str, toml: &str, environment: &ProcessEnvironment) -> Result<LoadedConfig, ConfigErrors> {
    let (mut problems, mut warnings) = (ConfigProblems::default(), Vec::new());
    let defaults = file::layer(file::DEFAULT, schema::DEFAULTS, &mut problems)?;
    let from_file = file::layer(name, toml, &mut problems)?;
    let from_environment = environment::layer(environment, &from_file, &mut problems, &mut warnings);
    let wants_receiver = [&from_file, &from_environment].iter().any(|layer| mentions(layer, "receive"));
    let credentials = secret::credentials(environment, &[&from_file, &from_environment], &mut problems);
    let mut layers = [defaults, from_file, credentials, from_environment];
    let receiver = if wants_receiver { ReceiverSection::Present } else { ReceiverSection::Absent };
    if !wants_receiver {
        // Defaults and a credential alone do not enable a receiver.
        layers.iter_mut().for_each(|layer| layer.values.retain(|path, _| path[0] != "receive"));
    }
    secret::settle(&mut layers, &mut problems, &mut warnings);
    layers.iter_mut().for_each(|layer| drop_misfits(layer, &mut problems));

    let mut merged = MergedConfig::of(&layers, name)?;
    merged.complain_of_gaps(&mut problems);
    merged.complain_of_missing(&mut problems, receiver);
    merged.complain_of_rules(&mut problems);
    let mut settings = merged.settings(&problems, receiver).map_err(|error| {
        // A mistake that the checks above missed; their own findings are still the better message.
        let mut errors = std::mem::take(&mut problems).into_errors();
        errors.push(error);
        ConfigErrors(errors)
    })?;
    let completed = validate::complete(&mut settings);
    validate::check(&settings, &merged, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return Err(ConfigErrors(problems.into_errors()));
    }
    let effective = show::effective(&merged, receiver, completed);
    Ok(LoadedConfig { settings, effective, warnings, file: None })
}

fn mentions(layer: &ConfigLayer, section: &str) -> bool {
    layer.sections.contains(section) || layer.values.keys().any(|path| path[0] == section)
}

fn drop_misfits(layer: &mut ConfigLayer, problems: &mut ConfigProblems) {
    layer.values.retain(|path, value| {
        // The entry of a list of tables itself is kept: its keys are checked one by one.
        let Some(key) = key::find(path) else { return key::entry_at(path).is_some() };
        match check::fits(&key, value) {
            Ok(()) => true,
            Err(misfit) => {
                problems.spoil(&key.name);
                problems.add(value.origin().unwrap_or("settings"), misfit.what, misfit.cure);
                false
            }
        }
    });
}

#[cfg(test)]
mod tests;
