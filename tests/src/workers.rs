//! A batch cut over workers, each a thread.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use rlc_compiler::level::{BATCH, GROUP, Level, LevelKind, Levels, ROLLOUT, VOCAB};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{AllReduce, Exchange};

/// Groups `groups` of a batch, with all their rows.
pub fn shard(table: &Table, levels: &Levels, groups: Range<usize>) -> Table {
    let shape = Shape::new(levels, table).unwrap();
    let mut out = Table::default();
    for (name, array) in &table.arrays {
        let (level, column) = name.split_once('/').unwrap();
        let whole = matches!(level, "batch" | "state");
        let Some(found) = levels.find(level).filter(|_| !whole) else {
            out.arrays.insert(name.clone(), array.clone());
            continue;
        };
        // The sizes of a list lie at its parent.
        let rows_of = match levels.def(found).kind {
            LevelKind::List(parent) if column == "size" => parent,
            LevelKind::Below if column == "size" => rlc_compiler::level::TOKEN,
            _ => found,
        };
        if rows_of == BATCH {
            out.arrays.insert(name.clone(), array.clone());
            continue;
        }
        let per_row = if found == VOCAB { array.shape[1] } else { 1 };
        let rows = shape.range(
            GROUP,
            groups.clone(),
            if found == VOCAB { rlc_compiler::level::TOKEN } else { rows_of },
        );
        let cut = rows.start * per_row..rows.end * per_row;
        let mut dims = array.shape.clone();
        dims[0] = rows.len();
        out.arrays.insert(name.clone(), Array { data: part(&array.data, cut), shape: dims });
    }
    out
}

fn part(data: &Data, cut: Range<usize>) -> Data {
    match data {
        Data::F32(v) => Data::F32(v[cut].to_vec()),
        Data::F64(v) => Data::F64(v[cut].to_vec()),
        Data::Bf16(v) => Data::Bf16(v[cut].to_vec()),
        Data::F16(v) => Data::F16(v[cut].to_vec()),
        Data::I64(v) => Data::I64(v[cut].to_vec()),
        Data::U8(v) => Data::U8(v[cut].to_vec()),
    }
}

/// What the threads of one batch meet at.
struct Meeting {
    parts: Mutex<(Vec<Option<Exchange>>, Option<Exchange>, usize)>,
    changed: Condvar,
}

/// One thread's end of a meeting.
pub struct Thread {
    rank: usize,
    of: usize,
    meeting: Arc<Meeting>,
}

/// Ends for so many threads.
pub fn threads(of: usize) -> Vec<Thread> {
    let parts = Mutex::new((vec![None; of], None, 0));
    let meeting = Arc::new(Meeting { parts, changed: Condvar::new() });
    (0..of).map(|rank| Thread { rank, of, meeting: Arc::clone(&meeting) }).collect()
}

impl AllReduce for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn workers(&self) -> usize {
        self.of
    }

    fn all_reduce(&mut self, part: Exchange) -> Result<Exchange, String> {
        let patience = std::time::Duration::from_secs(20);
        let mut parts = self.meeting.parts.lock().unwrap();
        // The last meeting ends when everyone has left it.
        while parts.1.is_some() {
            let (next, late) = self.meeting.changed.wait_timeout(parts, patience).unwrap();
            parts = next;
            if late.timed_out() {
                return Err("a worker did not leave".into());
            }
        }
        parts.0[self.rank] = Some(part);
        if parts.0.iter().all(Option::is_some) {
            let all = parts.0.iter_mut().filter_map(Option::take);
            parts.1 = all.reduce(|a, b| a.merge(&b));
            self.meeting.changed.notify_all();
        }
        while parts.1.is_none() {
            let (next, late) = self.meeting.changed.wait_timeout(parts, patience).unwrap();
            parts = next;
            if late.timed_out() {
                return Err("a worker did not come".into());
            }
        }
        let all = parts.1.clone().unwrap();
        parts.2 += 1;
        if parts.2 == self.of {
            parts.1 = None;
            parts.2 = 0;
            self.meeting.changed.notify_all();
        }
        Ok(all)
    }
}

/// Whether rows of a level follow those of the groups they lie in.
pub fn in_groups(levels: &Levels, level: Level) -> bool {
    level == ROLLOUT || levels.contains(GROUP, level)
}
