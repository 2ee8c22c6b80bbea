//! The system's files on a real file system: whatever becomes of one, lookups go on, and what it says
//! afterwards counts.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asking::ask;
use tepal::EventLoop;
use tepal::names::SystemFiles;

const BEFORE: &str = "127.0.0.3 printer\n";
const AFTER: &str = "127.0.0.4 printer\n";

/// What becomes of a hosts file, and where the printer is then.
type Change = (&'static str, fn(&Path), Option<&'static str>);

const CHANGES: [Change; 11] = [
    ("nothing", |_| {}, Some("127.0.0.3:1")),
    ("written in place", |hosts| fs::write(hosts, AFTER).expect("writes"), Some("127.0.0.4:1")),
    (
        "another in its place",
        |hosts| {
            let new = hosts.with_extension("new");
            fs::write(&new, AFTER).expect("writes");
            fs::rename(new, hosts).expect("moves");
        },
        Some("127.0.0.4:1"),
    ),
    (
        "a link to another",
        |hosts| {
            let elsewhere = hosts.with_extension("elsewhere");
            fs::write(&elsewhere, AFTER).expect("writes");
            fs::remove_file(hosts).expect("goes");
            symlink(elsewhere, hosts).expect("links");
        },
        Some("127.0.0.4:1"),
    ),
    ("removed", |hosts| fs::remove_file(hosts).expect("goes"), None),
    (
        "a link to nothing",
        |hosts| {
            fs::remove_file(hosts).expect("goes");
            symlink("/nowhere/at/all", hosts).expect("links");
        },
        None,
    ),
    (
        "a directory",
        |hosts| {
            fs::remove_file(hosts).expect("goes");
            fs::create_dir(hosts).expect("is made");
        },
        None,
    ),
    (
        "a pipe that nobody writes to",
        |hosts| {
            fs::remove_file(hosts).expect("goes");
            let made = std::process::Command::new("mkfifo").arg(hosts).status();
            assert!(made.expect("mkfifo runs").success());
        },
        None,
    ),
    (
        "a device",
        |hosts| {
            fs::remove_file(hosts).expect("goes");
            symlink("/dev/null", hosts).expect("links");
        },
        None,
    ),
    (
        "no text",
        |hosts| {
            let noise = [b"127.0.0.9 \xff\xfe\n\0\0\0\n# \xc3\n", AFTER.as_bytes()].concat();
            fs::write(hosts, noise).expect("writes");
        },
        Some("127.0.0.4:1"),
    ),
    (
        "long",
        |hosts| {
            let many = "192.0.2.1 ads.test\n".repeat(200_000);
            fs::write(hosts, [&many, AFTER].concat()).expect("writes");
        },
        Some("127.0.0.4:1"),
    ),
];

/// A loop whose files are in a directory of its own.
struct Place {
    event_loop: EventLoop,
    hosts: PathBuf,
}

impl Place {
    fn new(root: &Path, name: &str) -> Place {
        let folder = root.join(name.replace(' ', "-"));
        fs::create_dir_all(&folder).expect("is made");
        let hosts = folder.join("hosts");
        fs::write(&hosts, BEFORE).expect("writes");
        fs::write(folder.join("nsswitch.conf"), "hosts: files\n").expect("writes");
        let event_loop = EventLoop::new().expect("a loop");
        event_loop.set_system_files(SystemFiles {
            hosts: hosts.clone(),
            resolv_conf: folder.join("resolv.conf"),
            nsswitch: folder.join("nsswitch.conf"),
            gai_conf: folder.join("gai.conf"),
            services: folder.join("services"),
        });
        Place { event_loop, hosts }
    }

    fn printer(&self) -> Option<String> {
        ask(&self.event_loop, "printer", "1").ok().map(|found| found[0].clone())
    }

    /// Waits until the printer is there; what was read counts for a second.
    fn comes_to(&self, expected: Option<&str>, what: &str) {
        let limit = self.event_loop.time() + Duration::from_secs(20);
        while self.printer().as_deref() != expected {
            assert!(self.event_loop.time() < limit, "{what}: {:?}", self.printer());
            let turn = self.event_loop.sleep(Duration::from_millis(20));
            self.event_loop.run_until_complete(turn).expect("runs");
        }
    }
}

#[test]
fn whatever_becomes_of_the_hosts_file_lookups_go_on_and_the_new_state_counts() {
    let root = std::env::temp_dir().join(format!("tepal-system-files-{}", std::process::id()));
    let places: Vec<_> =
        CHANGES.iter().map(|change| (Place::new(&root, change.0), change)).collect();
    for (place, _) in &places {
        assert_eq!(place.printer().as_deref(), Some("127.0.0.3:1"));
    }
    for (place, (_, change, _)) in &places {
        change(&place.hosts);
    }
    for (place, (name, _, expected)) in &places {
        place.comes_to(*expected, name);
    }
    // And what comes back is noticed, after whatever it was.
    for (place, _) in &places {
        let _ = fs::remove_dir(&place.hosts);
        let new = place.hosts.with_extension("back");
        fs::write(&new, BEFORE).expect("writes");
        fs::rename(new, &place.hosts).expect("moves");
    }
    for (place, (name, ..)) in &places {
        place.comes_to(Some("127.0.0.3:1"), name);
    }
    fs::remove_dir_all(root).expect("goes");
}
