//! The system's files, changed on a real file system while a name is being looked up: the lookup ends
//! as it began, and the next one goes by what the files say then.

#![cfg(target_os = "linux")]

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod namespace;
#[path = "common/reach.rs"]
mod reach;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use asking::{addresses, ask, query};
use dns::{A, Shared, Zone, put};
use tepal::EventLoop;
use tepal::names::SystemFiles;

// The folder is the namespace's own.
const SCRIPT: &str = "ip link set lo up\nmount -t tmpfs tmpfs /mnt";
const OLD: &str = "nameserver 127.0.0.2\n";
const NEW: &str = "nameserver 127.0.0.3\n";

/// A loop whose files are in a folder of its own, and the three servers that they may name: each
/// gives its own number as the last part of an address, slowly.
struct Place {
    event_loop: EventLoop,
    folder: PathBuf,
    zones: [Shared; 3],
}

impl Place {
    fn new() -> Place {
        let folder = PathBuf::from("/mnt/files");
        fs::create_dir(&folder).expect("is made");
        let event_loop = EventLoop::new().expect("a loop");
        let file = |name: &str| folder.join(name);
        event_loop.set_system_files(SystemFiles {
            hosts: file("hosts"),
            resolv_conf: file("resolv.conf"),
            nsswitch: file("nsswitch.conf"),
            gai_conf: file("gai.conf"),
            services: file("services"),
        });
        let zones = [1, 2, 3].map(|number| {
            let zone = Zone::new();
            put(&zone, "www.test", 0, &[&format!("127.0.1.{number}")]);
            zone.borrow_mut().delays.insert(A, Duration::from_millis(200));
            dns::serve_at(&event_loop, &zone, ([127, 0, 0, number], 53).into());
            zone
        });
        let place = Place { event_loop, folder, zones };
        // As resolvconf has it: a link to where the file really is.
        fs::create_dir(place.file("run")).expect("is made");
        fs::write(place.file("run/resolv.conf"), OLD).expect("writes");
        symlink("run/resolv.conf", place.file("resolv.conf")).expect("links");
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Begins a lookup, changes something while the old server has the question, and tells what
    /// came of it.
    fn changed_during_a_lookup(&self, change: impl FnOnce(&Place)) -> Result<Vec<String>, String> {
        let asked = self.event_loop.getaddrinfo(&query("www.test", "1"));
        let zone = Rc::clone(&self.zones[1]);
        reach::run_until(&self.event_loop, move || !zone.borrow().asked.is_empty());
        change(self);
        let found = self.event_loop.run_until_complete(asked).expect("runs");
        found.map(|infos| addresses(&infos)).map_err(|error| error.to_string())
    }

    /// Asks until that is the answer, `None`: that there is none.
    fn comes_to(&self, expected: Option<&[&str]>, what: &str) {
        let limit = self.event_loop.time() + Duration::from_secs(20);
        loop {
            let found = ask(&self.event_loop, "www.test", "1").ok();
            let same = match (&found, expected) {
                (Some(found), Some(expected)) => found == expected,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            if same {
                return;
            }
            assert!(self.event_loop.time() < limit, "{what}: {found:?}");
            let turn = self.event_loop.sleep(Duration::from_millis(20));
            self.event_loop.run_until_complete(turn).expect("runs");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("goes");
    }
}

fn move_over(path: &Path, make: impl FnOnce(&Path)) {
    let new = path.with_extension("new");
    make(&new);
    fs::rename(new, path).expect("moves");
}

/// What becomes of resolv.conf, and the server that is asked then; without one it is 127.0.0.1.
type Change = (&'static str, fn(&Place), u8);

const CHANGES: [Change; 12] = [
    ("written in place", |p| fs::write(p.file("run/resolv.conf"), NEW).expect("writes"), 3),
    (
        "another in its place",
        |p| move_over(&p.file("resolv.conf"), |new| fs::write(new, NEW).expect("writes")),
        3,
    ),
    (
        "another behind its link",
        |p| move_over(&p.file("run/resolv.conf"), |new| fs::write(new, NEW).expect("writes")),
        3,
    ),
    (
        "a link to another",
        |p| {
            fs::write(p.file("run/other"), NEW).expect("writes");
            move_over(&p.file("resolv.conf"), |new| symlink("run/other", new).expect("links"));
        },
        3,
    ),
    ("emptied", |p| fs::write(p.file("run/resolv.conf"), "").expect("writes"), 1),
    ("removed", |p| fs::remove_file(p.file("resolv.conf")).expect("goes"), 1),
    ("removed behind its link", |p| fs::remove_file(p.file("run/resolv.conf")).expect("goes"), 1),
    (
        "a link to itself",
        |p| move_over(&p.file("resolv.conf"), |new| symlink("resolv.conf", new).expect("links")),
        1,
    ),
    (
        // Its state can be asked for, but it cannot be opened.
        "unreadable",
        |p| {
            move_over(&p.file("resolv.conf"), |new| drop(UnixListener::bind(new).expect("binds")));
        },
        1,
    ),
    (
        "a pipe that nobody writes to",
        |p| {
            move_over(&p.file("resolv.conf"), |new| {
                let made = std::process::Command::new("mkfifo").arg(new).status();
                assert!(made.expect("mkfifo runs").success());
            });
        },
        1,
    ),
    (
        "no text",
        |p| {
            let noise = [b"\0\0nameserver\0 127.0.0.9\n\xff\xfe\n\0\n", NEW.as_bytes()].concat();
            fs::write(p.file("run/resolv.conf"), noise).expect("writes");
        },
        3,
    ),
    (
        // More than is read of it, without an end of a line where it is cut.
        "huge",
        |p| {
            let text = format!("{NEW}{}# {}", "# nothing\n".repeat(90_000), "x".repeat(2 << 20));
            fs::write(p.file("run/resolv.conf"), text).expect("writes");
        },
        3,
    ),
];

fn change_resolv_conf(to: u8) {
    for (name, change, server) in CHANGES.into_iter().filter(|(.., server)| *server == to) {
        let place = Place::new();
        let found = place.changed_during_a_lookup(change);
        assert_eq!(found.as_deref(), Ok(&["127.0.1.2:1".to_owned()][..]), "{name}");
        place.comes_to(Some(&[&format!("127.0.1.{server}:1")]), name);
    }
}

#[test]
fn a_lookup_ends_as_it_began_though_resolv_conf_names_another_server_now() {
    let test = "a_lookup_ends_as_it_began_though_resolv_conf_names_another_server_now";
    namespace::run(test, &[], SCRIPT, || change_resolv_conf(3));
}

#[test]
fn a_lookup_ends_as_it_began_though_resolv_conf_names_none_any_more() {
    let test = "a_lookup_ends_as_it_began_though_resolv_conf_names_none_any_more";
    namespace::run(test, &[], SCRIPT, || change_resolv_conf(1));
}

#[test]
fn the_other_files_may_change_during_a_lookup_too() {
    let test = "the_other_files_may_change_during_a_lookup_too";
    namespace::run(test, &[], SCRIPT, || {
        // Each file, what it says afterwards, and what is found then.
        for (file, text, found) in [
            ("hosts", "127.0.0.4 www.test\n", Some(&["127.0.0.4:1"][..])),
            ("nsswitch.conf", "hosts: files\n", None),
            (
                "gai.conf",
                "precedence ::ffff:0:0/96 100\nprecedence ::1/128 1\n",
                Some(&["127.0.1.2:1", "[::1]:1"]),
            ),
        ] {
            let place = Place::new();
            put(&place.zones[1], "www.test", 0, &["127.0.1.2", "::1"]);
            let change = |place: &Place| {
                move_over(&place.file(file), |new| fs::write(new, text).expect("writes"));
            };
            let before = place.changed_during_a_lookup(change);
            let before = before.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(before, ["[::1]:1", "127.0.1.2:1"], "{file}");
            place.comes_to(found, file);
            // And back.
            fs::remove_file(place.file(file)).expect("goes");
            place.comes_to(Some(&["[::1]:1", "127.0.1.2:1"]), file);
        }
    });
}
