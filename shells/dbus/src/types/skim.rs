//! Whether one gets past every argument of a message in little time, before anybody tries: libdbus goes through all that is
//! in a struct or a variant to find its end. Of an array it knows the end.

use dbus::Message;
use dbus::arg::{ArgType, Iter};

use super::{DEPTH_PER_ITEM, MAX_DEPTH, MAX_VARIANTS, Unfit};

/// Looks at all that is in no array.
///
/// # Errors
/// [`Unfit`] for a descriptor there, for variants more than 8 deep, containers more than 32 deep, and more than 4096 values.
pub(crate) fn skim(message: &Message) -> Result<(), Unfit> {
    let mut skim = Skim { room: MAX_OUTSIDE };
    skim.items(&mut message.iter_init(), 0, 0)
}

struct Skim {
    /// Values that may still come.
    room: usize,
}

impl Skim {
    fn items(&mut self, items: &mut Iter<'_>, depth: usize, variants: usize) -> Result<(), Unfit> {
        loop {
            match items.arg_type() {
                ArgType::Invalid => return Ok(()),
                ArgType::UnixFd => return Err(Unfit::Descriptor),
                kind @ (ArgType::Struct | ArgType::Variant) => {
                    self.container(kind, items, depth, variants)?
                }
                _ => {}
            }
            let left = self.room.checked_sub(1 + depth / DEPTH_PER_ITEM);
            self.room = left.ok_or(Unfit::TooMany { max: MAX_OUTSIDE })?;
            items.next();
        }
    }

    fn container(
        &mut self,
        kind: ArgType,
        item: &mut Iter<'_>,
        depth: usize,
        variants: usize,
    ) -> Result<(), Unfit> {
        let variants = variants + usize::from(kind == ArgType::Variant);
        if variants > MAX_VARIANTS {
            return Err(Unfit::VariantsTooDeep { max: MAX_VARIANTS });
        }
        if depth >= MAX_DEPTH {
            return Err(Unfit::TooDeep { max: MAX_DEPTH });
        }
        match item.recurse(kind) {
            Some(mut inner) => self.items(&mut inner, depth + 1, variants),
            None => Ok(()),
        }
    }
}

/// Values that are in no array.
const MAX_OUTSIDE: usize = 4096;
