//! What systems other than Linux do without. Tested on Linux with `--cfg tepal_portable`.

#![cfg(not(all(target_os = "linux", not(tepal_portable))))]

use std::io::ErrorKind;

use tepal_driver::{Command, driver_names, open_driver};

#[test]
fn children_are_said_to_be_unsupported_and_not_started() {
    let mut driver = open_driver(None).expect("opens");
    let mut command = Command { program: "true".into(), ..Command::default() };
    assert_eq!(driver.spawn(&mut command).expect_err("has none").kind(), ErrorKind::Unsupported);
}

#[test]
fn poll_is_the_one_engine() {
    assert_eq!(driver_names(), ["poll"]);
    assert_eq!(open_driver(None).expect("opens").name(), "poll");
}
