//! An address that does not answer: on the real kernel, a listener whose queue is full swallows
//! SYNs as a black hole does.

#![allow(unreachable_pub, reason = "a test file's own module")]

use std::net::{SocketAddr, TcpListener, TcpStream};

pub struct Hole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Hole {
    pub fn new() -> Hole {
        use std::os::fd::AsRawFd;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // The kernel keeps one connection beside a queue of none.
        // SAFETY: listen(2) on a listening socket only changes its backlog.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let address = listener.local_addr().expect("bound");
        let queued = TcpStream::connect(address).expect("the first is taken");
        Hole { address, _listener: listener, _queued: vec![queued] }
    }
}
