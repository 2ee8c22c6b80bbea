//! Which engine is taken: by argument, by the environment, by default.

use std::env;
use std::io::ErrorKind;
use std::process::Command;

use tepal_driver::{driver_names, open_driver};

const INSIDE: &str = "TEPAL_TEST_EXPECTED_DRIVER";

// S10. The environment belongs to all threads, so each value is looked at in a process of its own.
#[test]
fn the_environment_names_the_engine_and_an_argument_overrides_it() {
    if let Ok(expected) = env::var(INSIDE) {
        let opened = open_driver(None).map(|driver| driver.name());
        match expected.as_str() {
            "none" => {
                let error = opened.expect_err("there is no such engine");
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let names = driver_names().join(", ");
                assert!(error.to_string().contains(&names), "{error}");
            }
            name => assert_eq!(opened.expect("opens"), name),
        }
        for name in driver_names() {
            assert_eq!(open_driver(Some(name)).expect("opens").name(), *name);
        }
        return;
    }
    let inside = |variable: Option<&str>, expected: &str| {
        let mut command = Command::new(env::current_exe().expect("runs"));
        command.env(INSIDE, expected).env_remove("TEPAL_DRIVER");
        if let Some(value) = variable {
            command.env("TEPAL_DRIVER", value);
        }
        let output = command.output().expect("starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{variable:?}: {told}");
    };
    for name in driver_names() {
        inside(Some(name), name);
    }
    inside(None, driver_names()[0]);
    inside(Some(""), driver_names()[0]);
    inside(Some("kqueue9"), "none");
}
