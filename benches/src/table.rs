use std::fmt::Write;
use std::fs;

use crate::options::Failure;

/// A Markdown table, with its columns aligned for people.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: Vec<String>) -> Table {
        Table { rows: vec![head] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The first column to the left, the others to the right.
    pub(crate) fn markdown(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0).max(3)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, &width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                // Writing to a String cannot fail.
                let _ = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width);
                    let _ = match column {
                        0 => write!(text, "|-{dashes}-"),
                        _ => write!(text, "|-{dashes}:"),
                    };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// Replaces what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
pub(crate) fn write_between(path: &str, name: &str, content: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(|e| Failure::run(format!("{path}: {e}")))?;
    let text = between(&text, name, content)
        .ok_or_else(|| Failure::run(format!("{path}: no markers bench:{name}")))?;
    Ok(fs::write(path, text)?)
}

fn between(text: &str, name: &str, content: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find(&close)?;
    Some(format!("{}\n\n{}\n\n{}", &text[..start], content.trim(), &text[end..]))
}

/// What a reader needs to judge the figures: machine and command.
pub(crate) fn provenance(command: &str) -> String {
    let kernel = rustix::system::uname();
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "an unnamed processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let release = kernel.release().to_string_lossy().into_owned();
    // The part after the numbers names a build of the kernel, which tells a reader nothing.
    let release = release.split('-').next().unwrap_or_default();
    format!(
        "{} {release}, {cores} cores, {processor}. By `{command}`.",
        kernel.sysname().to_string_lossy(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(vec!["load".into(), "us".into()]);
        table.push(vec!["64 x 1 KiB".into(), "5.10".into()]);
        assert_eq!(
            table.markdown(),
            "| load       |   us |\n|------------|-----:|\n| 64 x 1 KiB | 5.10 |\n"
        );
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = "a\n<!-- bench:echo -->\nold\n<!-- /bench:echo -->\nb";
        let once = between(text, "echo", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- bench:echo -->\n\nnew\n\n<!-- /bench:echo -->\nb");
        assert_eq!(between(&once, "echo", "new").unwrap(), once);
        assert!(between(text, "relay", "new").is_none());
    }
}
