//! A terminal for the program to write to: the test reads what a person would see.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::binary::Cli;

pub struct Terminal {
    path: String,
    text: Arc<Mutex<Vec<u8>>>,
    /// Kept open, so that the terminal outlives each program on it.
    _inside: File,
}

impl Terminal {
    pub fn open() -> Self {
        let outside: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the system has terminals");
        grantpt(&outside).expect("it is ours");
        unlockpt(&outside).expect("it is ours");
        let path = ptsname(&outside, Vec::new()).expect("it has a name").into_string().expect("in ASCII");
        let inside = File::options().read(true).write(true).open(&path).expect("it can be opened");
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        std::thread::spawn(move || {
            let (mut outside, mut piece) = (File::from(outside), [0; 4096]);
            while let Ok(bytes @ 1..) = outside.read(&mut piece) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..bytes]);
            }
        });
        Self { path, text, _inside: inside }
    }

    /// The program with this terminal for its standard output and error.
    #[must_use]
    pub fn of(&self, cli: Cli) -> Cli {
        cli.launched_by(&format!("exec \"$@\" >{0} 2>{0}", self.path))
    }

    /// The text on the terminal so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).replace("\r\n", "\n")
    }
}
