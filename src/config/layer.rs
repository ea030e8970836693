//! One layer of the settings: defaults, file, environment.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use config::ConfigError;
use config::Map;
use config::Source;
use config::Value;
use config::ValueKind;

/// The values of a file, the environment or the defaults, one entry per key. Its `Debug` shows names only: values may be secret.
#[derive(Clone, Default)]
pub struct ConfigLayer {
    pub values: BTreeMap<Vec<String>, Value>,
    /// Sections that exist, with or without keys.
    pub sections: BTreeSet<String>,
}

impl fmt::Debug for ConfigLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys().map(|path| path.join("."))).finish()
    }
}

impl Source for ConfigLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut root = Map::new();
        for (path, value) in &self.values {
            nest(&mut root, path, value);
        }
        Ok(root)
    }
}

/// Puts a value at its path. Not by the crate's own path expressions, which would split a key such as `"a.b"`.
pub(crate) fn nest(table: &mut Map<String, Value>, path: &[String], value: &Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value.clone());
        }
        [name, rest @ ..] => {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
            if let ValueKind::Table(inner) = &mut inner.kind {
                nest(inner, rest, value);
            }
        }
    }
}
