//! Tests that run in namespaces of their own, with programs that may be absent.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::io::Write;
use std::process::Command;

const INSIDE: &str = "TEPAL_NAMES_INSIDE_NAMESPACE";

/// Runs this test again inside new namespaces, where it calls `inside`.
///
/// Where a program or the right to make a namespace is absent, the file that `make test` names in
/// `TEPAL_ABSENT_FILE` is told; without that file the test fails.
pub fn run(test: &str, namespaces: &[&str], programs: &[&str], inside: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if let Some(absent) = what_is_absent(namespaces, programs) {
        let file = std::env::var_os("TEPAL_ABSENT_FILE").unwrap_or_else(|| panic!("{absent}"));
        let mut file = std::fs::File::options().append(true).create(true).open(file).unwrap();
        writeln!(file, "{absent}: tepal-names, {test}").unwrap();
        return;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("PATH", path())
        .env(INSIDE, "1")
        .output()
        .expect("unshare ran a moment ago");
    assert!(
        output.status.success(),
        "in the namespace:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Servers are often where only root looks.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn what_is_absent(namespaces: &[&str], programs: &[&str]) -> Option<String> {
    let path = path();
    for program in programs.iter().chain(&["ip"]) {
        let exists = path.split(':').any(|folder| {
            !folder.is_empty() && std::path::Path::new(folder).join(program).is_file()
        });
        if !exists {
            return Some((*program).to_owned());
        }
    }
    let works = Command::new("unshare").args(namespaces).arg("true").output();
    match works {
        Ok(output) if output.status.success() => None,
        _ => Some("the right to make namespaces".to_owned()),
    }
}
