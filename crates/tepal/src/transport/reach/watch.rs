//! What is watched of an established connection: quiet, silence, a peer that takes nothing, age.
//!
//! Activity is one store of the time; the timer is looked at only when it is due, and then moved to
//! where the latest activity has put it.

use tepal_base::Instant;

use super::Timeouts;
use crate::engine::{Engine, Flow, Host, StreamKey, StreamProtocol, TimerKey, TimerWork, stream};
use crate::transport::limit::Limit;
use crate::transport::stream::Phase;
use crate::transport::{CloseKind, Closed};

pub(in crate::transport) struct Watch<H: Host> {
    timeouts: Timeouts,
    began: Instant,
    last_in: Instant,
    last_out: Instant,
    // When the protocol was last told of a quiet time.
    told_idle: Instant,
    // Since when bytes wait of which the peer takes none.
    stuck: Option<Instant>,
    pub(in crate::transport) timer: Option<TimerKey<H>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Idle,
    Read,
    Write,
    Session,
}

impl<H: Host> Watch<H> {
    fn new(timeouts: Timeouts, now: Instant) -> Watch<H> {
        Watch {
            timeouts,
            began: now,
            last_in: now,
            last_out: now,
            told_idle: now,
            stuck: None,
            timer: None,
        }
    }

    /// The next deadline, and whose it is.
    fn next(&self) -> Option<(Instant, Due)> {
        let Timeouts { idle, read, write, session, .. } = self.timeouts;
        let quiet = self.last_in.max(self.last_out).max(self.told_idle);
        let all = [
            session.map(|span| (self.began + span, Due::Session)),
            read.map(|span| (self.last_in + span, Due::Read)),
            write.zip(self.stuck).map(|(span, since)| (since + span, Due::Write)),
            idle.map(|span| (quiet + span, Due::Idle)),
        ];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    pub(in crate::transport) fn note_in(&mut self, now: Instant) {
        self.last_in = now;
    }

    /// Bytes have left, or could not. Whether the timer must be armed for less than before.
    pub(in crate::transport) fn note_out(
        &mut self,
        moved: bool,
        waits: bool,
        now: Instant,
    ) -> bool {
        if moved {
            self.last_out = now;
        }
        let before = self.stuck;
        self.stuck = match (waits, before) {
            (false, _) => None,
            (true, Some(since)) if !moved => Some(since),
            (true, _) => Some(now),
        };
        before.is_none() && self.stuck.is_some() && self.timeouts.write.is_some()
    }
}

impl<H: Host> Engine<H> {
    /// A stream was established: begins to watch it.
    pub(in crate::transport) fn stream_begin_watch(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        let Some(stream) = stream(&mut objects, key) else { return };
        if let Some(reaching) = &mut stream.outbound {
            reaching.was_established = true;
            reaching.stands = self.now();
            reaching.problem = None;
        }
        let timeouts = match (&stream.outbound, stream.timeouts.as_deref()) {
            (Some(reaching), _) => reaching.to.timeouts,
            (None, Some(timeouts)) => *timeouts,
            (None, None) => return,
        };
        if !timeouts.watches() {
            return;
        }
        drop(objects);
        let watch = Watch::new(timeouts, self.now());
        if let Some(stream) = self::stream(&mut self.core().objects.borrow_mut(), key) {
            stream.watch = Some(Box::new(watch));
        }
        self.arm_watch(key);
    }

    /// Sets the limits of an established stream's quiet, silence and age. They count from now.
    pub fn stream_set_timeouts(&self, key: StreamKey<H>, timeouts: Timeouts) {
        let established = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return };
            match &mut stream.outbound {
                Some(reaching) => reaching.to.timeouts = timeouts,
                None => stream.timeouts = Some(Box::new(timeouts)),
            }
            stream.closing_timeout = Limit::new(timeouts.closing);
            if timeouts.handshake.is_some() {
                stream.handshake_timeout = Limit::new(timeouts.handshake);
            }
            stream.phase == Phase::Established
        };
        if !established {
            return;
        }
        self.drop_watch(key);
        if timeouts.watches() {
            let watch = Watch::new(timeouts, self.now());
            if let Some(stream) = stream(&mut self.core().objects.borrow_mut(), key) {
                stream.watch = Some(Box::new(watch));
            }
            self.arm_watch(key);
        }
    }

    pub(in crate::transport) fn drop_watch(&self, key: StreamKey<H>) {
        let watch = stream(&mut self.core().objects.borrow_mut(), key).and_then(|s| s.watch.take());
        if let Some(timer) = watch.and_then(|watch| watch.timer) {
            self.timer_remove(timer);
        }
    }

    /// Arms the timer for the next deadline.
    pub(in crate::transport) fn arm_watch(&self, key: StreamKey<H>) {
        let mut objects = self.core().objects.borrow_mut();
        if let Some(watch) = stream(&mut objects, key).and_then(|s| s.watch.as_mut()) {
            self.arm_watch_of(key, watch);
        }
    }

    pub(in crate::transport) fn arm_watch_of(&self, key: StreamKey<H>, watch: &mut Watch<H>) {
        if let Some((deadline, _)) = watch.next() {
            let work = || TimerWork::Watch(key);
            watch.timer = Some(self.arm_timer(watch.timer, deadline, work));
        }
    }

    pub(in crate::transport) fn stream_watch_timeout(&self, key: StreamKey<H>) -> Flow {
        let now = self.now();
        let due = {
            let mut objects = self.core().objects.borrow_mut();
            let Some(stream) = stream(&mut objects, key) else { return Flow::Continue(()) };
            if stream.phase != Phase::Established {
                return Flow::Continue(());
            }
            let Some(watch) = &mut stream.watch else { return Flow::Continue(()) };
            let due = watch.next().filter(|(at, _)| *at <= now).map(|(_, due)| due);
            if due == Some(Due::Idle) {
                watch.told_idle = now;
            }
            due
        };
        let kind = match due {
            None => {
                self.arm_watch(key);
                return Flow::Continue(());
            }
            Some(Due::Idle) => {
                self.arm_watch(key);
                self.call_protocol(key, |protocol| protocol.timeout_idle(self, key))?;
                return Flow::Continue(());
            }
            Some(Due::Read) => CloseKind::ReadTimedOut,
            Some(Due::Write) => CloseKind::WriteTimedOut,
            Some(Due::Session) => CloseKind::SessionTimedOut,
        };
        self.stream_reset(key);
        self.stream_lose(key, Closed::new(kind));
        Flow::Continue(())
    }
}
