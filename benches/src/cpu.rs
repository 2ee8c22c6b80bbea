use std::fs;
use std::io;

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

/// 1024 connections want more than 1024 descriptors.
pub(crate) fn raise_descriptor_limit() {
    // Refused only where it was not needed; a shortage shows as EMFILE.
    let _ = tepal::raise_descriptor_limit();
}

/// CPU time of a process and of its children that still run, in nanoseconds.
///
/// The kernel counts exactly when a thread goes to sleep and otherwise at clock ticks, so ask while
/// the process sleeps. Threads that have ended are not counted, so what is measured must keep its own.
pub(crate) fn time_of(process: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        let field = |text: String| text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        sum += match fs::read_to_string(task.join("schedstat")) {
            Ok(text) => field(text).unwrap_or(0),
            // The thread ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Absent in kernels built without it; then only the process itself counts.
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
            sum += time_of(child).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Memory that is the process's own, in bytes: what would come back if it ended.
pub(crate) fn memory_of(process: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = |line: &str| line.split_whitespace().nth(1).and_then(|w| w.parse::<u64>().ok());
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    Ok(private.filter_map(kilobytes).sum::<u64>() * 1024)
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
        let spent = time_of(child.id()).unwrap();
        // Closing its input ends the child.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(line, "done\n");
        assert!(spent > 1_000_000, "{spent} ns for 100000 rounds of a shell");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(time_of(u32::MAX).is_err());
    }
}
