//! Secrets that are typed or piped in: never an argument, never shown, wiped when they are not needed any more.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write, stdin};
use std::os::fd::AsFd;
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use visorbus_auth::Secret;
use visorbus_hub::{Error, Result};
use zeroize::Zeroizing;

/// The password of `user`: from the first line of standard input, or asked for on the terminal.
pub(crate) fn password(user: &str, from_stdin: bool) -> Result<Secret> {
    if from_stdin {
        return line_of_stdin("password");
    }
    Terminal::open()?.ask(&format!("Password of {user}: "))
}

/// A new password of `user`: from standard input, or asked for twice.
pub(crate) fn new_password(user: &str, from_stdin: bool) -> Result<Secret> {
    if from_stdin {
        return line_of_stdin("password");
    }
    let mut terminal = Terminal::open()?;
    let first = terminal.ask(&format!("New password of {user}: "))?;
    let again = terminal.ask("Once more: ")?;
    if first == again {
        return Ok(first);
    }
    Err(Error::Message("the two passwords differ: nothing has changed, try again".to_owned()))
}

/// The first line of standard input.
pub(crate) fn line_of_stdin(what: &str) -> Result<Secret> {
    // Not the buffered one, which keeps what went through it.
    let line = stdin().as_fd().try_clone_to_owned().and_then(|fd| read_line(&mut File::from(fd)));
    let line =
        line.map_err(|e| Error::Message(format!("cannot read the {what} from standard input: {e}")))?;
    if line.is_empty() {
        return Err(Error::Message(format!(
            "standard input holds no {what}: it is expected in its first line"
        )));
    }
    Ok(Secret::new(line.as_str()))
}

/// The controlling terminal, whatever the standard streams are.
struct Terminal(File);

impl Terminal {
    fn open() -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
        opened.map(Self).map_err(|_| {
            Error::Message(
                "there is no terminal to ask for the password on: pipe it in, with --password-stdin"
                    .to_owned(),
            )
        })
    }

    /// What is typed after `question`, unseen.
    fn ask(&mut self, question: &str) -> Result<Secret> {
        let failed = |e: io::Error| Error::Message(format!("cannot ask on the terminal: {e}"));
        let terminal = self.0.try_clone().map_err(failed)?;
        let _silence = Silence::begin(&terminal)?;
        self.0.write_all(question.as_bytes()).map_err(failed)?;
        let line = read_line(&mut self.0).map_err(failed)?;
        self.0.write_all(b"\n").map_err(failed)?;
        Ok(Secret::new(line.as_str()))
    }
}

/// A terminal that does not show what is typed, until this is dropped or Ctrl-C ends the process.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
    signals: nix::sys::signal::SigSet,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> Result<Self> {
        let failed = |e: rustix::io::Errno| Error::Message(format!("cannot silence the terminal: {e}"));
        let before = tcgetattr(terminal).map_err(failed)?;
        let signals = crate::interrupt::block()?;
        let silence = Self { terminal, before, signals };
        silence.restore_on_signal()?;
        let mut silent = silence.before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // Nothing is thrown away: whoever knows what is asked may type ahead.
        tcsetattr(terminal, OptionalActions::Drain, &silent).map_err(failed)?;
        Ok(silence)
    }

    /// Nobody should be left with a terminal that does not show what is typed.
    fn restore_on_signal(&self) -> Result<()> {
        let failed = |e: io::Error| Error::Message(format!("cannot watch for Ctrl-C: {e}"));
        let (terminal, before) = (self.terminal.try_clone().map_err(failed)?, self.before.clone());
        let signals = self.signals;
        thread::Builder::new()
            .spawn(move || {
                if signals.wait().is_ok() {
                    let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
                    std::process::exit(crate::output::INTERRUPTED.into());
                }
            })
            .map_err(failed)?;
        Ok(())
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // The terminal may have gone meanwhile.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
        let _ = self.signals.thread_unblock();
    }
}

/// The next line, without its end, byte by byte so that nothing of it stays anywhere else.
fn read_line(from: &mut impl Read) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut byte = Zeroizing::new([0]);
    while bytes.len() < MAX_LINE && from.read(&mut *byte)? == 1 && *byte != *b"\n" {
        bytes.push(byte[0]);
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "this is no UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Longer than any password or key.
const MAX_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_its_end_and_no_further() {
        let mut text = &b"open sesame \r\nsecond\n"[..];
        assert_eq!(&*read_line(&mut text).unwrap(), "open sesame ");
        assert_eq!(&*read_line(&mut text).unwrap(), "second");
        assert_eq!(&*read_line(&mut text).unwrap(), "");
        assert!(read_line(&mut &[0xff, 0xfe, b'\n'][..]).is_err());
        assert_eq!(read_line(&mut &[b'x'; 5000][..]).unwrap().len(), MAX_LINE);
    }
}
