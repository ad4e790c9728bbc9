//! The thin binary: what it can do is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lastword::cli::run()
}
