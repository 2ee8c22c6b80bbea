use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tepal::{Address, Listen, Server, Target};

use super::Simulation;
use super::player::{Played, Player};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a peer does and expects, one after the other.
///
/// Bytes may come in any pieces. What comes before it is expected is kept; what differs from the
/// script ends the connection by a reset, and [`Scripted::finish`] tells where. When the script is
/// over, the connection is left as it is, and closed when the program ends it.
#[derive(Clone, Default, Debug)]
pub struct Script {
    steps: VecDeque<Step>,
}

/// One thing of a [`Script`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    Wait(Duration),
    SendEof,
    ExpectEof,
    ExpectReset,
    Close,
    Reset,
}

impl Script {
    /// Nothing yet.
    pub fn new() -> Script {
        Script::default()
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Script {
        self.then(Step::Send(bytes.as_ref().to_owned()))
    }

    /// Waits for exactly these bytes.
    #[must_use]
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Script {
        self.then(Step::Expect(bytes.as_ref().to_owned()))
    }

    /// Lets virtual time pass.
    #[must_use]
    pub fn wait(self, span: Duration) -> Script {
        self.then(Step::Wait(span))
    }

    /// Ends its direction, and reads on.
    #[must_use]
    pub fn send_eof(self) -> Script {
        self.then(Step::SendEof)
    }

    /// Waits for the end of the program's direction.
    #[must_use]
    pub fn expect_eof(self) -> Script {
        self.then(Step::ExpectEof)
    }

    /// Waits for a reset by the program.
    #[must_use]
    pub fn expect_reset(self) -> Script {
        self.then(Step::ExpectReset)
    }

    /// Closes the connection; what was sent arrives.
    #[must_use]
    pub fn close(self) -> Script {
        self.then(Step::Close)
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(self) -> Script {
        self.then(Step::Reset)
    }

    fn then(mut self, step: Step) -> Script {
        self.steps.push_back(step);
        self
    }

    pub(super) fn into_steps(self) -> VecDeque<Step> {
        self.steps
    }
}

/// As a step is told of: `expect "QUIT\r\n"`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Send(bytes) => write!(f, "send \"{}\"", bytes.escape_ascii()),
            Step::Expect(bytes) => write!(f, "expect \"{}\"", bytes.escape_ascii()),
            Step::Wait(span) => write!(f, "wait {span:?}"),
            Step::SendEof => f.write_str("send the end"),
            Step::ExpectEof => f.write_str("expect the end"),
            Step::ExpectReset => f.write_str("expect a reset"),
            Step::Close => f.write_str("close"),
            Step::Reset => f.write_str("reset"),
        }
    }
}

/// Peers that play scripts in a [`Simulation`].
#[must_use = "`finish` plays the scripts and tells what went wrong"]
pub struct Scripted<'a> {
    simulation: &'a Simulation,
    played: Rc<RefCell<Played>>,
    server: Option<Server>,
}

impl<'a> Scripted<'a> {
    pub(super) fn serve(
        simulation: &'a Simulation,
        listen: Listen,
        scripts: VecDeque<Script>,
    ) -> io::Result<Scripted<'a>> {
        let played = Rc::new(RefCell::new(Played::of(scripts.len())));
        let shared = Rc::clone(&played);
        let scripts = RefCell::new(scripts);
        let next = move |_: &Address| Player::new(scripts.borrow_mut().pop_front(), &shared);
        let server = Some(simulation.event_loop().listen(next, listen)?);
        Ok(Scripted { simulation, played, server })
    }

    pub(super) fn connect(
        simulation: &'a Simulation,
        target: Target,
        script: Script,
    ) -> Scripted<'a> {
        let played = Rc::new(RefCell::new(Played::of(1)));
        simulation.event_loop().connect(Player::new(Some(script), &played), target);
        Scripted { simulation, played, server: None }
    }

    /// Whether every script is over, or one has failed.
    pub fn is_over(&self) -> bool {
        self.played.borrow().is_over()
    }

    /// Runs the loop until every script is over, for a day of virtual time at most; and then, since
    /// a program may send more than the script expects, for up to ten seconds while bytes are under
    /// way. A peer that listens does so no longer then.
    ///
    /// # Panics
    ///
    /// If something did not go as a script says, with the connection, the step, and what came
    /// instead.
    #[track_caller]
    pub fn finish(self) {
        let simulation = self.simulation;
        let day = simulation.elapsed() + DAY;
        while !self.is_over() && simulation.elapsed() < day {
            // The last script stops the loop.
            simulation.run_for(day - simulation.elapsed());
        }
        let kernel = simulation.kernel();
        simulation.run_within(Duration::from_secs(10), || kernel.ledger().bytes_in_flight == 0);
        simulation.run_for(Duration::ZERO);
        if let Some(server) = &self.server {
            server.close();
        }
        let played = self.played.borrow();
        if let Some(wrong) = played.wrong.first() {
            simulation.fail(format_args!("{wrong}"));
        }
        if played.left > 0 {
            simulation.fail(format_args!("{} scripts are not over after a day", played.left));
        }
    }
}

impl fmt::Debug for Scripted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}
