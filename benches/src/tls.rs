use crate::echo::{Cell, head, row};
use crate::options::{Failure, Options};
use crate::servers;
use crate::table::{self, Table};

pub(crate) const OPTIONS: &[&str] = &["loads", "pairs", "seconds", "servers", "write"];

/// One row: an echo load, or connections that are made, echo one byte and go.
#[derive(Clone, Copy)]
enum Row {
    Echo(Cell),
    Handshakes { resumed: bool },
}

/// `tls`: CPU time per request, or per connection, of each server.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let loads: Vec<String> = options.list("loads", "64x1024,16x65536,full,resumed")?;
    let pairs: usize = options.value("pairs", 11)?;
    let seconds: f64 = options.value("seconds", 0.25)?;
    let all = servers::TLS_NAMES.join(",");
    let names: Vec<String> = options.list("servers", &all)?;
    if let Some(unknown) = names.iter().find(|name| !servers::TLS_NAMES.contains(&name.as_str())) {
        return Err(Failure::usage(format!("there is no server {unknown:?}: {all}")));
    }
    if pairs == 0 {
        return Err(Failure::usage("--pairs is above 0"));
    }
    let rows: Result<Vec<Row>, Failure> = loads.iter().map(|load| Row::parse(load)).collect();
    let mut table = Table::new(head("load", &names));
    for load in rows? {
        eprint!("tls {}:", load.name());
        let mut samples = vec![Vec::with_capacity(pairs); names.len()];
        for round in 0..pairs {
            eprint!(" {}", round + 1);
            for place in 0..names.len() {
                let index = (place + round) % names.len();
                samples[index].push(load.sample(&names[index], seconds)?);
            }
        }
        eprintln!();
        table.push(row(load.name(), &names, &samples));
    }
    let command = format!(
        "make bench BENCH_ARGS=\"tls --loads {} --pairs {pairs} --seconds {seconds}\"",
        loads.join(",")
    );
    let text = format!("{}\n{}\n", table.markdown(), table::provenance(&command));
    println!("\n{text}");
    match options.text("write", "") {
        "" => Ok(()),
        path => table::write_between(path, "tls", &text),
    }
}

impl Row {
    fn parse(text: &str) -> Result<Row, Failure> {
        let wrong = || Failure::usage(format!("{text:?} is no load, such as 64x1024 or full"));
        match text {
            "full" => Ok(Row::Handshakes { resumed: false }),
            "resumed" => Ok(Row::Handshakes { resumed: true }),
            _ => {
                let (n, size) = text.split_once('x').ok_or_else(wrong)?;
                let n = n.parse().map_err(|_| wrong())?;
                Ok(Row::Echo(Cell { n, size: size.parse().map_err(|_| wrong())? }))
            }
        }
    }

    fn name(self) -> String {
        match self {
            Row::Echo(cell) => cell.name(),
            Row::Handshakes { resumed: false } => "a connection, full handshake".to_owned(),
            Row::Handshakes { resumed: true } => "a connection, resumed session".to_owned(),
        }
    }

    fn sample(self, name: &str, seconds: f64) -> Result<f64, Failure> {
        let one = Cell { n: 1, size: 1 };
        let sample = match self {
            Row::Echo(cell) => cell.sample_with(name, &[], seconds, &["--protocol", "tls"]),
            Row::Handshakes { resumed: false } => {
                one.sample_with(name, &[], seconds, &["--protocol", "tls-full"])
            }
            Row::Handshakes { resumed: true } => {
                one.sample_with(name, &[], seconds, &["--protocol", "tls-resumed"])
            }
        };
        Ok(sample?.nanoseconds())
    }
}
