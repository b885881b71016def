//! Text to token ids and back, from a Hugging Face `tokenizer.json`.
//!
//! Special tokens are added on request only: a prompt's exact ids are the caller's business.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::error::{ModelError, Result, json, read, read_optional};

/// A tokenizer and the file it came from.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    json: Arc<[u8]>,
    file: String,
    eos: Option<u32>,
    unknown: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`, with `tokenizer_config.json` beside it if there is one.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let settings = read_optional(&dir.join("tokenizer_config.json"))?;
        Self::from_bytes(&read(&path)?, settings.as_deref(), &path.display().to_string())
    }

    /// From the contents of `tokenizer.json` and optionally `tokenizer_config.json`; `file` is the name errors show.
    pub fn from_bytes(bytes: &[u8], settings: Option<&[u8]>, file: &str) -> Result<Self> {
        let fail = |message: String| ModelError::Tokenizer { file: file.to_owned(), message };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| fail(format!("it cannot be read: {e}")))?;
        // A file may carry the cut or padding of some earlier use; both would falsify ids silently.
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        inner.with_padding(None);
        let eos = match settings {
            None => None,
            Some(bytes) => {
                let settings = json(bytes, "tokenizer_config.json")?;
                let token = &settings["eos_token"];
                token
                    .as_str()
                    .or_else(|| token["content"].as_str())
                    .and_then(|text| inner.token_to_id(text))
            }
        };
        let model = &json(bytes, file)?["model"];
        let unknown = match model["unk_token"].as_str() {
            Some(token) => inner.token_to_id(token),
            None => model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        let (inner, json) = (Arc::new(inner), bytes.into());
        Ok(Self { inner, json, file: file.to_owned(), eos, unknown })
    }

    /// The ids of `text`; `specials` adds what the tokenizer's template adds, for example a start token.
    pub fn encode(&self, text: &str, specials: bool) -> Result<Vec<u32>> {
        match self.inner.encode(text, specials) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(self.error(format!("it cannot encode {text:?}: {e}"))),
        }
    }

    /// Whether a character has tokens of its own: others become the unknown token, or nothing at all.
    pub fn knows(&self, character: char) -> Result<bool> {
        let ids = self.encode(character.encode_utf8(&mut [0; 4]), false)?;
        Ok(!ids.is_empty() && self.unknown.is_none_or(|unknown| !ids.contains(&unknown)))
    }

    /// The text of `ids`; `skip_specials` leaves out start, end and the like.
    pub fn decode(&self, ids: &[u32], skip_specials: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_specials)
            .map_err(|e| self.error(format!("it cannot decode {ids:?}: {e}")))
    }

    /// Entries, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token given as text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with this id as text.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The end token of `tokenizer_config.json`.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The file's contents.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// An error if some id has no row in an embedding of `vocab` rows. A larger embedding is fine: many are padded.
    pub fn check_vocab(&self, vocab: usize) -> Result<()> {
        let largest = self.inner.get_vocab(true).into_values().max().unwrap_or(0);
        if (largest as usize) < vocab {
            return Ok(());
        }
        Err(ModelError::VocabMismatch { file: self.file.clone(), largest, vocab })
    }

    fn error(&self, message: String) -> ModelError {
        ModelError::Tokenizer { file: self.file.clone(), message }
    }
}

/// Ids in a JSON value: a number, a list, or nothing.
pub(crate) fn token_ids(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        single => one(single).into_iter().collect(),
    }
}
