//! The limit of open descriptors. The only test of its process, because the limit belongs to all
//! threads.

use std::os::fd::AsRawFd;

#[test]
fn the_limit_is_raised_as_far_as_it_may_and_holds() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure to write to.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let hard = limit.rlim_max;
    limit.rlim_cur = 32;
    // SAFETY: a structure to read from.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let open = || std::net::UdpSocket::bind("127.0.0.1:0");
    let few: Vec<_> = (0..40).map_while(|_| open().ok()).collect();
    assert!(few.len() < 32);

    let raised = tepal_driver::raise_descriptor_limit().expect("allowed");
    assert_eq!(raised.unwrap_or(libc::RLIM_INFINITY), hard);
    let more: Vec<_> = (0..40).map_while(|_| open().ok()).collect();
    assert_eq!(more.len(), 40);
    assert!(more.iter().any(|socket| socket.as_raw_fd() >= 32));
}
