//! A periodic timer, and signals that restart, pause and end it.

mod common;

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use common::Done;
use tepal::{EventLoop, Instant, Signal};

const USAGE: &str = "ticker [--interval MS] [--count N]

Prints a line every MS milliseconds (1000), N times or until SIGINT or SIGTERM.
SIGUSR1 starts the interval anew from its arrival; SIGHUP pauses, and again goes on.";

const SIGHUP: Signal = 1;
// Linux's number; see signal(7) for the few machines where it is another.
const SIGUSR1: Signal = 10;

struct Arguments {
    interval: Duration,
    count: usize,
}

fn parse(arguments: &mut common::Arguments) -> Result<Arguments, String> {
    let mut parsed = Arguments { interval: Duration::from_secs(1), count: usize::MAX };
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--interval" => {
                let millis = arguments.number("--interval")?;
                parsed.interval = Duration::from_millis(millis as u64);
            }
            "--count" => parsed.count = arguments.number("--count")?,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(parsed)
}

fn run(arguments: Arguments) -> Done {
    let event_loop = EventLoop::new()?;
    let (mut ticks, mut last) = (0, event_loop.time());
    let armed = Rc::new(Cell::new(last));
    let since = Rc::clone(&armed);
    let timer = event_loop.timer(arguments.interval, move |lp, timer| {
        let now: Instant = lp.time();
        ticks += 1;
        // How late: the time since it was armed, less the interval. Never below zero.
        let late = now.since(since.get() + timer.interval());
        let step = now.since(last);
        println!("tick {ticks} after {:.3} ms, late by {} us", millis(step), late.as_micros());
        last = now;
        if ticks == arguments.count {
            return lp.stop();
        }
        since.set(now);
        timer.again();
    });

    let (restarted, clock) = (timer.clone(), Rc::clone(&armed));
    event_loop.add_signal_handler(SIGUSR1, move |lp, _| {
        clock.set(lp.time());
        restarted.restart();
        println!("restarted");
    })?;
    let (paused, clock) = (timer.clone(), Rc::clone(&armed));
    event_loop.add_signal_handler(SIGHUP, move |lp, _| {
        if paused.stop() {
            println!("paused");
        } else {
            clock.set(lp.time());
            paused.start();
            println!("going on");
        }
    })?;
    common::on_signals(&event_loop, |lp| lp.stop())?;

    armed.set(event_loop.time());
    timer.start();
    println!("ticking every {} ms", arguments.interval.as_millis());
    event_loop.run_forever()?;
    println!("ended");
    Ok(())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn main() -> ExitCode {
    common::main(USAGE, parse, run)
}
