"""Small programs that exercise the language, each beside an independent float64 reference.

`@program(name, source, batch, ...)` registers one case. The source is objective-language text; the
function below it computes the same in torch with plain loops and never looks at the source.
"""

from . import extending, functions, levels, filters, reductions, vocab, ordered, gradients, prelude, odd, worked
from . import keys, keys_wide, spans, duels, rows, ordering, rows_of_vocab, filters_keys
from . import preferences, baselines, mismatch
from . import off_policy, rewards_and_rows
from . import seeds_b, seeds_b_tokens, seeds_b_steps, seeds_b_flow
from . import seeds_a, seeds_a_rewards, seeds_a_agents, seeds_a_search
from .common import PROGRAMS, Case

__all__ = ["PROGRAMS", "Case"]
