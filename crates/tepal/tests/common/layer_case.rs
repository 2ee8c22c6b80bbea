//! What a protocol with layers does in one of its callbacks, and what must hold afterwards.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tepal::layers::LinesMode;
use tepal::{EventLoop, Late, LayerSpec, Lines, Phase, RateLimit, Residual, Stack, Transport};

use super::layered::{Call, Log, Pair, Script, Seen};
use super::listed::listed;

const SECOND: Duration = Duration::from_secs(1);

listed! { At, ATS {
    Made,
    Established,
    Data,
    Eof,
    Pause,
    Resume,
    Out,
    Ready,
    Added,
    Removed,
    Idle,
    Lost,
} }

listed! { Act, ACTS {
    Write,
    WriteMuch,
    WriteThenClose,
    WriteEof,
    Close,
    Abort,
    PauseForAWhile,
    SetProtocol,
    SetReadLow,
    Push,
    PushBelow,
    PushTwice,
    PushThenWrite,
    PushThenClose,
    PushThenAbort,
    PushFrames,
    Pop,
    PopNamed,
    PopLate,
    PopThenWrite,
    PopThenClose,
    PopThenPush,
    PushThenPop,
    Command,
    Reconnect,
    PushThenReconnect,
    PopThenReconnect,
    Stop,
    Panic,
} }

fn at(call: &Call<'_>) -> Option<At> {
    Some(match call {
        Call::Made => At::Made,
        Call::Established => At::Established,
        Call::Data(_) => At::Data,
        Call::Eof => At::Eof,
        Call::Pause => At::Pause,
        Call::Resume => At::Resume,
        Call::Out => At::Out,
        Call::Ready(..) => At::Ready,
        Call::Added(_) => At::Added,
        Call::Removed(..) => At::Removed,
        Call::Idle => At::Idle,
        Call::Lost(_) => At::Lost,
        Call::Request(..) | Call::Error(_) => return None,
    })
}

fn passive() -> Arc<dyn LayerSpec> {
    Arc::new(RateLimit::new().write(1 << 40).read(1 << 40))
}

/// Errors are answers here: what cannot be done now is told, and changes nothing.
fn act(act: Act, transport: &Transport, log: &Log) {
    let push = |below: Option<&str>| {
        drop(transport.push_layer_with(&passive(), below, Residual::Feed));
    };
    let pop = |name: Option<&str>, late| drop(transport.pop_layer(name, SECOND, late));
    let first = transport.layers().first().copied().unwrap_or("none");
    match act {
        Act::Write => drop(transport.write(b"some bytes")),
        Act::WriteMuch => drop(transport.write(&vec![2; 300_000])),
        Act::WriteThenClose => {
            transport.write(&vec![2; 200_000]);
            transport.close();
            transport.write(b"dropped");
        }
        Act::WriteEof => drop(transport.write_eof()),
        Act::Close => transport.close(),
        Act::Abort => transport.abort(),
        Act::PauseForAWhile => {
            transport.pause_reading();
            let (transport, lp) = (transport.clone(), transport.event_loop().clone());
            lp.call_later(Duration::from_millis(1), move |_| transport.resume_reading());
        }
        Act::SetProtocol => transport.set_protocol(Script::with_log(log, |_, _| None)),
        Act::SetReadLow => transport.set_read_low(1000).expect("below the limit"),
        Act::Push => push(None),
        Act::PushBelow => push(Some(first)),
        Act::PushTwice => {
            push(None);
            push(None);
        }
        Act::PushThenWrite => {
            push(None);
            transport.write(b"above it");
        }
        Act::PushThenClose => {
            push(None);
            transport.close();
        }
        Act::PushThenAbort => {
            push(None);
            transport.abort();
        }
        Act::PushFrames => {
            // The peer takes what comes for bytes.
            drop(transport.push_layer(Lines::new(1 << 20)));
            transport.write(b"a line");
        }
        Act::Pop => pop(None, Late::Close),
        Act::PopNamed => pop(Some(first), Late::Keep),
        Act::PopLate => drop(transport.pop_layer(None, Duration::from_nanos(1), Late::Keep)),
        Act::PopThenWrite => {
            pop(None, Late::Keep);
            transport.write(b"below it");
        }
        Act::PopThenClose => {
            pop(None, Late::Close);
            transport.close();
        }
        Act::PopThenPush => {
            pop(None, Late::Keep);
            push(None);
        }
        Act::PushThenPop => {
            push(None);
            pop(None, Late::Close);
        }
        Act::Command => drop(transport.command_layer(first, LinesMode::Raw)),
        Act::Reconnect => drop(transport.reconnect(None)),
        Act::PushThenReconnect => {
            push(None);
            transport.write(b"above it");
            transport.reconnect(None);
        }
        Act::PopThenReconnect => {
            pop(None, Late::Keep);
            transport.write(b"below it");
            transport.reconnect(None);
        }
        Act::Stop => transport.event_loop().stop(),
        Act::Panic => std::panic::resume_unwind(Box::new("on purpose")),
    }
}

impl Act {
    fn reconnects(self) -> bool {
        matches!(self, Act::Reconnect | Act::PushThenReconnect | Act::PopThenReconnect)
    }
}

/// Its last connection is lost, and there will be no other.
fn is_lost(log: &Log) -> bool {
    let log = log.borrow();
    let over = log.transport.as_ref().is_none_or(|t| t.phase() == Phase::Closed);
    log.events.last().is_some_and(|last| last == "lost") && (over || !log.again)
}

/// What must hold of what a protocol was told.
fn check(seen: &Seen) -> Result<(), &'static str> {
    let count = |name: &str| seen.events.iter().filter(|event| *event == name).count();
    let place = |name: &str| seen.events.iter().position(|event| event == name);
    if count("made") != 1 || place("made") != Some(0) {
        return Err("connection_made is the first, once");
    }
    // One for each establishment, or one at the end of an attempt.
    let most = if seen.again { 2 } else { 1 };
    if !(1..=most).contains(&count("lost"))
        || seen.events.iter().rposition(|event| event == "lost") != Some(seen.events.len() - 1)
    {
        return Err("connection_lost is the last, once for each connection");
    }
    if count("established") > most || count("eof") > most {
        return Err("more than one beginning or end");
    }
    if place("data").is_some() && place("data") < place("established") {
        return Err("data before it was established");
    }
    Ok(())
}

/// When the peer closes, and when it aborts.
pub(crate) const PATIENT: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(4)];
pub(crate) const HASTY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(150)];

type Boxed = Box<dyn FnMut(&Transport, &Call<'_>) -> Option<usize>>;

/// One case: the one that acts, and a peer that talks, listens, and goes.
pub(crate) fn run_case(
    event_loop: &EventLoop,
    (up, down): (&Stack, &Stack),
    (when, what, inbound): (At, Act, bool),
    goes: [Duration; 2],
) -> (bool, usize, Result<(), String>) {
    let fired = Rc::new(Cell::new(false));
    let inside = Rc::new(Cell::new(false));
    let nested = Rc::new(Cell::new(false));
    let own: Rc<RefCell<Option<Log>>> = Rc::default();
    let (flag, wrong, log) = (Rc::clone(&fired), Rc::clone(&nested), Rc::clone(&own));
    let subject: Boxed = Box::new(move |transport, call| {
        struct Inside<'a>(&'a Cell<bool>);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if inside.replace(true) {
            wrong.set(true);
        }
        let _inside = Inside(&inside);
        match call {
            Call::Made => transport.set_write_buffer_limits(0, 10).expect("in order"),
            // Above the mark, so that pause, resume and io_out follow.
            Call::Established => drop(transport.write(&[1; 100])),
            // So that there is something added, and removed.
            Call::Data(_) if matches!(when, At::Added | At::Removed) => {
                drop(transport.push_layer_with(&passive(), None, Residual::Feed));
            }
            Call::Added(_) if when == At::Removed => {
                drop(transport.pop_layer(None, SECOND, Late::Close));
            }
            _ => {}
        }
        if at(call) == Some(when) && !flag.replace(true) {
            let log = log.borrow().clone().expect("set before the run");
            act(what, transport, &log);
        }
        None
    });
    let peer: Boxed = Box::new(move |transport, call| {
        if let Call::Established = call {
            transport.write(b"hello");
            for (span, aborts) in [(goes[0], false), (goes[1], true)] {
                let goes = transport.clone();
                transport.event_loop().call_later(span, move |_| match aborts {
                    false => goes.close(),
                    true => goes.abort(),
                });
            }
        }
        None
    });
    let (one, other) = if inbound { (peer, subject) } else { (subject, peer) };
    let pair = Pair::connect(event_loop, (up.clone(), one), (down.clone(), other));
    let (mine, theirs) = match inbound {
        true => (&pair.server, &pair.client),
        false => (&pair.client, &pair.server),
    };
    for log in [mine, theirs] {
        log.borrow_mut().again = what.reconnects() && !inbound;
    }
    *own.borrow_mut() = Some(Rc::clone(mine));
    let late = Rc::new(Cell::new(false));
    let flag = Rc::clone(&late);
    let limit = event_loop.call_later(Duration::from_secs(30), move |lp| {
        flag.set(true);
        lp.stop();
    });
    // The listener's side has a log for all of its connections; it is the other that decides.
    let (a, b) = (Rc::clone(mine), Rc::clone(theirs));
    // A peer that hears of nothing, because the subject has gone before, has nothing to lose.
    let over = move || is_lost(&a) && (is_lost(&b) || b.borrow().events.is_empty());
    let done = over.clone();
    let watch = event_loop.timer(Duration::from_millis(1), move |lp, timer| match done() {
        true => lp.stop(),
        false => timer.again(),
    });
    watch.start();
    while !over() && !late.get() {
        event_loop.run_forever().expect("runs");
    }
    limit.cancel();
    drop(watch);
    // What may still be queued, so that a callback after the end is seen.
    event_loop.call_soon(|lp| lp.stop());
    event_loop.run_forever().expect("runs");
    pair.listener.close();
    pair.listener.abort_connections();
    let seen = mine.borrow();
    let result = match check(&seen) {
        _ if late.get() => Err(format!("it did not end: {:?}", seen.events)),
        _ if nested.get() => Err(format!("a callback inside another: {:?}", seen.events)),
        Err(problem) => Err(format!("{problem}: {:?} {:?}", seen.events, seen.closed)),
        Ok(()) => Ok(()),
    };
    let connections = seen.events.iter().filter(|event| *event == "established").count();
    (fired.get(), connections, result)
}
