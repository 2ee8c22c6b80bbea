use std::io::{BufRead, Read, Write, stdin};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::cpu;
use crate::options::{Failure, Options};

pub(crate) const OPTIONS: &[&str] = &["mib", "warmup-mib"];

/// A relay that carries nothing for this long is broken.
const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK: usize = 256 << 10;

/// `bulk`: listens as the target of a relay and says so (`target ADDRESS`), reads from standard
/// input where the relay is (`ADDRESS PID`), sends through it, and prints one line:
/// `bytes N cpu_ns N wall_ns N`.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let bytes = options.value("mib", 1024_u64)? << 20;
    let warmup = options.value("warmup-mib", 64_u64)? << 20;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("target {}", listener.local_addr()?);

    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let (address, process) = relay_of(&line)
        .ok_or_else(|| Failure::run(format!("expected ADDRESS PID, not {line:?}")))?;
    let mut source = TcpStream::connect(address)?;
    source.set_write_timeout(Some(PATIENCE))?;
    let (mut sink, _) = listener.accept()?;
    sink.set_read_timeout(Some(PATIENCE))?;

    // Each part ends when the last byte has come, so that the relay sleeps when its clock is read.
    carry(&mut source, &mut sink, warmup)?;
    let (cpu, started) = (cpu::time_of(process)?, Instant::now());
    carry(&mut source, &mut sink, bytes)?;
    let wall = started.elapsed();
    let cpu = cpu::time_of(process)? - cpu;
    println!("bytes {bytes} cpu_ns {cpu} wall_ns {}", wall.as_nanos());
    Ok(())
}

fn relay_of(line: &str) -> Option<(SocketAddr, u32)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Sends `count` bytes on one socket while it reads as many from the other.
fn carry(source: &mut TcpStream, sink: &mut TcpStream, count: u64) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> std::io::Result<()> {
            let chunk = vec![0x5a; CHUNK];
            let mut left = count;
            while left > 0 {
                let now = left.min(CHUNK as u64) as usize;
                source.write_all(&chunk[..now])?;
                left -= now as u64;
            }
            Ok(())
        });
        let mut buffer = vec![0; CHUNK];
        let mut left = count;
        while left > 0 {
            let most = left.min(CHUNK as u64) as usize;
            match sink.read(&mut buffer[..most])? {
                0 => return Err(Failure::run("the relay closed the connection")),
                read => left -= read as u64,
            }
        }
        match writer.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(Failure::run("the writer panicked")),
        }
    })
}
