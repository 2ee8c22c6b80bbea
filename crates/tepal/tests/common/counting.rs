//! An allocator that counts, for tests of what things cost and leave behind.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with a count of each thread's calls.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    // Blocks that this thread has taken and not freed, and their bytes.
    pub static LIVE: Cell<i64> = const { Cell::new(0) };
    pub static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count_one(live: i64, bytes: i64) {
    // Fails only while the thread ends.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _ = LIVE.try_with(|count| count.set(count.get() + live));
    let _ = LIVE_BYTES.try_with(|count| count.set(count.get() + bytes));
}

pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

// SAFETY: hands everything on to the system's allocator. Counting allocates nothing: the counter
// needs neither an initializer nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one(1, layout.size() as i64);
        // SAFETY: the caller keeps to the contract of this method, which is that of the trait.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one(1, layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one(0, size as i64 - layout.size() as i64);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|count| count.set(count.get() - 1));
        let _ = LIVE_BYTES.try_with(|count| count.set(count.get() - layout.size() as i64));
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
