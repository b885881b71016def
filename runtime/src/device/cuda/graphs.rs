//! Which launches go to a device as one graph: a list that comes a second time is captured, and replayed from then on.

use std::collections::HashMap;

use rlc_compiler::cuda::{Module, Work};

use super::Launch;

/// Fewer launches than this are no shorter as a graph.
const LEAST: usize = 3;
/// Bytes that a launch touches on average, above which the next one is long in the queue when it ends: 15 µs of an H200.
const SHORT: usize = 64 << 20;
/// Lists that are remembered; the one that came longest ago goes.
const MOST: usize = 64;

/// What has been launched so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Launched {
    /// Kernels launched by themselves.
    pub alone: u64,
    /// Graphs replayed.
    pub graphs: u64,
    /// Kernels in those graphs.
    pub inside: u64,
}

impl std::ops::Sub for Launched {
    type Output = Launched;

    fn sub(self, before: Launched) -> Launched {
        Launched {
            alone: self.alone - before.alone,
            graphs: self.graphs - before.graphs,
            inside: self.inside - before.inside,
        }
    }
}

/// Launches of a module between two things that the host does, with every argument's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct List {
    heads: Vec<Head>,
    args: Vec<u64>,
}

/// A launch by its step and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Head {
    step: usize,
    at: usize,
    blocks: u32,
    threads: u32,
    args: usize,
}

impl List {
    /// Adds a launch.
    pub fn push(
        &mut self,
        (step, at): (usize, usize),
        (blocks, threads): (u32, u32),
        args: impl Iterator<Item = u64>,
    ) {
        let before = self.args.len();
        self.args.extend(args);
        self.heads.push(Head { step, at, blocks, threads, args: self.args.len() - before });
    }

    /// Forgets all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.args.clear();
    }

    fn len(&self) -> usize {
        self.heads.len()
    }

    /// In order, with the names that the module has for them.
    pub fn launches<'l>(&'l self, module: &'l Module) -> Vec<Launch<'l>> {
        let mut args = self.args.as_slice();
        let named = |head: &Head| {
            let (own, rest) = args.split_at(head.args);
            args = rest;
            let Work::Launches(launches) = &module.steps[head.step] else { return None };
            let kernel = launches[head.at].kernel.as_str();
            Some(Launch { kernel, blocks: head.blocks, threads: head.threads, args: own })
        };
        self.heads.iter().filter_map(named).collect()
    }
}

/// What becomes of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'g, G> {
    /// One launch after the other.
    Each,
    /// Captured, kept and replayed.
    Capture,
    /// As before.
    Replay(&'g G),
}

/// The lists of late, and the graphs of those that came twice. A list names every kernel, grid, value and address, so a
/// graph is replayed for what it was captured from and nothing else.
pub(super) struct Graphs<G> {
    on: bool,
    lists: HashMap<List, Kept<G>>,
    /// Lists that came.
    time: u64,
    launched: Launched,
}

struct Kept<G> {
    graph: Option<G>,
    last: u64,
}

impl<G> Graphs<G> {
    /// None yet, and none ever where they are off.
    pub fn new(on: bool) -> Self {
        Graphs { on, lists: HashMap::new(), time: 0, launched: Launched::default() }
    }

    /// What is to be done with a list that touches so many bytes.
    pub fn next(&mut self, list: &List, bytes: usize) -> Next<'_, G> {
        let kernels = list.len() as u64;
        self.time += 1;
        if !self.on || list.len() < LEAST || bytes / list.len() > SHORT {
            self.launched.alone += kernels;
            return Next::Each;
        }
        if !self.lists.contains_key(list) {
            self.launched.alone += kernels;
            self.remember(list);
            return Next::Each;
        }
        self.launched.graphs += 1;
        self.launched.inside += kernels;
        let time = self.time;
        match self.lists.get_mut(list) {
            Some(kept) => {
                kept.last = time;
                kept.graph.as_ref().map_or(Next::Capture, Next::Replay)
            }
            None => Next::Each,
        }
    }

    fn remember(&mut self, list: &List) {
        if self.lists.len() >= MOST {
            let oldest = self.lists.iter().min_by_key(|(_, kept)| kept.last);
            if let Some(oldest) = oldest.map(|(list, _)| list.clone()) {
                self.lists.remove(&oldest);
            }
        }
        self.lists.insert(list.clone(), Kept { graph: None, last: self.time });
    }

    /// Keeps the graph of a list that was to be captured.
    pub fn keep(&mut self, list: &List, graph: G) {
        if let Some(kept) = self.lists.get_mut(list) {
            kept.graph = Some(graph);
        }
    }

    /// Drops everything: some memory is about to go.
    pub fn clear(&mut self) {
        self.lists.clear();
    }

    /// What has been launched so far.
    pub fn launched(&self) -> Launched {
        self.launched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[u64]) -> List {
        let mut list = List::default();
        for (at, value) in values.iter().enumerate() {
            list.push((0, at), (1, 128), [*value].into_iter());
        }
        list
    }

    /// What becomes of a list, captured where it is to be.
    fn go(graphs: &mut Graphs<u64>, list: &List, graph: u64) -> Option<u64> {
        match graphs.next(list, 0) {
            Next::Each => None,
            Next::Replay(graph) => Some(*graph),
            Next::Capture => {
                graphs.keep(list, graph);
                Some(graph)
            }
        }
    }

    #[test]
    fn a_list_is_captured_when_it_comes_again_and_replayed_after() {
        let mut graphs = Graphs::new(true);
        let (one, other) = (list(&[1, 2, 3]), list(&[1, 2, 4]));
        assert_eq!(go(&mut graphs, &one, 7), None);
        assert_eq!(go(&mut graphs, &other, 8), None);
        assert_eq!(go(&mut graphs, &one, 7), Some(7));
        assert_eq!(go(&mut graphs, &one, 9), Some(7));
        assert_eq!(go(&mut graphs, &other, 8), Some(8));
        assert_eq!(graphs.launched(), Launched { alone: 6, graphs: 3, inside: 9 });
        graphs.clear();
        assert_eq!(go(&mut graphs, &one, 9), None);
    }

    #[test]
    fn grids_places_and_the_division_of_arguments_tell_lists_apart() {
        let make = |step, blocks, cut: usize| {
            let mut list = List::default();
            list.push((step, 0), (blocks, 128), [1, 2, 3].into_iter().take(cut));
            list.push((step, 1), (blocks, 128), [1, 2, 3].into_iter().skip(cut));
            list.push((step, 2), (blocks, 128), std::iter::empty());
            list
        };
        let mut graphs: Graphs<u64> = Graphs::new(true);
        for list in [make(0, 1, 1), make(1, 1, 1), make(0, 2, 1), make(0, 1, 2)] {
            assert_eq!(graphs.next(&list, 0), Next::Each);
        }
        assert_eq!(graphs.next(&make(0, 1, 1), 0), Next::Capture);
    }

    #[test]
    fn few_launches_long_ones_and_a_device_without_graphs_go_one_by_one() {
        let three = list(&[1, 2, 3]);
        let (mut graphs, mut off) = (Graphs::<u64>::new(true), Graphs::<u64>::new(false));
        for _ in 0..3 {
            assert_eq!(graphs.next(&list(&[1, 2]), 0), Next::Each);
            assert_eq!(graphs.next(&list(&[]), 0), Next::Each);
            assert_eq!(graphs.next(&three, 3 * (SHORT + 1)), Next::Each);
            assert_eq!(off.next(&three, 0), Next::Each);
        }
        assert_eq!(off.launched(), Launched { alone: 9, graphs: 0, inside: 0 });
    }

    #[test]
    fn the_list_that_came_longest_ago_is_forgotten() {
        let mut graphs = Graphs::new(true);
        let first = list(&[0, 0, 0]);
        go(&mut graphs, &first, 0);
        for n in 1..MOST as u64 {
            go(&mut graphs, &list(&[n, n, n]), n);
        }
        // Captured now, and the latest.
        assert_eq!(go(&mut graphs, &first, 5), Some(5));
        go(&mut graphs, &list(&[1, 0, 0]), 1);
        assert_eq!(graphs.lists.len(), MOST);
        assert_eq!(go(&mut graphs, &first, 6), Some(5));
        assert_eq!(go(&mut graphs, &list(&[1, 1, 1]), 1), None);
    }
}
