//! How a TLS server or client of another's ends through the loop, whichever program it is.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tepal::{CloseKind, Late, Transport};

use crate::layered::Seen;
use crate::programs::Program;

/// The program at the other end, once there is one.
pub(crate) type Peer = Rc<RefCell<Option<Program>>>;

/// When it has answered, something is done about the end.
pub(crate) fn end(ending: &str, transport: &Transport, peer: &Peer) {
    let mut peer = peer.borrow_mut();
    let program = peer.as_mut().expect("it has said something");
    match ending {
        // The end of its input is its user's.
        "leaves" => program.stdin = None,
        "hears" => transport.close(),
        "stands" => {
            program.signal(Signal::STOP);
            let short = Duration::from_millis(50);
            let _operation = transport.pop_layer(None, short, Late::Close).expect("it stands");
        }
        _ => program.signal(Signal::KILL),
    }
}

/// What an ending is told as. The kernel of one that is gone resets the connection if it has left
/// something of ours unread.
pub(crate) fn check(ending: &str, version: &str, seen: &Seen, case: &str) {
    let kind = match seen.kind() {
        CloseKind::Reset if ending == "gone" => CloseKind::TlsTruncated,
        kind => kind,
    };
    let expected = match ending {
        "leaves" => CloseKind::PeerClosedLayer,
        "hears" => CloseKind::Local,
        "stands" => CloseKind::ClosingTimedOut,
        _ => CloseKind::TlsTruncated,
    };
    assert_eq!((kind, seen.tls().version), (expected, version), "{case}: {:?}", seen.closed);
}
