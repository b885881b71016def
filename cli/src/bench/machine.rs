//! What this machine can do, and what this process has used of it.

use std::time::{Duration, Instant};

use rlc_model::gemm::{Matrix, product};

/// Bytes of each buffer where the size of the caches is not known.
const BUFFER: usize = 256 << 20;
/// Copied at once: small enough that the C library uses ordinary stores.
const BLOCK: usize = 1024;

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What memory copies reach.
#[derive(Debug, Clone, Copy)]
pub struct Copying {
    /// Bytes read and written per second by one thread.
    pub one: f64,
    /// The same by as many threads as passes use.
    pub used: f64,
    /// Bytes of each of the two buffers.
    pub buffer: usize,
}

/// Copies for about `time`; in no time it is a rough number.
pub fn copying(threads: usize, time: Duration) -> Copying {
    let mut buffer = cache().map_or(BUFFER, |c| (4 * c).clamp(BUFFER / 4, BUFFER));
    if time.is_zero() {
        buffer /= 8;
    }
    let from = vec![1.0f32; buffer / 4];
    let mut to = vec![2.0f32; buffer / 4];
    let one = speed(&from, &mut to, 1, time / 2);
    let used = if threads == 1 { one } else { speed(&from, &mut to, threads, time / 2) };
    Copying { one, used, buffer }
}

/// Operations per second of a product of two f32 matrices of `size` rows and columns, by the crate that
/// models are multiplied with and the threads that it uses. Additions and multiplications count.
pub fn multiplying(size: usize, time: Duration) -> f64 {
    let a = vec![0.5f32; size * size];
    let mut out = vec![0.0f32; size * size];
    let matrix = Matrix::new(&a, size, size);
    let (mut best, started, mut times) = (f64::INFINITY, Instant::now(), 0);
    while times < 3 || started.elapsed() < time {
        let begin = Instant::now();
        product(&mut out, size, matrix, matrix.turned(), false);
        best = best.min(begin.elapsed().as_secs_f64());
        times += 1;
    }
    std::hint::black_box(&out);
    2.0 * (size as f64).powi(3) / best
}

fn speed(from: &[f32], to: &mut [f32], threads: usize, time: Duration) -> f64 {
    let (mut best, started, mut times) = (f64::INFINITY, Instant::now(), 0);
    let part = from.len().div_ceil(threads).next_multiple_of(BLOCK);
    while times < 2 || started.elapsed() < time {
        let begin = Instant::now();
        if threads == 1 {
            copy(from, to);
        } else {
            std::thread::scope(|scope| {
                for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                    scope.spawn(|| copy(from, to));
                }
            });
        }
        best = best.min(begin.elapsed().as_secs_f64());
        times += 1;
    }
    std::hint::black_box(&to);
    (2 * size_of_val(from)) as f64 / best
}

fn copy(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
        to.copy_from_slice(from);
    }
}

/// Bytes of the last cache, where the system says.
fn cache() -> Option<usize> {
    let read = |i: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{i}/size");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..5).filter_map(read).max().map(|kilobytes| kilobytes << 10)
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Threads that wanted to run during the last minute, on average, where the system says.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Bytes of memory that are free to use.
pub fn available() -> Option<usize> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Bytes of memory that this process holds now.
pub fn resident() -> Option<usize> {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// The most it held since [`forget_peak`], or since it began.
pub fn peak() -> Option<usize> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// Makes what is held now the peak; false where the system does not allow that.
pub fn forget_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn kilobytes(path: &str, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|k| k << 10)
}
