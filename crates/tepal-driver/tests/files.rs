//! Pipes, files, borrowed descriptors, and bytes moved inside the kernel.

mod common;

use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use common::*;
use tepal_driver::{Interest, Readiness, Sent};

on_every_engine! {
    fn a_borrowed_blocking_socket_never_blocks_us_and_stays_open(driver) {
        let (ours, mut theirs) = UnixStream::pair().expect("opens");
        let borrowed = driver.borrow(ours.as_raw_fd()).expect("borrows");
        driver.register(borrowed, 1, Interest::READ).expect("registers");
        let (nothing, more) = receive(driver, borrowed, 8);
        assert_eq!(nothing.expect_err("is empty").kind(), std::io::ErrorKind::WouldBlock);
        assert!(!more);
        theirs.write_all(b"hello").expect("writes");
        wait_for(driver, 1, Readiness::READABLE);
        assert_eq!(drain(driver, borrowed, 100), (b"hello".to_vec(), false));
        while !send(driver, borrowed, &[0; 4096]).blocked {}
        driver.close(borrowed).expect("lets go");
        theirs.write_all(b"still there").expect("writes");
        let mut bytes = [0; 11];
        (&ours).read_exact(&mut bytes).expect("is open, and still blocking");
        assert_eq!(&bytes, b"still there");
    }

    fn a_borrowed_blocking_pipe_never_blocks_us(driver) {
        let (from, to) = std::io::pipe().expect("opens");
        let reader = driver.borrow(from.as_raw_fd()).expect("borrows");
        let writer = driver.borrow(to.as_raw_fd()).expect("borrows");
        driver.register(reader, 1, Interest::READ).expect("registers");
        driver.register(writer, 2, Interest::WRITE).expect("registers");
        let empty = receive(driver, reader, 8).0.expect_err("is empty");
        assert_eq!(empty.kind(), std::io::ErrorKind::WouldBlock);
        let block = vec![5; 100_000];
        let mut sent = 0;
        loop {
            let Sent { count, blocked } = send(driver, writer, &block);
            sent += count;
            if blocked {
                break;
            }
        }
        let mut received = 0;
        let mut roomy = false;
        while received < sent || !roomy {
            received += drain(driver, reader, 1 << 16).0.len();
            for event in if received < sent || !roomy { wait(driver) } else { Vec::new() } {
                roomy |= event.token == 2 && event.readiness.intersects(Readiness::WRITABLE);
            }
        }
        assert_eq!(received, sent);
    }

    fn a_pipe_whose_reader_is_gone_gives_an_error_and_no_signal(driver) {
        let (from, to) = driver.pipe().expect("opens");
        driver.register(to, 1, Interest::WRITE).expect("registers");
        driver.close(from).expect("closes");
        wait_for(driver, 1, Readiness::ERROR);
        let error = driver.send(to, &[IoSlice::new(b"x")]).expect_err("is broken");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    }

    fn a_pipe_whose_writer_is_gone_ends(driver) {
        let (from, to) = driver.pipe().expect("opens");
        driver.register(from, 1, Interest::READ).expect("registers");
        send(driver, to, b"last words");
        driver.close(to).expect("closes");
        assert_eq!(read_to_end(driver, from, 1), b"last words");
        assert!(look(driver).is_empty());
    }

    fn a_regular_file_is_read_to_its_end_and_cannot_be_watched(driver) {
        let directory = Directory::new("file", driver.name());
        let path = directory.0.join("text");
        std::fs::write(&path, vec![b'a'; 10_000]).expect("writes");
        let file = std::fs::File::open(&path).expect("opens");
        let file = driver.adopt(file.into()).expect("adopts");
        assert_eq!(errno(driver.watch(file, 1, Interest::READ)), Some(libc::EPERM));
        driver.register(file, 1, Interest::READ).expect("registers");
        assert_eq!(read_to_end(driver, file, 1).len(), 10_000);
        assert!(look(driver).is_empty());
    }

    fn the_null_device_can_be_read_and_written(driver) {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").expect("opens");
        let null = driver.adopt(null.into()).expect("adopts");
        driver.register(null, 1, Interest::BOTH).expect("registers");
        assert_eq!(read_to_end(driver, null, 1), b"");
        assert_eq!(send(driver, null, b"x"), Sent { count: 1, blocked: false });
        assert!(look(driver).len() <= 1);
        assert!(look(driver).is_empty());
    }

    fn configuration_files_are_read_up_to_a_limit(driver) {
        let directory = Directory::new("config", driver.name());
        let path = directory.0.join("hosts");
        std::fs::write(&path, b"127.0.0.1 localhost\n").expect("writes");
        assert_eq!(driver.read_file(&path, 1000).expect("reads"), b"127.0.0.1 localhost\n");
        assert_eq!(driver.read_file(&path, 9).expect("reads"), b"127.0.0.1");
        let changed = driver.file_changed(&path).expect("is there");
        let told = std::fs::metadata(&path).expect("is there");
        assert_eq!(changed.modified, told.modified().expect("has"));
        assert_eq!((changed.len, changed.changed >= changed.modified), (20, true));

        // Another file of the same length and time in its place, as an editor puts it there.
        let other = directory.0.join("hosts.new");
        std::fs::write(&other, b"127.0.0.2 localhost\n").expect("writes");
        let times = std::fs::FileTimes::new().set_modified(changed.modified);
        let file = std::fs::File::options().write(true).open(&other).expect("opens");
        file.set_times(times).expect("sets the time");
        std::fs::rename(&other, &path).expect("renames");
        let renamed = driver.file_changed(&path).expect("is there");
        assert_eq!((renamed.modified, renamed.len), (changed.modified, changed.len));
        assert_ne!((renamed.inode, renamed), (changed.inode, changed));
        driver.remove_file(&path).expect("removes");
        assert_eq!(errno(driver.read_file(&path, 9)), Some(libc::ENOENT));
        assert_eq!(errno(driver.file_changed(&path)), Some(libc::ENOENT));
        assert_eq!(errno(driver.remove_file(&path)), Some(libc::ENOENT));
    }

    fn a_pipe_in_place_of_a_configuration_file_stops_nobody(driver) {
        let directory = Directory::new("config-pipe", driver.name());
        let path = directory.0.join("hosts");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo runs").success());
        assert_eq!(driver.read_file(&path, 1000).expect("nobody writes"), b"");
        let _writer = std::fs::File::options().read(true).write(true).open(&path).expect("opens");
        assert_eq!(errno(driver.read_file(&path, 1000)), Some(libc::EAGAIN));
    }

    fn a_part_of_a_file_is_sent_or_it_is_said_to_be_unsupported(driver) {
        let directory = Directory::new("sendfile", driver.name());
        let path = directory.0.join("data");
        let data: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &data).expect("writes");
        let file = driver.adopt(std::fs::File::open(&path).expect("opens").into()).expect("adopts");
        let (client, server) = tcp_pair(driver);
        let first = driver.send_file(client, file, 100, 10);
        if !cfg!(all(target_os = "linux", not(tepal_portable))) {
            assert_eq!(first.expect_err("has none").kind(), std::io::ErrorKind::Unsupported);
            return;
        }
        let mut offset = 100 + first.expect("sends").count as u64;
        driver.register(client, 1, Interest::READ).expect("registers");
        driver.register(server, 2, Interest::READ).expect("registers");
        let mut received = Vec::new();
        let mut writable = true;
        while received.len() < data.len() - 100 {
            while writable {
                let sent = driver.send_file(client, file, offset, usize::MAX).expect("sends");
                offset += sent.count as u64;
                writable = sent.count > 0 && !sent.blocked;
            }
            received.extend(drain(driver, server, 1 << 16).0);
            if received.len() == data.len() - 100 {
                break;
            }
            writable = of_token(&wait(driver), 1).intersects(Readiness::WRITABLE);
        }
        assert!(received == data[100..]);
        let end = driver.send_file(client, file, data.len() as u64, 10).expect("is no error");
        assert_eq!(end, Sent { count: 0, blocked: false });
        assert_eq!(errno(driver.send_file(client, file, u64::MAX, 10)), Some(libc::EINVAL));
        let unfit = driver.send_file(client, server, 0, 10).expect_err("is no file");
        assert_eq!(unfit.kind(), std::io::ErrorKind::Unsupported);
    }

    fn a_pipe_grows_or_stays_as_large_as_it_was(driver) {
        let (from, to) = driver.pipe().expect("a pipe");
        let grown = driver.grow_pipe(to, 1 << 18);
        let block = [7; 1 << 18];
        let sent = driver.send(to, &[IoSlice::new(&block)]).expect("takes some");
        match grown {
            Ok(()) => assert_eq!(sent.count, block.len()),
            // The user has used up the pages of pipes, or pipes have one size.
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::Unsupported
                ));
                assert!(sent.count > 0);
            }
        }
        driver.close(from).expect("closes");
        assert!(driver.grow_pipe(from, 1 << 18).is_err());
    }

    fn bytes_are_spliced_or_it_is_said_to_be_unsupported(driver) {
        let (client, server) = tcp_pair(driver);
        let (from, to) = driver.pipe().expect("opens");
        driver.register(server, 2, Interest::READ).expect("registers");
        send(driver, client, b"through the kernel");
        wait_for(driver, 2, Readiness::READABLE);
        let moved = driver.splice(server, to, 1000);
        if !cfg!(all(target_os = "linux", not(tepal_portable))) {
            assert_eq!(moved.expect_err("has none").kind(), std::io::ErrorKind::Unsupported);
            return;
        }
        assert_eq!(moved.expect("moves"), Sent { count: 18, blocked: false });
        assert_eq!(driver.splice(server, to, 1000).expect("waits"),
            Sent { count: 0, blocked: true });
        assert_eq!(driver.splice(from, server, 1000).expect("moves").count, 18);
        driver.register(client, 1, Interest::READ).expect("registers");
        wait_for(driver, 1, Readiness::READABLE);
        assert_eq!(drain(driver, client, 100).0, b"through the kernel");
        driver.close(client).expect("closes");
        wait_for(driver, 2, Readiness::READABLE);
        assert_eq!(driver.splice(server, to, 1000).expect("ends"),
            Sent { count: 0, blocked: false });
        let unfit = driver.splice(server, server, 10).expect_err("has no pipe");
        assert_eq!(unfit.kind(), std::io::ErrorKind::Unsupported);
    }
}

#[test]
fn the_machine_is_told_as_others_tell_it() {
    let mut driver = tepal_driver::open_driver(None).expect("a driver");
    let interfaces = driver.interfaces().expect("a list");
    let lo = interfaces.iter().find(|interface| interface.name == "lo").expect("loopback");
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").expect("an index");
    assert_eq!(lo.index.to_string(), index.trim());
    assert!(lo.addresses.contains(&std::net::Ipv4Addr::LOCALHOST.into()));
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(driver.host_name().expect("a name"), name.trim_end());
    assert_eq!(driver.variable("PATH"), std::env::var("PATH").ok());
    assert_eq!(driver.variable("A=B"), None);
}
