//! async and await on the loop: tasks, sleeps, time limits, and a connection that is awaited.

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::Done;
use tepal::{Closed, EventLoop, Loop, Protocol, Target, Transport};

const USAGE: &str = "futures

Runs futures on a loop of its own, against a server in the same process: tasks that sleep, a
time limit, a connection that is refused, and one whose reply is awaited. Takes no arguments.";

/// A protocol that answers each line with its length.
struct Counter;

impl Protocol for Counter {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        transport.write(format!("{end}\n").as_bytes());
        end + 1
    }
}

/// The replies that have come, for a future to take: the border between callbacks and await.
#[derive(Default)]
struct Replies {
    lines: RefCell<Vec<String>>,
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

struct Client(Rc<Replies>);

impl Protocol for Client {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return 0 };
        self.0.lines.borrow_mut().push(String::from_utf8_lossy(&data[..end]).into_owned());
        self.0.wake();
        end + 1
    }

    fn connection_lost(&mut self, _: &Transport, _: &Closed) {
        self.0.over.set(true);
        self.0.wake();
    }
}

impl Replies {
    fn wake(&self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// The next reply; `None` after the end of the connection.
    async fn next(&self) -> Option<String> {
        poll_fn(|context| {
            let mut lines = self.lines.borrow_mut();
            if !lines.is_empty() {
                return Poll::Ready(Some(lines.remove(0)));
            }
            if self.over.get() {
                return Poll::Ready(None);
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

async fn talk(lp: Loop, target: Target) -> io::Result<()> {
    let replies = Rc::new(Replies::default());
    let client = Client(Rc::clone(&replies));
    let transport = lp.create_connection(move || client, target).await?;
    for line in ["one", "three", "seventeen"] {
        transport.write(format!("{line}\n").as_bytes());
        let reply = lp.timeout(Duration::from_secs(5), replies.next()).await;
        let reply = reply.map_err(io::Error::other)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        println!("{line} has {reply} letters");
    }
    transport.close();
    Ok(())
}

async fn everything(lp: Loop) -> io::Result<()> {
    // Two tasks run at once: the shorter sleep ends first.
    let order = Rc::new(RefCell::new(Vec::new()));
    let sleeper = |name: &'static str, span: u64| {
        let (lp, order) = (lp.clone(), Rc::clone(&order));
        async move {
            lp.sleep(Duration::from_millis(span)).await;
            order.borrow_mut().push(name);
        }
    };
    let long = lp.spawn(sleeper("long", 30));
    let short = lp.spawn(sleeper("short", 10));
    long.await;
    short.await;
    println!("slept: {}", order.borrow().join(", "));

    // A limit drops the future that took too long.
    let outcome = lp.timeout(Duration::from_millis(5), lp.sleep(Duration::from_secs(60))).await;
    println!("a minute in five milliseconds: {}", outcome.expect_err("it takes a minute"));

    let server = lp.listen(|_| Counter, "127.0.0.1:0")?;
    let target = Target::from(server.local_addresses()[0].clone());
    talk(lp.clone(), target.clone()).await?;

    // The server is gone; an attempt gives an error to match on.
    println!("drained, {} aborted", server.drain(Duration::from_secs(5)).await);
    match lp.create_connection(|| Counter, target).await {
        Ok(_) => Err(io::Error::other("somebody else listens there")),
        Err(problem) if problem.error.kind() == io::ErrorKind::ConnectionRefused => {
            println!("then the connection is refused");
            Ok(())
        }
        Err(problem) => Err(problem.into()),
    }
}

fn run((): ()) -> Done {
    let event_loop = EventLoop::new()?;
    let lp: Loop = (*event_loop).clone();
    event_loop.run_until_complete(everything(lp))??;
    Ok(())
}

fn main() -> ExitCode {
    common::main(USAGE, |_| Ok(()), run)
}
