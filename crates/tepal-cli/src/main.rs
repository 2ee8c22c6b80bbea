//! The command `tepal`; see the crate's documentation.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tepal_cli::run(std::env::args_os().skip(1)))
}
