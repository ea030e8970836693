//! The JSON Schema of the settings, derived from the settings tree: for editors, and as the list of known keys.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::config::ServiceSettings;

/// The lowest layer, and the only place with defaults.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The schema of the settings tree itself: everything inline, every key required unless optional.
pub(super) fn of_settings() -> Value {
    let generator = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<ServiceSettings>().to_value();
    without_null(&mut schema);
    schema
}

/// An optional value may be null in JSON; TOML has no null, so a key is omitted instead.
fn without_null(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    for list in ["type", "enum"] {
        let Some(Value::Array(alternatives)) = object.get_mut(list) else { continue };
        alternatives.retain(|alternative| !alternative.is_null() && alternative != "null");
        if list == "type" && alternatives.len() == 1 {
            object[list] = alternatives.remove(0);
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(without_null);
    }
    if let Some(items) = object.get_mut("items") {
        without_null(items);
    }
}

/// Whether a key is a list of tables, `[[section.name]]`.
pub(super) fn is_list_of_tables(schema: &Value) -> bool {
    schema["type"] == "array" && schema["items"]["type"] == "object"
}

/// The schema of a configuration file, for editors.
///
/// It differs from the tree's own schema: no key is required, because each may come from the environment; each secret has its
/// `_file` twin; each default is listed.
pub fn json_schema() -> Value {
    let mut schema = of_settings();
    // A test catches an unreadable default file; here it would only cost the annotations.
    let defaults: Value = toml::from_str(DEFAULTS).unwrap_or_default();
    for_files(&mut schema, &defaults);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("conversica-sync.toml");
    schema["description"] = json!("Settings of conversica-sync.");
    schema
}

fn for_files(schema: &mut Value, defaults: &Value) {
    let Value::Object(object) = schema else { return };
    object.remove("required");
    if let Some(items) = object.get_mut("items") {
        for_files(items, &Value::Null);
    }
    let is_section = object.get("type").is_some_and(|kind| kind == "object");
    if !is_section && !defaults.is_null() {
        object.insert("default".to_owned(), defaults.clone());
    }
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let mut finished = Map::new();
    for (name, mut property) in std::mem::take(properties) {
        for_files(&mut property, defaults.get(&name).unwrap_or(&Value::Null));
        let is_secret = property.get("x-secret").is_some() && property["x-kind"] != "headers";
        finished.insert(name.clone(), property);
        if is_secret {
            let twin = json!({ "type": "string", "description": format!("File that holds `{name}`; instead of it.") });
            finished.insert(format!("{name}_file"), twin);
        }
    }
    *properties = finished;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_get_twins_defaults_choices_and_no_demands() {
        let schema = json_schema();
        let source = &schema["properties"]["source"];
        assert_eq!(source["properties"]["url_file"]["type"], "string");
        assert_eq!(source["properties"]["poll_interval"]["default"], "15s");
        assert_eq!(source["properties"]["poll_interval"]["pattern"], "^([0-9]+(d|h|ms|m|s))+$");
        assert_eq!(source["properties"]["changes"]["enum"], json!(["poll", "triggers"]));
        assert_eq!(source["additionalProperties"], false);
        assert!(source.get("required").is_none());
        assert!(schema["properties"]["conversica"]["properties"]["password_file"].is_object());
        assert!(schema["properties"]["lead"]["properties"]["firstName"]["oneOf"].is_array());
        assert!(!schema.to_string().contains("\"$ref\""));
    }

    #[test]
    fn every_key_of_the_schema_is_described() {
        for (section, schema) in of_settings()["properties"].as_object().unwrap() {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                if section != "lead" {
                    assert!(property["description"].is_string(), "{section}.{key} has no description");
                    for (name, field) in property["items"]["properties"].as_object().into_iter().flatten() {
                        assert!(field["description"].is_string(), "{section}.{key}.{name} has no description");
                    }
                }
            }
        }
    }
}
