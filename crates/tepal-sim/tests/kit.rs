//! The kit, by small programs that are right and wrong.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use tepal::{Backoff, Closed, Protocol, Target, Transport};
use tepal_sim::kit::{Operation, Script, Simulation, Sweep};
use tepal_sim::{Config, Disturbance};

const SECOND: Duration = Duration::from_secs(1);

fn place(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The text of a panic.
fn panic_of(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it fails");
    panic.downcast_ref::<String>().expect("with a text").clone()
}

/// Answers each line with the line.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        transport.write(&data[..=end]);
        end + 1
    }
}

/// Plays the script against an echo, and returns what the kit has to say.
fn against_echo(script: Script) -> String {
    panic_of(|| {
        let simulation = Simulation::new(Config::seeded(3));
        simulation.event_loop().listen(|_| Echo, "127.0.0.1:7").expect("listens");
        simulation.connect(place(7), script).finish();
    })
}

#[test]
fn a_script_that_goes_as_written_is_over_under_every_seed() {
    let runs = Rc::new(Cell::new(0));
    let count = Rc::clone(&runs);
    Sweep::seeds(0..40).run(move |simulation| {
        count.set(count.get() + 1);
        let server = simulation.event_loop().listen(|_| Echo, "127.0.0.1:7").expect("listens");
        let long = [&[b'x'; 100_000][..], b"\n"].concat();
        let script = Script::new()
            .send(&long)
            .expect(&long[..50])
            .wait(3600 * SECOND)
            .expect(&long[50..])
            .send(b"half of a line")
            .send_eof()
            .expect_eof();
        simulation.connect(place(7), script).finish();
        assert!(simulation.elapsed() >= 3600 * SECOND);
        server.close();
    });
    assert_eq!(runs.get(), 41, "the first seed runs twice");
}

#[test]
fn what_differs_from_a_script_is_told_with_its_place() {
    let told = against_echo(Script::new().send("one\n").expect("two\n"));
    assert!(told.starts_with(r#"connection 1, step 2 (expect "two\n"): "one\n" came"#), "{told}");
    assert!(told.contains("seed 3"), "{told}");

    let told = against_echo(Script::new().send("one\nmore\n").expect("one\n"));
    assert!(
        told.starts_with(r#"connection 1, step 3 (the end of the script): "more\n""#),
        "{told}"
    );

    let told = against_echo(Script::new().send("on").send_eof().expect("on"));
    assert!(
        told.starts_with(r#"connection 1, step 3 (expect "on"): "" and then the end"#),
        "{told}"
    );

    let told = against_echo(Script::new().send("a\n").expect("a\n").expect_reset());
    assert!(told.starts_with("1 scripts are not over after a day"), "{told}");

    let nobody = panic_of(|| {
        let simulation = Simulation::new(Config::seeded(3));
        simulation.connect(place(7), Script::new().expect("hello")).finish();
    });
    assert!(nobody.contains("Connection refused"), "{nobody}");
}

/// Says hello on every connection, and connects again whenever one is lost.
struct Persistent {
    established: Rc<RefCell<Vec<Duration>>>,
    answered: Rc<Cell<bool>>,
}

impl Protocol for Persistent {
    fn connection_established(&mut self, transport: &Transport) {
        let since_start = transport.event_loop().time().since(tepal::Instant::ZERO);
        self.established.borrow_mut().push(since_start);
        transport.write(b"hello\n");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        if !data.ends_with(b"\n") {
            return 0;
        }
        self.answered.set(true);
        transport.close();
        data.len()
    }
    fn connection_lost(&mut self, transport: &Transport, _: &Closed) {
        if !self.answered.get() {
            assert!(transport.reconnect(None));
        }
    }
}

#[test]
fn a_program_that_connects_anew_meets_one_script_after_another() {
    let established = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&established);
    Sweep::seeds(0..20).run(move |simulation| {
        seen.borrow_mut().clear();
        let answered = Rc::new(Cell::new(false));
        let program = Persistent { established: Rc::clone(&seen), answered: Rc::clone(&answered) };
        let backoff = Backoff { first: 10 * SECOND, jitter: 0.0, ..Backoff::default() };
        let peer = simulation.serve(
            "127.0.0.1:80",
            [
                Script::new().expect("hello\n").reset(),
                Script::new().expect("hello\n").wait(SECOND).close(),
                Script::new().expect("hello\n").send("at last\n").expect_eof(),
            ],
        );
        simulation.event_loop().connect(program, Target::from(place(80)).backoff(backoff));
        peer.finish();
        assert!(answered.get());
        let seen = seen.borrow();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(seen[1] >= 10 * SECOND && seen[2] >= 30 * SECOND, "{seen:?}");
    });
}

#[test]
fn connections_beyond_the_scripts_are_reset_and_a_reset_can_be_expected() {
    struct Aborts;
    impl Protocol for Aborts {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
            transport.abort();
            data.len()
        }
    }
    let simulation = Simulation::new(Config::seeded(1));
    let server = simulation.event_loop().listen(|_| Aborts, "127.0.0.1:7").expect("listens");
    simulation.connect(place(7), Script::new().send("go").expect_reset()).finish();
    server.close();

    let peer = simulation.serve("127.0.0.1:8", [Script::new().expect("first").close()]);
    let first = simulation.event_loop().connect(Echo, place(8));
    first.write(b"first");
    simulation.run_until(SECOND, || first.closed().is_some());
    let second = simulation.event_loop().connect(Echo, place(8));
    simulation.run_until(SECOND, || second.closed().is_some());
    let closed = second.closed().expect("it is");
    assert_eq!(closed.kind, tepal::CloseKind::Reset, "{closed}");
    peer.finish();
    simulation.finish();
}

#[test]
fn a_sweep_names_the_seed_that_fails_and_one_alone_shows_its_trace() {
    let test = |simulation: &Simulation| {
        simulation.run_for(SECOND);
        assert_ne!(simulation.seed(), 13, "an unlucky number");
    };
    let told = panic_of(|| Sweep::seeds(10..20).run(test));
    assert!(told.starts_with("seed 13 fails:"), "{told}");
    assert!(told.contains("an unlucky number") && told.contains("`.only(13)`"), "{told}");
    let told = panic_of(|| Sweep::seeds(10..20).only(13).run(test));
    assert!(told.contains("lines of its trace:\n"), "{told}");
}

#[test]
fn a_program_whose_chance_is_not_the_seeds_is_found_out() {
    let runs = Cell::new(0);
    let told = panic_of(|| {
        Sweep::seeds([5]).run(|simulation| {
            runs.set(runs.get() + 1);
            simulation.run_for(runs.get() * SECOND);
        });
    });
    assert!(told.contains("two runs of seed 5 differ"), "{told}");
}

#[test]
fn what_is_left_open_is_told_at_the_end() {
    let told = panic_of(|| {
        let simulation = Simulation::new(Config::seeded(1));
        simulation.event_loop().listen(|_| Echo, "127.0.0.1:7").expect("listens");
        simulation.finish();
    });
    assert!(told.starts_with("at its end the program holds 1 open descriptors"), "{told}");
}

#[test]
fn waiting_has_its_limits_in_virtual_time() {
    let simulation = Simulation::new(Config::seeded(1));
    let told = panic_of(|| simulation.run_until(3 * SECOND, || false));
    assert!(told.contains("has not come within 3s") && told.contains("at 3s"), "{told}");
    let told = panic_of(|| simulation.complete(SECOND, std::future::pending()));
    assert!(told.contains("not done within 1s"), "{told}");
    assert_eq!(simulation.complete(SECOND, async { 42 }), 42);
    simulation.finish();
}

#[test]
fn chosen_calls_fail_and_the_kernel_can_be_chosen() {
    let friendly = |seed| Config { disturbance: Disturbance::default(), ..Config::seeded(seed) };
    Sweep::seeds(0..3).config(friendly).run(|simulation| {
        let peer = simulation.serve("127.0.0.1:80", [Script::new().expect("hello\n").close()]);
        simulation.faults().fail(Operation::Send, 1, 104);
        let transport = simulation.event_loop().connect(Echo, place(80));
        transport.write(b"hello\n");
        simulation.run_until(SECOND, || transport.closed().is_some());
        let closed = transport.closed().expect("it is");
        assert_eq!((closed.kind, closed.unsent), (tepal::CloseKind::Reset, 6), "{closed}");
        let told = panic_of(|| peer.finish());
        assert!(told.contains(r#"(expect "hello\n"): "" and then the end came"#), "{told}");
        assert_eq!(simulation.faults().injected(), 1);
    });
}
