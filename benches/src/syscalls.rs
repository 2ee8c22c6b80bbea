use std::fs;

use crate::echo::Cell;
use crate::options::Failure;
use crate::table::Table;

/// Less than this per request belongs to the start and end of a program.
const NOTABLE: f64 = 0.005;

/// Runs each server under `strace -c` and prints its system calls per request.
///
/// The waits are not comparable with an untraced run: a traced server is slow, so that more is ready
/// at each of its waits.
pub(crate) fn run(
    names: &[String],
    cells: impl Iterator<Item = Cell>,
    seconds: f64,
) -> Result<(), Failure> {
    let report = std::env::temp_dir().join(format!("tepal-bench-{}.strace", std::process::id()));
    let path = report.to_string_lossy();
    let mut table =
        Table::new(["load", "server", "requests", "calls per request"].map(str::to_owned).into());
    for cell in cells {
        for name in names {
            let sample = cell.sample(name, &["strace", "-f", "-c", "-o", &path], seconds)?;
            let mut calls: Vec<(f64, String)> = parse(&fs::read_to_string(&report)?)
                .map(|(name, count)| (count as f64 / sample.total as f64, name))
                .filter(|(rate, name)| *rate >= NOTABLE || name == "epoll_ctl")
                .collect();
            calls.sort_by(|a, b| b.0.total_cmp(&a.0));
            let calls: Vec<_> =
                calls.iter().map(|(rate, name)| format!("{name} {rate:.3}")).collect();
            let row = [cell.name(), name.clone(), sample.total.to_string(), calls.join(", ")];
            table.push(row.into());
        }
    }
    // A file of ours that nobody waits for.
    let _ = fs::remove_file(&report);
    println!("{}", table.markdown());
    Ok(())
}

/// Names and counts of a summary of `strace -c`:
/// `% time  seconds  usecs/call  calls  errors  syscall`, where errors may be blank.
fn parse(summary: &str) -> impl Iterator<Item = (String, u64)> {
    summary.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last()?;
        words.first()?.parse::<f64>().ok()?;
        let count = words.get(3)?.parse().ok()?;
        (*name != "total").then(|| ((*name).to_owned(), count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.030000           1     30000           sendto
 40.00    0.020000           1     30010        10 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.050000           1     60010        10 total
";
        let calls: Vec<_> = parse(summary).collect();
        assert_eq!(calls, [("sendto".to_owned(), 30000), ("recvfrom".to_owned(), 30010)]);
    }
}
