//! The `visorbus` command: a hub to run, and everything one does to it from a shell.
//!
//! Thin: it reads what was asked, calls the crates that do it, and prints what they say.
#![forbid(unsafe_code)]

mod args;
mod auth;
mod client;
mod commands;
mod complete;
mod config;
mod dbus;
mod demo;
mod doctor;
mod environment;
mod hardware;
mod interrupt;
mod key;
mod manage;
mod manual;
mod monitor;
mod output;
mod place;
mod progress;
mod prompt;
mod reload;
mod serve;
mod table;
mod tls;
mod top;
mod unanswered;
mod websocket;

use std::process::ExitCode;

use clap::Parser;
use visorbus::Log;
use visorbus::settings::{LogLevel, LogSettings};

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    complete::answer_shell();
    let cli = Cli::parse();
    if let Command::Serve(args) = &cli.command {
        // Its configuration says what is logged, and where.
        return finish(&cli, serve::run(args, cli.verbose, cli.json));
    }
    if let Err(error) = start_log(&cli) {
        return finish(&cli, Err(error));
    }
    let done = match &cli.command {
        Command::Auth(args::Auth::Explain(args)) => return finish(&cli, auth::explain(args, cli.json)),
        Command::Serve(_) => Ok(()),
        Command::Status(args) => manage::status(args, cli.json),
        Command::Reload(args) => return finish(&cli, manage::reload(args, cli.json)),
        Command::Shutdown(args) => manage::shutdown(args, cli.json),
        Command::Config(args) => return finish(&cli, config::run(args, cli.json)),
        Command::Call(args) => commands::call(args, cli.json),
        Command::Publish(args) => commands::publish(args, cli.json),
        Command::Subscribe(args) => commands::subscribe(args),
        Command::Services(args) => commands::services(args, cli.json),
        Command::Monitor(args) => return finish(&cli, monitor::run(args, cli.json)),
        Command::Top(args) => top::run(args, cli.json),
        Command::Peers(args) => commands::peers(args, cli.json),
        Command::Hardware(args) => hardware::run(args, cli.json),
        Command::Auth(args) => auth::run(args, cli.json),
        Command::Key(args) => key::run(args, cli.json),
        Command::Tls(args) => tls::run(args, cli.json),
        Command::DBus(args) => dbus::run(args, cli.json),
        Command::Doctor(args) => return finish(&cli, doctor::run(args, cli.json)),
        Command::Completions(args) => complete::print_script(args.shell),
        Command::Manual(args) => manual::run(args, cli.json),
        Command::Demo(args) => demo::run(args, cli.json),
        Command::DemoNode(args) => demo::run_node(args.node),
    };
    finish(&cli, done.map(|()| ExitCode::SUCCESS))
}

/// The exit code; what went wrong is said.
fn finish(cli: &Cli, done: visorbus_hub::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            output::report(&error, cli.json);
            match &cli.command {
                // It is the hub: what it meets is neither a missing one nor a refusal.
                Command::Serve(_) => ExitCode::from(output::FAILED),
                _ => output::exit_code(&error),
            }
        }
    }
}

/// Has the crates' events written to standard error: warnings, with `-v` what happens, with `-vv` everything. The
/// demonstration tells itself what it breaks.
fn start_log(cli: &Cli) -> visorbus_hub::Result<()> {
    let level = match cli.verbose {
        0 if matches!(cli.command, Command::Demo(_)) => LogLevel::Error,
        0 => LogLevel::Warn,
        1 => LogLevel::Info,
        _ => LogLevel::Trace,
    };
    Log::start(&LogSettings::text(level)).map(drop)
}
