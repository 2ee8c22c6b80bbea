use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::cpu;
use crate::echo::comparisons;
use crate::options::{Failure, Options};
use crate::program::{Program, own_command, spawn_with_input};
use crate::relays;
use crate::statistics::{median, ratio, spread};
use crate::table::{self, Table};

pub(crate) const OPTIONS: &[&str] = &["mib", "pairs", "relays", "write"];

/// `relay`: CPU time per GiB carried one way through one connection.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let mib: u64 = options.value("mib", 1024)?;
    let pairs: usize = options.value("pairs", 11)?;
    let mut names: Vec<String> = options.list("relays", &relays::NAMES.join(","))?;
    if let Some(unknown) = names.iter().find(|name| !relays::NAMES.contains(&name.as_str())) {
        let known = relays::NAMES.join(", ");
        return Err(Failure::usage(format!("there is no relay {unknown:?}: {known}")));
    }
    if pairs == 0 || mib == 0 {
        return Err(Failure::usage("--pairs and --mib are above 0"));
    }
    if names.iter().any(|name| name == "socat") && !socat_exists() {
        eprintln!("socat is not installed: left out");
        names.retain(|name| name != "socat");
    }
    if names.is_empty() {
        return Err(Failure::run("there is nothing to measure"));
    }

    eprint!("relay:");
    let mut samples = vec![Vec::with_capacity(pairs); names.len()];
    for round in 0..pairs {
        eprint!(" {}", round + 1);
        for place in 0..names.len() {
            let index = (place + round) % names.len();
            samples[index].push(sample(&names[index], mib)?);
        }
    }
    eprintln!();

    let mut head = vec!["relay".to_owned(), "CPU ms per GiB".to_owned()];
    head.push(format!("against {}", names[0]));
    let mut table = Table::new(head);
    for (index, name) in names.iter().enumerate() {
        let values = &samples[index];
        let against = match index {
            0 => "1".to_owned(),
            _ => {
                let (low, high) = spread(values, &samples[0]);
                format!("{:.3} ({low:.3} to {high:.3})", ratio(values, &samples[0]))
            }
        };
        table.push(vec![name.clone(), format!("{:.1}", median(values)), against]);
    }
    for (a, b) in comparisons(&names).filter(|&(_, b)| b != 0) {
        let (low, high) = spread(&samples[a], &samples[b]);
        let ratio = ratio(&samples[a], &samples[b]);
        let name = format!("{} / {}", names[a], names[b]);
        table.push(vec![name, String::new(), format!("{ratio:.3} ({low:.3} to {high:.3})")]);
    }
    let command = format!(
        "make bench BENCH_ARGS=\"relay --relays {} --pairs {pairs} --mib {mib}\"",
        names.join(",")
    );
    let text = format!("{}\n{}\n", table.markdown(), table::provenance(&command));
    println!("\n{text}");
    match options.text("write", "") {
        "" => Ok(()),
        path => table::write_between(path, "relay", &text),
    }
}

fn socat_exists() -> bool {
    let quiet =
        Command::new("socat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Milliseconds of CPU per GiB, with a fresh relay and a fresh source and sink.
fn sample(name: &str, mib: u64) -> Result<f64, Failure> {
    let failed = || Failure::run(format!("{name}: the load failed"));
    let (relay_core, load_core) = cpu::cores()?;
    let mut command = own_command(&[])?;
    command
        .args(["bulk", "--mib", &mib.to_string(), "--warmup-mib", &(mib / 16 + 1).to_string()])
        .stdout(Stdio::piped());
    let mut load = spawn_with_input(&mut command, load_core)?;
    let (Some(input), Some(output)) = (load.stdin.take(), load.stdout.take()) else {
        return Err(failed());
    };
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let target: Option<SocketAddr> =
        line.strip_prefix("target ").and_then(|text| text.trim().parse().ok());
    let target = target.ok_or_else(failed)?;

    let relay = match name {
        "socat" => Program::socat(target, relay_core)?,
        own => Program::own(&[], &["serve-relay", own, &target.to_string()], relay_core)?,
    };
    let mut input = input;
    writeln!(input, "{} {}", relay.address, relay.process)?;
    drop(input);
    line.clear();
    output.read_to_string(&mut line)?;
    let status = load.wait()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let milliseconds = match words.as_slice() {
        ["bytes", bytes, "cpu_ns", cpu, ..] => bytes
            .parse::<f64>()
            .and_then(|bytes| Ok(cpu.parse::<f64>()? / 1e6 / (bytes / f64::from(1 << 30))))
            .ok(),
        _ => None,
    };
    milliseconds.filter(|_| status.success()).ok_or_else(failed)
}
