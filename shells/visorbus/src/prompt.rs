//! Secrets that are typed or piped in: never an argument, never shown, wiped when they are not needed any more.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write, stdin};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use visorbus_auth::Secret;
use visorbus_hub::{Error, Result};
use zeroize::Zeroizing;

use crate::interrupt;

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

/// A terminal that does not show what is typed, until this is dropped or a signal ends the process.
struct Silence;

impl Silence {
    fn begin(terminal: &File) -> Result<Self> {
        let failed = |e: io::Error| Error::Message(format!("cannot silence the terminal: {e}"));
        interrupt::leave_tidy()?;
        let before = tcgetattr(terminal).map_err(|e| failed(e.into()))?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        *silenced() = Some((terminal.try_clone().map_err(failed)?, before));
        let silence = Self;
        // Nothing is thrown away: whoever knows what is asked may type ahead.
        tcsetattr(terminal, OptionalActions::Drain, &silent).map_err(|e| failed(e.into()))?;
        Ok(silence)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        show();
    }
}

/// Has the terminal show again what is typed, where it does not: for whoever ends the process too. Whether it did not.
pub(crate) fn show() -> bool {
    // Nobody should be left with a terminal that does not show what is typed.
    let Some((terminal, before)) = silenced().take() else { return false };
    // It may have gone meanwhile.
    let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    true
}

/// The terminal that does not show what is typed, and how it was before.
fn silenced() -> MutexGuard<'static, Option<(File, Termios)>> {
    static SILENCED: Mutex<Option<(File, Termios)>> = Mutex::new(None);
    SILENCED.lock().unwrap_or_else(PoisonError::into_inner)
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
