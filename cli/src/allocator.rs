//! The allocator: mimalloc, with two habits of its own.
//!
//! Freed pages stay with the process: a training step asks for hundreds of megabytes and gives them back, and pages that
//! the system hands out anew cost more than what is computed in them.
//!
//! Huge pages are asked for where a large block fills them, and around blocks of more than a megabyte: the arrays of a
//! small model's training step. Left to itself, mimalloc asks for them everywhere: the few kilobytes that a thread keeps
//! for itself, and both ends of a large block, then take 2 MiB each.

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

/// mimalloc, set up as above.
pub struct Allocator;

/// Bytes of a huge page.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;
/// Blocks from here on lie in huge pages, with whatever is beside them: above what each thread of a matrix product packs.
const MIDDLE: usize = 5 << 18;
/// Blocks from here on hold at least one huge page, wherever they begin, and have theirs alone.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// The option that says after how many milliseconds freed pages go back (mimalloc.h: `mi_option_purge_delay`).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// The option that says whether mimalloc asks for huge pages (`mi_option_allow_thp`).
#[cfg(target_os = "linux")]
const ALLOW_THP: libmimalloc_sys::mi_option_t = 43;

/// The standard library allocates before `main`, and the first block takes mimalloc's first gigabyte from the system,
/// with the options of then. So they are set among the constructors of the program.
#[cfg(target_os = "linux")]
#[used]
#[allow(unsafe_code)]
// SAFETY: the section is a list of such functions, called once each before `main`.
#[unsafe(link_section = ".init_array")]
static SET_UP: extern "C" fn() = {
    extern "C" fn set_up() {
        // SAFETY: starts the allocator (again is nothing) and stores a number in its table of options, before there is
        // a second thread. Started with the option on, it leaves huge pages to whoever asks for them.
        unsafe {
            libmimalloc_sys::mi_process_init();
            libmimalloc_sys::mi_option_set(ALLOW_THP, 0);
        }
    }
    set_up
};

impl Allocator {
    /// Keeps freed pages; to be called before there is a second thread.
    pub fn keep_pages() {
        // SAFETY: stores one number in the allocator's table of options; -1 is the documented value for never.
        #[allow(unsafe_code)]
        unsafe {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        }
    }
}

/// Asks for huge pages. That they are not there is no error.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "nothing to ask for"))]
#[allow(unsafe_code)]
fn advise(block: *mut u8, bytes: usize) -> *mut u8 {
    #[cfg(target_os = "linux")]
    if !block.is_null() {
        let ahead = block.align_offset(HUGE);
        let (start, length) = if bytes >= LARGE {
            (block.wrapping_add(ahead), (bytes - ahead) / HUGE * HUGE)
        } else {
            let before = (HUGE - ahead) % HUGE;
            (block.wrapping_sub(before), (before + bytes).next_multiple_of(HUGE))
        };
        // SAFETY: the advice changes no byte, of the block or of what lies beside it.
        unsafe {
            libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE);
        }
    }
    block
}

// SAFETY: every block is mimalloc's, with the layout asked for.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are mimalloc's.
        let block = unsafe { MiMalloc.alloc(layout) };
        if layout.size() < MIDDLE { block } else { advise(block, layout.size()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: likewise.
        let block = unsafe { MiMalloc.alloc_zeroed(layout) };
        if layout.size() < MIDDLE { block } else { advise(block, layout.size()) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: likewise; the block came from there.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if bytes < MIDDLE || bytes <= layout.size() {
            // SAFETY: likewise.
            return unsafe { MiMalloc.realloc(block, layout, bytes) };
        }
        // Advice comes before the first byte is written.
        // SAFETY: the caller promises that the new size is a layout with the old alignment; the new block is another
        // one and longer, and the old one came from here.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size());
                self.dealloc(block, layout);
            }
            new
        }
    }
}
