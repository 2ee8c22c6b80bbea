//! Secrets are cleared before their memory is given back. What is on its way to the wire is not: it
//! leaves in clear.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tepal_base::Instant;
use tepal_layers::{HttpConnect, LayerSpec, Side, Site, Socks5};

const PASSWORD: &str = "canary-in-a-mine";
/// What Base64 makes of the password behind `us:`, less its end.
const ENCODED: &str = "Y2FuYXJ5LWluLWEtbWlu";

static FOUND: AtomicUsize = AtomicUsize::new(0);

/// Looks at memory that is given back.
struct Looking;

// SAFETY: the system's allocator does the work; a block is only read, within its bounds, before it
// is given back.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same. Zeroed, so that all may be read.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's until now, and was initialised when it was made.
        let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if holds(PASSWORD) || holds(ENCODED) {
            FOUND.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// How many blocks were given back with the password in them.
fn left_behind(run: impl FnOnce()) -> usize {
    let before = FOUND.load(Ordering::Relaxed);
    run();
    FOUND.load(Ordering::Relaxed) - before
}

#[test]
fn secrets_are_cleared_when_they_are_dropped() {
    assert_eq!(left_behind(|| drop(PASSWORD.to_owned())), 1, "the allocator looks");
    let encoded = format!("{ENCODED}ZQ==");
    assert_eq!(left_behind(|| drop(encoded)), 1, "and knows the other form");

    let socks = || Socks5::new("example.org", 80)?.credentials("user", PASSWORD);
    assert_eq!(left_behind(|| drop(socks().expect("a spec").clone())), 0);

    let connect = || {
        let connect = HttpConnect::new("example.org", 80)?.credentials("us", PASSWORD)?;
        connect.header("X-Token", PASSWORD)
    };
    assert_eq!(left_behind(|| drop(connect().expect("a spec").clone())), 0);
    let built = left_behind(|| {
        for spec in [&socks().expect("a spec") as &dyn LayerSpec, &connect().expect("a spec")] {
            let (side, now, keepsake) = (Side::Client, Instant::ZERO, &mut None);
            let (host, peer, local) = (None, None, None);
            let site = &mut Site { side, host, peer, local, now, keepsake };
            drop(spec.build(site).expect("a layer"));
        }
    });
    assert_eq!(built, 0);
}
