//! Hides the Test Lead Token wherever people see leads. The token is a secret in the place of a last name, and is never shown.
//! Pure.

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// The text that is shown instead.
pub const SHOWN: &str = "(test lead token)";
/// The text that is shown instead of a test lead's last name if the token is no longer in the settings; the state still has it.
pub const SHOWN_OF_A_TEST_LEAD: &str = "(last name of a test lead)";

/// A token of this length is no part of an ordinary word, so it is hidden inside longer texts as well.
const UNMISTAKABLE_BYTES: usize = 6;

/// Hides the token.
#[derive(Debug, Clone)]
pub struct TokenVeil {
    secret: Option<SecretString>,
    /// The text that is shown instead.
    shown: &'static str,
}

impl TokenVeil {
    /// The token of the settings.
    pub fn over(token: Option<&SecretString>) -> Self {
        Self::of(token.map(ExposeSecret::expose_secret), SHOWN)
    }

    /// The last name of a test lead, which may be a token that is no longer in the settings.
    pub fn over_last_name(name: &str) -> Self {
        Self::of(Some(name), SHOWN_OF_A_TEST_LEAD)
    }

    fn of(secret: Option<&str>, shown: &'static str) -> Self {
        // Sent values are trimmed.
        let secret = secret.map(str::trim).filter(|secret| !secret.is_empty());
        Self { secret: secret.map(SecretString::from), shown }
    }

    /// Whether there is something to hide.
    pub fn is_on(&self) -> bool {
        self.secret.is_some()
    }

    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(secret) = self.secret.as_ref().map(ExposeSecret::expose_secret) else { return Cow::Borrowed(text) };
        if text == secret {
            Cow::Borrowed(self.shown)
        } else if secret.len() >= UNMISTAKABLE_BYTES && text.contains(secret) {
            Cow::Owned(text.replace(secret, self.shown))
        } else {
            Cow::Borrowed(text)
        }
    }

    /// In every text of a value, at any depth; not in the names of keys.
    pub fn value(&self, value: &mut Value) {
        match value {
            _ if !self.is_on() => {}
            Value::String(text) => {
                let hidden = self.text(text).into_owned();
                *text = hidden;
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(object) => self.object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    pub fn object(&self, object: &mut Map<String, Value>) {
        object.values_mut().for_each(|value| self.value(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_token_is_hidden_wherever_it_stands_and_nothing_else_is() {
        let veil = TokenVeil::over(Some(&" Plugh-1977 ".into()));
        let mut lead = json!({"lastName": "Plugh-1977", "said": ["no Plugh-1977!", {"x": 7}], "firstName": "Ann"});
        veil.value(&mut lead);
        let expected = json!({"lastName": SHOWN, "said": ["no (test lead token)!", {"x": 7}], "firstName": "Ann"});
        assert_eq!(lead, expected);
        let short = TokenVeil::over(Some(&"Ann".into()));
        assert_eq!((short.text("Anna"), short.text("Ann")), (Cow::Borrowed("Anna"), Cow::Borrowed(SHOWN)));
        assert_eq!(TokenVeil::over(Some(&"  ".into())).text("  "), "  ");
        assert!(!TokenVeil::over(None).is_on());
    }
}
