use std::cell::{Cell, OnceCell, RefCell};
use std::fmt::Display;
use std::rc::Rc;

use tepal::{Address, Closed, Process, Signal, Transport};

use super::Station;
use crate::exit::Exit;
use crate::hint::told;
use crate::report::Report;

/// One connection with all that belongs to it, held by each part. When the last part is
/// gone, so is the talk.
pub(crate) struct Talk {
    pub(crate) station: Rc<Station>,
    pub(crate) report: Report,
    /// Who is at the other end, once that is known.
    pub(super) peer: OnceCell<Address>,
    /// That side, once it is there.
    pub(super) front: RefCell<Option<Transport>>,
    /// The program that serves it, while it runs.
    pub(super) child: RefCell<Option<Process>>,
    // The first thing that went wrong.
    exit: Cell<Exit>,
}

/// What the end of a terminal is told by: the connection is gone.
pub(super) const SIGHUP: Signal = 1;

impl Talk {
    pub(super) fn begin(station: &Rc<Station>, report: Report, peer: Option<Address>) -> Rc<Talk> {
        station.open.set(station.open.get() + 1);
        Rc::new(Talk {
            station: Rc::clone(station),
            report,
            peer: peer.map(OnceCell::from).unwrap_or_default(),
            front: RefCell::default(),
            child: RefCell::default(),
            exit: Cell::new(Exit::Success),
        })
    }

    /// A side has ended: in order, or told as what it was.
    pub(super) fn side_ended(&self, side: &str, closed: &Closed) {
        match Exit::of(closed) {
            Exit::Success => self.report.phase("closed", format_args!("{side}: {closed}")),
            // The record says to whom it led.
            exit if closed.problem.is_some() => self.fail(exit, told(closed)),
            exit => self.fail(exit, format_args!("{side}: {}", told(closed))),
        }
    }

    /// Something went wrong. What follows from it is told on request only.
    pub(crate) fn fail(&self, exit: Exit, text: impl Display) {
        match self.set_exit(exit) {
            true => self.report.failure(text),
            false => self.report.phase("and", text),
        }
    }

    /// Something went wrong that need not be told.
    pub(crate) fn fail_silently(&self, exit: Exit) {
        self.set_exit(exit);
    }

    // Whether it is the first.
    fn set_exit(&self, exit: Exit) -> bool {
        let first = self.exit.get() == Exit::Success;
        if first {
            self.exit.set(exit);
            self.station.failed(exit);
        }
        first
    }

    /// Joins the client to what serves it. How each of them ends its protocol hears.
    pub(super) fn join(&self, other: &Transport) {
        let front = self.front.borrow().clone();
        let joined = front.as_ref().map(|front| front.join(other));
        let Some(Ok(joined)) = joined else {
            // The client has gone meanwhile.
            return other.abort();
        };
        let report = self.report.clone();
        self.station.lp.spawn(async move {
            if let Ok((there, back)) = joined.await {
                report.phase("passed", format_args!("{there} bytes there, {back} back"));
            }
        });
    }

    /// The first side has gone. A program that has ended its own is about to end by itself, unless
    /// something went wrong.
    pub(super) fn front_gone(&self, name: &str, closed: &Closed) {
        self.front.take();
        self.side_ended(name, closed);
        if self.exit.get() != Exit::Success
            && let Some(process) = self.child.borrow().as_ref()
        {
            self.report.phase("program", "is told of it");
            // It may have ended in this moment.
            let _ = process.send_signal(SIGHUP);
        }
    }

    /// Nobody serves it.
    pub(super) fn hang_up(&self) {
        self.front.borrow().iter().for_each(Transport::abort);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.station.ended();
    }
}
