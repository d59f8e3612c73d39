//! `visorbus man`: the manual pages, one for each command, from what `--help` says.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use visorbus_hub::{Error, Result};

use crate::args::{self, Cli};
use crate::output::print;

/// Writes the pages, and says which.
pub(crate) fn run(args: &args::Manual, json: bool) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::Internal(format!(
            "'{}' cannot be written to: {e}; name a directory that is yours",
            args.into.display()
        ))
    };
    fs::create_dir_all(&args.into).map_err(failed)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    write(&command, None, &args.into, &mut written).map_err(failed)?;
    if json {
        return print(&serde_json::json!(written).to_string());
    }
    print(&written.join("\n"))
}

/// Writes the page of a command and those of its own commands; where one belongs to another, it says so at its end.
fn write(
    command: &Command,
    above: Option<&str>,
    into: &Path,
    written: &mut Vec<String>,
) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let own: Vec<&Command> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let mut others: Vec<&str> = own.iter().filter_map(|command| command.get_display_name()).collect();
    others.extend(above);
    let page = Man::new(command.clone()).manual("Visorbus");
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend(see_also(&others).bytes());
    let path = into.join(page.get_filename());
    fs::write(&path, text)?;
    written.push(path.display().to_string());
    own.iter().try_for_each(|command| write(command, Some(name), into, written))
}

/// The last section of a page (man-pages(7)).
fn see_also(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut names: Vec<String> = names.iter().map(|name| name.replace('-', "\\-")).collect();
    names.sort();
    format!(".SH \"SEE ALSO\"\n.BR {} (1)\n", names.join(" (1),\n.BR "))
}
