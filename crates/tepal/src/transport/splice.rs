//! Bytes of a join that stay in the kernel.
//!
//! splice(2) moves pages from a socket to a pipe and from there to another socket; nothing passes
//! through this process. For bulk that takes a half to a third of the time of a copy. For short
//! messages it takes longer: two calls and a pipe where a copy takes two calls. So a direction
//! begins by copying, goes over to splicing when a read has brought much, and back when one has
//! not.
//!
//! A pipe is filled only while it and the other side's output are empty, so that its bytes are
//! always the oldest that wait there, and then belongs to that side until it is empty again.
//! Between uses the loop keeps some pipes. Where the kernel refuses a pair of descriptors, it is
//! copied.

use std::io;

use tepal_driver::{Descriptor, Half};

use super::relay::Way;
use super::stream::{EndOutput, Phase, Stream};
use super::{CloseKind, Closed};
use crate::engine::{Core, Engine, Flow, Host, StreamKey, stream};

/// Bytes on their way into a joined stream.
#[derive(Debug)]
pub(crate) struct Pipe {
    output: Descriptor,
    input: Descriptor,
    // How many bytes it holds.
    held: usize,
    large: bool,
}

/// A copied read of this much turns a direction to splicing: half of what Linux lets a receive
/// buffer hold before it grows.
pub(super) const SPLICE_FROM: usize = 64 * 1024;
/// A splice of less turns it back.
const SPLICE_WORTH: usize = 16 * 1024;
/// What is moved at once; the pipe's size limits it further.
const SPLICE_LEN: usize = 1024 * 1024;
/// A larger pipe moves more with each call, and holds more for a side that does not read: as much
/// as one read. The kernel counts the pages of all of a user's pipes (64 MiB by default), so a loop
/// asks for few.
const LARGE_PIPE: usize = crate::engine::READ_LEN;
const LARGE_PIPES: usize = 64;
/// Pipes that wait for their next use: two descriptors each.
const PIPES_KEPT: usize = 16;

impl<H: Host> Stream<H> {
    /// How many bytes wait in a pipe to be moved here.
    pub(super) fn piped(&self) -> usize {
        self.relay.as_ref().and_then(|relay| relay.pipe.as_ref()).map_or(0, |pipe| pipe.held)
    }

    pub(crate) fn take_pipe(&mut self) -> Option<Pipe> {
        self.relay.as_mut()?.pipe.take()
    }

    // Whether bytes may be put into a pipe that leads here.
    fn takes_splice(&self) -> bool {
        let willing = self.relay.as_ref().is_some_and(|relay| !relay.refuses_splice);
        willing
            && self.phase == Phase::Established
            && self.layers.is_none()
            && self.end_output == EndOutput::No
            && !(self.closing | self.blocked | self.has_output())
    }
}

impl<H: Host> Engine<H> {
    /// Moves what a joined stream has to read. `None`: it is to be copied.
    pub(super) fn splice_in(&self, key: StreamKey<H>, descriptor: Descriptor) -> Option<Flow> {
        let core = self.core();
        let mut objects = core.objects.borrow_mut();
        let relay = stream(&mut objects, key)?.relay.as_ref()?;
        let to = (relay.way == Way::Splice).then_some(relay.to)?;
        if !stream(&mut objects, to)?.takes_splice() {
            return None;
        }
        let mut pipe = core.take_pipe()?;
        let moved = core.driver.borrow_mut().splice(descriptor, pipe.input, SPLICE_LEN);
        pipe.held = moved.as_ref().map_or(0, |moved| moved.count);
        let source = stream(&mut objects, key)?;
        let relay = source.relay.as_mut()?;
        relay.moved += pipe.held as u64;
        if pipe.held < SPLICE_WORTH {
            relay.way = Way::Copy;
        }
        match moved {
            Ok(moved) if moved.count > 0 => {
                relay.held = true;
                if let Some(relay) = stream(&mut objects, to).and_then(|s| s.relay.as_mut()) {
                    relay.pipe = Some(pipe);
                }
                drop(objects);
                // Reads on if all has left.
                Some(self.flush_stream(to))
            }
            Ok(moved) => {
                core.give_pipe(pipe);
                source.readable = false;
                drop(objects);
                match moved.blocked {
                    true => Some(Flow::Continue(())),
                    false => self.relay_eof(key),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                core.give_pipe(pipe);
                relay.way = Way::CopyOnly;
                None
            }
            Err(error) => {
                core.give_pipe(pipe);
                drop(objects);
                self.stream_lose(key, Closed::failed(Half::Read, error));
                Some(Flow::Continue(()))
            }
        }
    }

    /// Moves what waits in a pipe to a stream's descriptor, once.
    pub(super) fn splice_out(
        &self,
        stream: &mut Stream<H>,
        descriptor: Descriptor,
    ) -> io::Result<()> {
        let core = self.core();
        let Some(relay) = stream.relay.as_mut() else { return Ok(()) };
        let Some(mut pipe) = relay.pipe.take() else { return Ok(()) };
        let moved = core.driver.borrow_mut().splice(pipe.output, descriptor, pipe.held);
        match moved {
            Ok(moved) => {
                pipe.held -= moved.count;
                stream.sent += moved.count as u64;
                stream.blocked = moved.blocked;
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                relay.refuses_splice = true;
                return self.unpipe(stream, pipe);
            }
            Err(error) => {
                relay.pipe = Some(pipe);
                return Err(error);
            }
        }
        match pipe.held {
            0 => core.give_pipe(pipe),
            _ => relay.pipe = Some(pipe),
        }
        Ok(())
    }

    /// Copies what waits in a pipe to the front of a stream's output.
    fn unpipe(&self, stream: &mut Stream<H>, mut pipe: Pipe) -> io::Result<()> {
        let core = self.core();
        let mut later = std::mem::take(&mut stream.output);
        let mut result = Ok(());
        while pipe.held > 0 && result.is_ok() {
            let received = core.driver.borrow_mut().receive(pipe.output, self.take_scratch());
            match received.result {
                // Both cannot be while bytes are in it; said so, they must not be waited for.
                Ok(0) => result = Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => result = Err(error),
                Ok(count) => {
                    let bytes = &received.buffer[..count];
                    stream.output.extend(bytes, &mut core.workspace.pool());
                    pipe.held -= count.min(pipe.held);
                }
            }
            self.give_scratch(received.buffer);
        }
        later.move_to(later.len(), &mut stream.output, &mut core.workspace.pool());
        core.give_pipe(pipe);
        result
    }

    /// A join has ended: what still waits in a pipe goes on as other output does.
    pub(super) fn end_pipe(&self, key: StreamKey<H>, pipe: Option<Pipe>) {
        let Some(pipe) = pipe else { return };
        let mut objects = self.core().objects.borrow_mut();
        let result = match stream(&mut objects, key) {
            Some(stream) if stream.phase == Phase::Established => self.unpipe(stream, pipe),
            _ => {
                self.core().give_pipe(pipe);
                Ok(())
            }
        };
        drop(objects);
        if let Err(error) = result {
            self.stream_lose(key, Closed { error: Some(error.into()), ..lost_in_pipe() });
        }
    }
}

fn lost_in_pipe() -> Closed {
    Closed { half: Some(Half::Write), ..Closed::new(CloseKind::Failed) }
}

impl<H: Host> Core<H> {
    // `None`: no descriptors are left.
    fn take_pipe(&self) -> Option<Pipe> {
        if let Some(pipe) = self.pipes.borrow_mut().pop() {
            return Some(pipe);
        }
        let mut driver = self.driver.borrow_mut();
        let (output, input) = driver.pipe().ok()?;
        // Refused: it is as large as any.
        let large =
            self.large_pipes.get() < LARGE_PIPES && driver.grow_pipe(input, LARGE_PIPE).is_ok();
        self.large_pipes.update(|count| count + usize::from(large));
        Some(Pipe { output, input, held: 0, large })
    }

    /// Keeps an empty pipe for its next use, or closes it.
    pub(crate) fn give_pipe(&self, pipe: Pipe) {
        let mut pipes = self.pipes.borrow_mut();
        if pipe.held == 0 && pipes.len() < PIPES_KEPT {
            pipes.push(pipe);
        } else {
            self.close_pipe(pipe);
        }
    }

    fn close_pipe(&self, pipe: Pipe) {
        self.large_pipes.update(|count| count - usize::from(pipe.large));
        let mut driver = self.driver.borrow_mut();
        // Nobody else knows of them, so a failure has nobody to tell.
        let _ = (driver.close(pipe.output), driver.close(pipe.input));
    }

    /// Closes the pipes that are kept.
    pub(crate) fn close_pipes(&self) {
        let pipes = self.pipes.take();
        pipes.into_iter().for_each(|pipe| self.close_pipe(pipe));
    }
}
