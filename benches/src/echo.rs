use std::process::Stdio;

use crate::cpu;
use crate::options::{Failure, Options};
use crate::program::{Program, own_command, spawn};
use crate::servers;
use crate::statistics::{median, ratio, spread};
use crate::syscalls;
use crate::table::{self, Table};

pub(crate) const OPTIONS: &[&str] =
    &["connections", "sizes", "pairs", "seconds", "servers", "write", "syscalls!"];

/// `echo`: CPU time per request of each server, for each count of connections and size of message.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let connections: Vec<usize> = options.list("connections", "64,1024")?;
    let sizes: Vec<usize> = options.list("sizes", "64,1024,16384,65536")?;
    let pairs: usize = options.value("pairs", 11)?;
    let seconds: f64 = options.value("seconds", 0.25)?;
    let names: Vec<String> = options.list("servers", servers::DEFAULT)?;
    if let Some(unknown) = names.iter().find(|name| !servers::NAMES.contains(&name.as_str())) {
        let known = servers::NAMES.join(", ");
        return Err(Failure::usage(format!("there is no server {unknown:?}: {known}")));
    }
    if pairs == 0 {
        return Err(Failure::usage("--pairs is above 0"));
    }
    let cells = connections.iter().flat_map(|&n| sizes.iter().map(move |&size| Cell { n, size }));

    if options.flag("syscalls") {
        return syscalls::run(&names, cells, seconds);
    }

    let mut table = Table::new(head("connections x message", &names));
    for cell in cells {
        eprint!("echo {}:", cell.name());
        // samples[server][round]
        let mut samples = vec![Vec::with_capacity(pairs); names.len()];
        for round in 0..pairs {
            eprint!(" {}", round + 1);
            // Each round begins with another server, so that no place in it is always the same one's.
            for place in 0..names.len() {
                let index = (place + round) % names.len();
                samples[index].push(cell.sample(&names[index], &[], seconds)?.nanoseconds());
            }
        }
        eprintln!();
        table.push(row(cell.name(), &names, &samples));
    }

    let command = format!(
        "make bench BENCH_ARGS=\"echo --servers {} --pairs {pairs} --seconds {seconds}\"",
        names.join(",")
    );
    let text = format!("{}\n{}\n", table.markdown(), table::provenance(&command));
    println!("\n{text}");
    match options.text("write", "") {
        "" => Ok(()),
        path => table::write_between(path, "echo", &text),
    }
}

pub(crate) fn head(what: &str, names: &[String]) -> Vec<String> {
    let mut head = vec![what.to_owned()];
    head.extend(names.iter().map(|name| format!("{name}, us")));
    head.extend(comparisons(names).map(|(a, b)| format!("{} / {}", names[a], names[b])));
    head
}

pub(crate) fn row(name: String, names: &[String], samples: &[Vec<f64>]) -> Vec<String> {
    let mut row = vec![name];
    row.extend(samples.iter().map(|values| format!("{:.2}", median(values) / 1000.0)));
    row.extend(comparisons(names).map(|(a, b)| {
        let (low, high) = spread(&samples[a], &samples[b]);
        format!("{:.3} ({low:.3} to {high:.3})", ratio(&samples[a], &samples[b]))
    }));
    row
}

/// Each against the first, and the last against those between.
pub(crate) fn comparisons(names: &[String]) -> impl Iterator<Item = (usize, usize)> {
    let last = names.len() - 1;
    (1..names.len()).map(|index| (index, 0)).chain((1..last).map(move |index| (last, index)))
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) n: usize,
    pub(crate) size: usize,
}

/// What one sample gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    requests: u64,
    cpu: u64,
    /// Requests of the sample, warm-up included.
    pub(crate) total: u64,
}

impl Sample {
    pub(crate) fn nanoseconds(self) -> f64 {
        self.cpu as f64 / self.requests as f64
    }

    fn parse(line: &str) -> Option<Sample> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let field = |name| {
            let at = words.iter().position(|&word| word == name)?;
            words.get(at + 1)?.parse().ok()
        };
        let sample =
            Sample { requests: field("requests")?, cpu: field("cpu_ns")?, total: field("total")? };
        (sample.requests > 0).then_some(sample)
    }
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        match self.size {
            size if size % 1024 == 0 => format!("{} x {} KiB", self.n, size / 1024),
            size => format!("{} x {size} B", self.n),
        }
    }

    /// A fresh server on one core, behind `wrapper`, and a fresh load on the other.
    pub(crate) fn sample(
        &self,
        name: &str,
        wrapper: &[&str],
        seconds: f64,
    ) -> Result<Sample, Failure> {
        self.sample_with(name, wrapper, seconds, &[])
    }

    /// The same, with more options of the load.
    pub(crate) fn sample_with(
        &self,
        name: &str,
        wrapper: &[&str],
        seconds: f64,
        options: &[&str],
    ) -> Result<Sample, Failure> {
        let (server_core, load_core) = cpu::cores()?;
        let server = Program::own(wrapper, &["serve", name], server_core)?;
        let mut command = own_command(&[])?;
        command
            .args(["load", &server.address.to_string(), &server.process.to_string()])
            .args(["--connections", &self.n.to_string(), "--size", &self.size.to_string()])
            .args(["--seconds", &seconds.to_string()])
            .args(["--warmup", &(seconds / 5.0).to_string()])
            .args(options)
            .stdout(Stdio::piped());
        let output = spawn(&mut command, load_core)?.wait_with_output()?;
        let line = String::from_utf8_lossy(&output.stdout);
        Sample::parse(&line)
            .filter(|_| output.status.success())
            .ok_or_else(|| Failure::run(format!("{name}, {}: the load failed", self.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_from_the_loads_line() {
        let sample = Sample::parse("requests 100 cpu_ns 5000 wall_ns 9 total 120\n").unwrap();
        assert_eq!((sample.nanoseconds(), sample.total), (50.0, 120));
        assert!(Sample::parse("requests 0 cpu_ns 5000 wall_ns 9 total 120").is_none());
        assert!(Sample::parse("requests 5 cpu_ns").is_none());
    }

    #[test]
    fn each_is_compared_with_the_first_and_the_last_with_the_others() {
        let names: Vec<String> = ["bare", "tokio", "tepal"].map(str::to_owned).into();
        let pairs: Vec<_> = comparisons(&names).collect();
        assert_eq!(pairs, [(1, 0), (2, 0), (2, 1)]);
        assert_eq!(comparisons(&names[..1]).count(), 0);
    }
}
