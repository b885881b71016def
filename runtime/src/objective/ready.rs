//! Specialisations that an objective has made: batches take turns between sets of columns, params
//! between sides of an `if`, and each is made once.

use std::sync::Arc;

use rlc_compiler::specialize::{Settings, Specialized};

/// How many are kept; the one not asked for the longest goes first.
const KEPT: usize = 8;

/// From the least recently used to the last one.
#[derive(Default)]
pub(super) struct Ready(Vec<(Settings, Arc<Specialized>)>);

impl Ready {
    /// The one made for such settings, if there is one, from now on known as that of these params.
    pub(super) fn find(
        &mut self,
        fits: impl Fn(&Settings) -> bool,
        params: &[f64],
    ) -> Option<Arc<Specialized>> {
        let at = self.0.iter().rposition(|(made_for, _)| fits(made_for))?;
        let mut found = self.0.remove(at);
        found.0.params.clear();
        found.0.params.extend_from_slice(params);
        let ready = Arc::clone(&found.1);
        self.0.push(found);
        Some(ready)
    }

    /// Another one.
    pub(super) fn add(&mut self, settings: Settings, ready: Arc<Specialized>) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((settings, ready));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
