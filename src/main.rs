//! Arguments, runtime, exit code; nothing else.

use std::process::ExitCode;

use conversica_sync::cli;

fn main() -> ExitCode {
    let cli = cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system gives no threads to run on: {error}");
            return ExitCode::from(1);
        }
    };
    // On a worker thread, where its wake-ups need no switch to another thread.
    let result = runtime.block_on(runtime.spawn(cli::dispatch(cli))).unwrap_or_else(|panic| Err(panic.into()));
    // Reads and requests under way have been given up already; the process need not wait for them.
    runtime.shutdown_background();
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            let (code, message) = cli::failure(&error);
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}
