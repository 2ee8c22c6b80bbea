//! Tests that run in network namespaces of their own.

use std::io::Write;
use std::process::Command;

const INSIDE: &str = "TEPAL_INSIDE_NAMESPACE";

/// Runs this test again in new network and mount namespaces, after `script`, where it calls
/// `inside`.
///
/// Where a program or the right to make a namespace is absent, the file that `make test` names in
/// `TEPAL_ABSENT_FILE` is told; without that file the test fails.
pub fn run(test: &str, programs: &[&str], script: &str, inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if let Some(absent) = what_is_absent(programs) {
        let file = std::env::var_os("TEPAL_ABSENT_FILE").unwrap_or_else(|| panic!("{absent}"));
        let mut file =
            std::fs::File::options().append(true).create(true).open(file).expect("opens");
        writeln!(file, "{absent}: tepal, {test}").expect("writes");
        return;
    }
    let exe = std::env::current_exe().expect("runs");
    let script = format!("set -e\n{script}\nexec \"$0\" --exact {test} --nocapture");
    let output = Command::new("unshare")
        .args([namespaces(), "--pid", "--fork", "--kill-child", "sh", "-c", &script])
        .arg(exe)
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

/// The user's own namespace is only for who is not root: some servers want to change their group,
/// which is refused there.
fn namespaces() -> &'static str {
    // SAFETY: geteuid(2) reads a number and cannot fail.
    if unsafe { libc::geteuid() } == 0 { "-nm" } else { "-rnm" }
}

/// Runs a command line in the namespace.
pub fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().expect("there is a shell");
    assert!(status.success(), "{line}");
}

/// Administrators' programs are often where only root looks.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn what_is_absent(programs: &[&str]) -> Option<String> {
    let path = path();
    for program in programs.iter().chain(&["ip"]) {
        let exists = path.split(':').any(|folder| {
            !folder.is_empty() && std::path::Path::new(folder).join(program).is_file()
        });
        if !exists {
            return Some((*program).to_owned());
        }
    }
    let works = Command::new("unshare").args([namespaces(), "true"]).output();
    match works {
        Ok(output) if output.status.success() => None,
        _ => Some("the right to make namespaces".to_owned()),
    }
}
