//! Decoder-only transformers on candle.
