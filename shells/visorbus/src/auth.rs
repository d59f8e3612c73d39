//! `visorbus auth …`: who may come in, and what they may do.

mod token;

use visorbus_hub::Result;

use crate::args;

/// Does what was asked.
pub(crate) fn run(args: &args::Auth, json: bool) -> Result<()> {
    match args {
        args::Auth::Token(args) => token::run(args, json),
    }
}
