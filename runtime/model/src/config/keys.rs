//! Typed access to the keys of a JSON object, with errors that name file and key.
//!
//! `null` counts as absent everywhere, as in Hugging Face's own files.

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// One JSON object and the name to show for it.
pub(super) struct Keys<'a> {
    file: &'a str,
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { file, prefix: String::new(), map }
    }

    /// The keys of an object inside this one.
    pub fn nested(&self, key: &str, map: &'a Map<String, Value>) -> Keys<'a> {
        Keys { file: self.file, prefix: format!("{}{key}.", self.prefix), map }
    }

    pub fn error(&self, key: &str, message: impl Into<String>) -> ModelError {
        ModelError::config(self.file, &format!("{}{key}", self.prefix), message)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn wrong(&self, key: &str, found: &Value, wanted: &str) -> ModelError {
        self.error(key, format!("is {found}, but must be {wanted}"))
    }

    pub fn present(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn maybe_count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(key, value, "a whole number of at least 0")),
        }
    }

    pub fn count(&self, key: &str) -> Result<usize> {
        self.maybe_count(key)?
            .ok_or_else(|| self.error(key, "is missing; the model's shape depends on it"))
    }

    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.maybe_count(key)?.unwrap_or(default))
    }

    pub fn number(&self, key: &str) -> Result<f64> {
        let Some(value) = self.get(key) else { return Err(self.error(key, "is missing")) };
        value.as_f64().ok_or_else(|| self.wrong(key, value, "a number"))
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.present(key) { self.number(key) } else { Ok(default) }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => {
                value.as_str().map(Some).ok_or_else(|| self.wrong(key, value, "a string"))
            }
        }
    }

    /// The first entry of a list of strings.
    pub fn first_text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_array().map(Vec::as_slice) {
                Some([]) => Ok(None),
                Some([Value::String(first), ..]) => Ok(Some(first)),
                _ => Err(self.wrong(key, value, "a list of strings")),
            },
        }
    }

    pub fn list_holds(&self, key: &str, text: &str) -> bool {
        self.get(key)
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|v| v.as_str() == Some(text)))
    }

    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(value) => Err(self.wrong(key, value, "an object")),
        }
    }

    pub fn token(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.tokens(key)?.first().copied())
    }

    /// A token id or a list of them. -1 is how some files write `none`.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let one = |v: &Value| match v.as_i64() {
            Some(-1) => Ok(None),
            Some(n) => u32::try_from(n)
                .map(Some)
                .map_err(|_| self.wrong(key, value, "a token id or a list of them")),
            None => Err(self.wrong(key, value, "a token id or a list of them")),
        };
        match value {
            Value::Array(list) => list.iter().filter_map(|v| one(v).transpose()).collect(),
            single => Ok(one(single)?.into_iter().collect()),
        }
    }
}
