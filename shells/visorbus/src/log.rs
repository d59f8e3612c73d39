//! The log of a program: lines for people, JSON, or entries of systemd's journal; how much, in which form and where to may
//! change while it runs. Knows nothing of what is logged.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};
use visorbus_hub::{Error, Result};

use crate::settings::{LogFormat, LogLevel, LogOutput, LogSettings};

/// The log of this process. Cloning it is cheap.
#[derive(Clone)]
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    output: reload::Handle<Output, Filtered>,
}

impl Log {
    /// Has everything in this process logged as `settings` say, from now on.
    ///
    /// # Errors
    /// `Internal` when the log cannot be written, or the process has one already.
    pub fn start(settings: &LogSettings) -> Result<Self> {
        let (level, level_handle) = reload::Layer::new(level(settings.level));
        let (output, output_handle) = reload::Layer::new(output(settings)?);
        let started = tracing_subscriber::registry().with(level).with(output).try_init();
        started.map_err(|e| Error::Internal(format!("this process has a log already: {e}")))?;
        Ok(Self { level: level_handle, output: output_handle })
    }

    /// Logs as `settings` say from now on; a file is opened again, so that one that was moved away is let go.
    ///
    /// # Errors
    /// `Internal` when the log could not be written so: then all stays as it was.
    pub fn apply(&self, settings: &LogSettings) -> Result<()> {
        let gone = |e: reload::Error| Error::Internal(format!("the log is gone: {e}"));
        self.output.reload(output(settings)?).map_err(gone)?;
        self.level.reload(level(settings.level)).map_err(gone)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

/// How much a line on standard error matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something failed.
    Error,
    /// Somebody should look at it.
    Warning,
    /// It is as it should be.
    Notice,
}

/// Writes `text` to standard error, `visorbus: ` before each of its lines. Where that goes to systemd's journal, `severity`
/// becomes the priority of the entry (sd-daemon(3)), so that `journalctl --priority warning` finds it.
pub fn say(severity: Severity, text: &str) {
    let prefix = if is_journals() { severity.prefix() } else { "" };
    for line in text.lines() {
        eprintln!("{prefix}visorbus: {line}");
    }
}

impl Severity {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Notice => "<5>",
        }
    }
}

/// What the level has let through.
type Filtered = Layered<reload::Layer<LevelFilter, Registry>, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

const fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn output(settings: &LogSettings) -> Result<Output> {
    let format = match settings.format {
        LogFormat::Auto if settings.output == LogOutput::Stderr && is_journals() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Text,
        other => other,
    };
    match (format, &settings.output) {
        (LogFormat::Journald, _) => journal(),
        (LogFormat::Json, LogOutput::Stderr) => Ok(json(io::stderr)),
        (LogFormat::Json, LogOutput::Stdout) => Ok(json(io::stdout)),
        (LogFormat::Json, LogOutput::File(path)) => Ok(json(open(path)?)),
        // Whoever reads these has a clock, or a journal that writes the time itself.
        (_, LogOutput::Stderr) => Ok(text(io::stderr, io::stderr().is_terminal()).without_time().boxed()),
        (_, LogOutput::Stdout) => Ok(text(io::stdout, io::stdout().is_terminal()).without_time().boxed()),
        (_, LogOutput::File(path)) => Ok(text(open(path)?, false).boxed()),
    }
}

fn text<W>(writer: W, ansi: bool) -> fmt::Layer<Filtered, fmt::format::DefaultFields, fmt::format::Format, W>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false)
}

fn json<W>(writer: W) -> Output
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    fmt::layer().with_writer(writer).json().flatten_event(true).boxed()
}

fn journal() -> Result<Output> {
    let layer = tracing_journald::layer().map_err(|e| {
        Error::Internal(format!("there is no journal to log to ({e}): set log.format to text or json"))
    })?;
    Ok(layer.with_syslog_identifier("visorbus".to_owned()).boxed())
}

/// Opens the file of the log at its end. A link in its place is not followed.
fn open(path: &Path) -> Result<Arc<File>> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let opened = options.open(path);
    opened
        .map(Arc::new)
        .map_err(|e| Error::Internal(format!("the log '{}' cannot be written: {e}", path.display())))
}

/// Whether standard error goes to the journal (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journals() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(found) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    stream == format!("{}:{}", found.st_dev, found.st_ino)
}
