//! Child processes.

#![cfg(all(target_os = "linux", not(tepal_portable)))] // elsewhere they are `Unsupported`, for now

mod common;

use std::collections::HashMap;
use std::fs;

use common::*;
use tepal_driver::{
    Child, Command, Descriptor, Driver, ExitStatus, Interest, Readiness, Stdio, open_driver,
};

on_every_engine! {
    fn an_exit_code_is_told_once_the_child_has_ended(driver) {
        for code in [0, 1, 42, 255] {
            let child = spawn(driver, shell(&format!("exit {code}")));
            assert_eq!(ended(driver, &child), ExitStatus::Code(code));
            let again = driver.wait_child(child.process).expect("asks");
            assert_eq!(again, Some(ExitStatus::Code(code)), "it is told again");
            assert_eq!(errno(driver.kill_child(child.process, libc::SIGTERM)), Some(libc::ESRCH));
            driver.close(child.process).expect("closes");
            assert!(!is_zombie(child.pid));
        }
    }

    fn a_running_child_has_no_status_and_dies_of_a_signal(driver) {
        let child = spawn(driver, command("sleep", &["1000"]));
        assert_eq!(driver.wait_child(child.process).expect("asks"), None);
        driver.kill_child(child.process, 0).expect("exists");
        assert_eq!(errno(driver.kill_child(child.process, 9999)), Some(libc::EINVAL));
        driver.kill_child(child.process, libc::SIGTERM).expect("kills");
        assert_eq!(ended(driver, &child), ExitStatus::Signal(libc::SIGTERM));
    }

    fn two_hundred_children_at_once_are_all_told(driver) {
        let mut children = HashMap::new();
        for token in 0..200u64 {
            let child = spawn(driver, shell(&format!("exit {}", token % 200)));
            driver.register(child.process, token, Interest::READ).expect("registers");
            children.insert(token, child);
        }
        while !children.is_empty() {
            for event in wait(driver) {
                let Some(child) = children.get(&event.token) else { continue };
                if let Some(status) = driver.wait_child(child.process).expect("asks") {
                    assert_eq!(status, ExitStatus::Code(event.token as i32 % 200));
                    driver.close(child.process).expect("closes");
                    assert!(!is_zombie(child.pid));
                    children.remove(&event.token);
                }
            }
        }
    }

    fn pipes_carry_the_three_streams(driver) {
        let mut cat = shell("cat; echo wrong >&2");
        cat.stdin = Stdio::Piped;
        cat.stdout = Stdio::Piped;
        cat.stderr = Stdio::Piped;
        let child = spawn(driver, cat);
        let [stdin, stdout, stderr] = [child.stdin, child.stdout, child.stderr].map(|end| {
            end.expect("is piped")
        });
        driver.register(stdout, 1, Interest::READ).expect("registers");
        driver.register(stderr, 2, Interest::READ).expect("registers");
        assert_eq!(send(driver, stdin, b"hello").count, 5);
        driver.close(stdin).expect("closes");
        assert_eq!(read_to_end(driver, stdout, 1), b"hello");
        let mut bytes = Vec::new();
        let mut end = false;
        while !end {
            // Its event may have come while the other was waited for.
            let (some, ended) = drain(driver, stderr, 100);
            bytes.extend(some);
            end = ended;
            if !end {
                wait_for(driver, 2, Readiness::READABLE);
            }
        }
        assert_eq!(bytes, b"wrong\n");
        assert_eq!(ended(driver, &child), ExitStatus::Code(0));
    }

    fn standard_error_goes_where_output_goes(driver) {
        let mut both = shell("echo one; echo two >&2; echo three");
        both.stdout = Stdio::Piped;
        both.stderr = Stdio::ToStdout;
        let child = spawn(driver, both);
        assert!(child.stderr.is_none());
        let stdout = child.stdout.expect("is piped");
        driver.register(stdout, 1, Interest::READ).expect("registers");
        assert_eq!(read_to_end(driver, stdout, 1), b"one\ntwo\nthree\n");
        let mut wrong = shell("true");
        wrong.stdin = Stdio::ToStdout;
        let error = driver.spawn(&mut wrong).expect_err("has no meaning");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }

    fn a_child_that_reads_nothing_breaks_the_pipe_without_a_signal(driver) {
        let mut deaf = shell("exec <&-; echo closed; exec sleep 1000");
        deaf.stdin = Stdio::Piped;
        deaf.stdout = Stdio::Piped;
        let child = spawn(driver, deaf);
        let (stdin, stdout) = (child.stdin.expect("piped"), child.stdout.expect("piped"));
        driver.register(stdin, 1, Interest::WRITE).expect("registers");
        driver.register(stdout, 2, Interest::READ).expect("registers");
        wait_for(driver, 1, Readiness::ERROR);
        let error = driver.send(stdin, &[std::io::IoSlice::new(b"x")]).expect_err("is broken");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        driver.kill_child(child.process, libc::SIGKILL).expect("kills");
        assert_eq!(ended(driver, &child), ExitStatus::Signal(libc::SIGKILL));
    }

    fn the_environment_and_the_directory_are_as_asked(driver) {
        let mut env = command("/bin/sh", &["-c", "echo $A-$B-$HOME; pwd"]);
        env.env_clear = true;
        env.envs = vec![("A".into(), Some("1".into())), ("B".into(), Some("2".into())),
            ("B".into(), None)];
        env.directory = Some("/".into());
        env.stdout = Stdio::Piped;
        let child = spawn(driver, env);
        let stdout = child.stdout.expect("is piped");
        driver.register(stdout, 1, Interest::READ).expect("registers");
        assert_eq!(read_to_end(driver, stdout, 1), b"1--\n/\n");
    }

    fn a_pty_is_the_childs_controlling_terminal(driver) {
        let mut tty = shell("test -t 0 && test -t 1 && test -t 2 && echo terminal > /dev/tty");
        tty.pty = true;
        let child = spawn(driver, tty);
        let terminal = child.terminal.expect("has one");
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        driver.register(terminal, 1, Interest::READ).expect("registers");
        let mut bytes = Vec::new();
        // On Linux the master's side ends with EIO when the last terminal side is closed.
        loop {
            match receive(driver, terminal, 100).0 {
                Ok(some) if some.is_empty() => break,
                Ok(some) => bytes.extend(some),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    wait_for(driver, 1, Readiness::READABLE);
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    break;
                }
            }
        }
        assert_eq!(bytes, b"terminal\r\n");
        assert_eq!(ended(driver, &child), ExitStatus::Code(0));
    }

    fn only_what_was_given_is_open_in_a_child(driver) {
        let (_client, _server) = tcp_pair(driver);
        let (_from, _to) = driver.pipe().expect("opens");
        let _waker = driver.waker();
        let mut list = command("ls", &["/proc/self/fd"]);
        list.stdin = Stdio::Null;
        list.stdout = Stdio::Piped;
        let child = spawn(driver, list);
        let stdout = child.stdout.expect("is piped");
        driver.register(stdout, 1, Interest::READ).expect("registers");
        let listed = String::from_utf8(read_to_end(driver, stdout, 1)).expect("is text");
        // The fourth is the directory that `ls` reads. The test's own harness may leave others open
        // without the flag, so look at what they are.
        for fd in listed.lines().filter(|fd| !["0", "1", "2", "3"].contains(fd)) {
            let number: i32 = fd.parse().expect("is a number");
            // SAFETY: asking for flags changes nothing.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            assert!(flags == -1 || flags & libc::FD_CLOEXEC == 0, "{fd} was inherited");
        }
    }

    fn what_cannot_be_started_is_an_error_and_leaves_nothing(driver) {
        let error = driver.spawn(&mut command("/nonexistent/program", &[])).expect_err("is not there");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        let mut nowhere = shell("true");
        nowhere.directory = Some("/nonexistent".into());
        assert_eq!(driver.spawn(&mut nowhere).expect_err("fails").kind(), std::io::ErrorKind::NotFound);
    }

    fn a_child_whose_token_is_closed_is_reaped_when_it_ends(driver) {
        let mut cat = command("cat", &[]);
        cat.stdin = Stdio::Piped;
        cat.stdout = Stdio::Null;
        for register in [false, true] {
            let child = spawn(driver, Command { stdin: Stdio::Piped, stdout: Stdio::Null,
                program: cat.program.clone(), ..Command::default() });
            if register {
                driver.register(child.process, 3, Interest::READ).expect("registers");
            }
            driver.close(child.process).expect("closes");
            assert_eq!(errno(driver.close(child.process)), Some(libc::EBADF));
            driver.close(child.stdin.expect("is piped")).expect("ends it");
            while fs::exists(format!("/proc/{}", child.pid)).expect("asks") {
                let deadline = driver.now() + std::time::Duration::from_millis(20);
                assert!(wait_until(driver, Some(deadline)).is_empty());
            }
        }
    }

    fn a_child_outlives_its_driver_and_is_reaped_by_a_later_one(driver) {
        let mut first = open_driver(Some(driver.name())).expect("opens");
        let child = spawn(&mut *first, Command { program: "cat".into(), stdin: Stdio::Piped,
            stdout: Stdio::Null, ..Command::default() });
        drop(first); // closes its standard input, so it ends
        while fs::exists(format!("/proc/{}", child.pid)).expect("asks") {
            let next = spawn(driver, shell("true"));
            assert_eq!(ended(driver, &next), ExitStatus::Code(0));
            driver.close(next.process).expect("closes");
        }
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let args = args.iter().map(Into::into).collect();
    Command { program: program.into(), args, ..Command::default() }
}

fn shell(script: &str) -> Command {
    command("sh", &["-c", script])
}

fn spawn(driver: &mut dyn Driver, mut command: Command) -> Child {
    driver.spawn(&mut command).expect("starts")
}

// Waits for the end of a child that is not registered yet.
fn ended(driver: &mut dyn Driver, child: &Child) -> ExitStatus {
    const TOKEN: u64 = u64::MAX - 9;
    let process: Descriptor = child.process;
    driver.register(process, TOKEN, Interest::READ).expect("registers");
    loop {
        if let Some(status) = driver.wait_child(process).expect("asks") {
            return status;
        }
        wait_for(driver, TOKEN, Readiness::READABLE);
    }
}

fn is_zombie(pid: u32) -> bool {
    // The third field, behind the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
