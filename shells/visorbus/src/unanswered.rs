//! Why a hub that has its socket does not answer, as far as that can be seen from outside: by the process that listens there
//! and what the system tells of its threads (proc_pid_task(5)).

use std::fs;
use std::path::Path;

use visorbus_hub::HELD_UP_BY;
use visorbus_unix::listening_process;

/// What is so, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) what: String,
    pub(crate) mend: String,
}

impl Unanswered {
    /// Looks at who listens at `socket`.
    pub(crate) fn at(socket: &Path) -> Self {
        let shown = socket.display();
        let Some(pid) = listening_process(socket) else {
            let what = format!("whoever listens at {shown} does not answer");
            return Self { what, mend: format!("`fuser -v {shown}` names the process") };
        };
        let threads = threads(pid);
        if !threads.iter().any(Thread::is_hub_s) {
            return Self {
                what: format!("nobody answers at {shown}, which process {pid} has opened"),
                mend: "where that is systemd, `systemctl status visorbus` says why; else its log".to_owned(),
            };
        }
        Self::of(pid, &threads)
    }

    fn of(pid: u32, threads: &[Thread]) -> Self {
        let held = threads.iter().find_map(|thread| thread.name.strip_prefix(HELD_UP_BY));
        let hub = threads.iter().find(|thread| thread.name == HUB_THREAD);
        let end = || format!("`kill {pid}` ends it; if that does not, `kill -KILL {pid}` does");
        let (does, mend) = match (held, hub.map(|hub| hub.state)) {
            (_, Some('T' | 't')) => {
                ("it is stopped".to_owned(), format!("`kill -CONT {pid}` has it go on; {}", end()))
            }
            (Some(name), _) => (
                format!("a handler of its program that runs inline does not return: '{name}'"),
                format!("its log names it too; {}", end()),
            ),
            (None, Some('R')) => ("its hub works without an end".to_owned(), end()),
            (None, Some('D')) => {
                ("its hub waits for a device, or a disk, that does not answer".to_owned(), end())
            }
            (None, _) => ("its log may say why".to_owned(), end()),
        };
        Self { what: format!("the hub of process {pid} does not answer: {does}"), mend }
    }
}

/// A thread of another process.
struct Thread {
    /// As far as the system keeps it: 15 bytes.
    name: String,
    /// `R` runs, `S` and `D` wait, `T` and `t` are stopped.
    state: char,
}

impl Thread {
    fn is_hub_s(&self) -> bool {
        self.name == HUB_THREAD || self.name.starts_with(HELD_UP_BY)
    }
}

/// The threads of a process; none where it is gone or hidden.
fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| read(&stat)).collect()
}

/// `ID (NAME) STATE …` of proc_pid_stat(5); there may be any bytes in the name.
fn read(stat: &str) -> Option<Thread> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(begin + 1..end)?.to_owned();
    Some(Thread { name, state: stat.get(end + 1..)?.trim_start().chars().next()? })
}

/// As the manager calls it.
const HUB_THREAD: &str = "visorbus-hub";

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(stat: &str) -> Thread {
        read(stat).unwrap()
    }

    #[test]
    fn a_thread_is_read_whatever_it_is_called() {
        let odd = thread("71 (a) R (b) S 1 71 71 0 -1");
        assert_eq!((odd.name.as_str(), odd.state), ("a) R (b", 'S'));
        for broken in ["", "71", "71 (", "71 (a", "71 )a( S", "71 (a)"] {
            assert!(read(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn what_is_seen_is_said() {
        let said = |stats: &[&str]| {
            Unanswered::of(7, &stats.iter().map(|stat| thread(stat)).collect::<Vec<_>>()).what
        };
        let held = said(&["7 (visorbus) S", "8 (visorbus-hub) S", "9 (held:lamp) S"]);
        assert!(held.ends_with("does not return: 'lamp'"), "{held}");
        assert!(said(&["8 (visorbus-hub) T", "9 (held:lamp) T"]).ends_with("it is stopped"));
        assert!(said(&["8 (visorbus-hub) R"]).ends_with("works without an end"));
        assert!(said(&["8 (visorbus-hub) D"]).contains("device"));
        assert!(said(&[]).ends_with("its log may say why"));
    }
}
