//! Sends signals to processes that a test started, through the shell's own `kill`: no unsafe code, and no package to
//! install.

use std::process::Command;

#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Interrupt,
    Terminate,
    Hangup,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Hangup => "HUP",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }

    /// A process that has ended in the meantime is no failure.
    pub fn send(self, pid: u32) {
        let script = r#"kill -s "$1" "$2" 2>/dev/null || ! kill -0 "$2" 2>/dev/null"#;
        let status = Command::new("sh").args(["-c", script, "sh", self.name(), &pid.to_string()]).status();
        let status = status.expect("sh is on the path");
        assert!(status.success(), "process {pid} lives and would not take SIG{}", self.name());
    }
}
