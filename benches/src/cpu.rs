use std::fs;
use std::io;
use std::time::Instant;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two cores of a measurement: one for what is measured, one for the load.
///
/// They are the first two that this process may use; the same one twice where there is only one.
pub(crate) fn cores() -> io::Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let first = usable.next().unwrap_or(0);
    Ok((first, usable.next().unwrap_or(first)))
}

/// Keeps this process, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the soft limit of descriptors to the hard one: 1024 connections want more than 1024.
pub(crate) fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Refused only where it was not needed; a shortage shows as EMFILE.
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
}

/// What the scheduler says of a process and of its children that still run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// CPU time, in nanoseconds.
    pub(crate) running: u64,
    /// Time ready to run while another had the core, in nanoseconds.
    pub(crate) waiting: u64,
}

/// What a process has spent until now.
///
/// The kernel counts exactly when a thread goes to sleep and otherwise at clock ticks, so ask while
/// the process sleeps. Threads that have ended are not counted, so what is measured must keep its own.
pub(crate) fn spent_by(process: u32) -> io::Result<Spent> {
    let mut sum = Spent::default();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        let text = match fs::read_to_string(task.join("schedstat")) {
            Ok(text) => text,
            // The thread ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut fields = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        sum.running += fields.next().unwrap_or(0);
        sum.waiting += fields.next().unwrap_or(0);
        // Absent in kernels built without it; then only the process itself counts.
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
            let child = spent_by(child).unwrap_or_default();
            sum.running += child.running;
            sum.waiting += child.waiting;
        }
    }
    Ok(sum)
}

/// A measured stretch of two processes, each on its core.
#[derive(Debug)]
pub(crate) struct Stretch {
    process: u32,
    started: Instant,
    measured: Spent,
    own: Spent,
}

impl Stretch {
    /// Begins; `process` sleeps now.
    pub(crate) fn begin(process: u32) -> io::Result<Stretch> {
        let (measured, own) = (spent_by(process)?, spent_by(std::process::id())?);
        Ok(Stretch { process, started: Instant::now(), measured, own })
    }

    /// Ends, while `process` sleeps again: its CPU time in nanoseconds, and the part of the wall
    /// time that it or this process had to wait for others on its core.
    pub(crate) fn end(&self) -> io::Result<(u64, f64)> {
        let wall = self.started.elapsed().as_nanos() as f64;
        let (measured, own) = (spent_by(self.process)?, spent_by(std::process::id())?);
        // This process may have ended a thread of its own meanwhile.
        let waited = (measured.waiting - self.measured.waiting)
            + own.waiting.saturating_sub(self.own.waiting);
        Ok((measured.running - self.measured.running, waited as f64 / wall))
    }
}

/// A sample is taken again if more of its time than this was spent waiting for others.
const DISTURBED: f64 = 0.04;
const TRIES: usize = 4;

/// Repeats a sample that other work on the machine has disturbed, and keeps the quietest.
///
/// `take` returns a sample and the part of its time that was spent waiting.
pub(crate) fn quietest<T, E>(mut take: impl FnMut() -> Result<(T, f64), E>) -> Result<T, E> {
    let (mut best, mut least) = take()?;
    for _ in 1..TRIES {
        if least <= DISTURBED {
            break;
        }
        let (sample, waited) = take()?;
        if waited < least {
            (best, least) = (sample, waited);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn work_of_another_process_is_counted() {
        let mut child = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let spent = spent_by(child.id()).unwrap().running;
        // Closing its input ends the child.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(line, "done\n");
        assert!(spent > 1_000_000, "{spent} ns for 100000 rounds of a shell");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(spent_by(u32::MAX).is_err());
    }

    #[test]
    fn a_disturbed_sample_is_taken_again_and_the_quietest_kept() {
        let mut waits = [0.5, 0.3, 0.01, 0.0].into_iter();
        let mut count = 0;
        let kept = quietest(|| {
            count += 1;
            Ok::<_, ()>((count, waits.next().unwrap_or(0.0)))
        });
        assert_eq!(kept, Ok(3));
        let mut waits = [0.3, 0.5, 0.2, 0.4].into_iter();
        assert_eq!(quietest(|| waits.next().map(|w| (w, w)).ok_or("a fifth try")), Ok(0.2));
    }
}
