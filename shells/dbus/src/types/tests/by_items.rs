//! The same translations in the plainest way, over values that are made: beside it stands every translation that a test asks
//! for, and both must come to the same.

mod from_postcard;
mod to_postcard;

use self::from_postcard::Reader;
use super::*;
use crate::types::form::Form;

/// Both ways, value by value.
#[expect(clippy::wrong_self_convention, reason = "it is of this type that the value is made")]
pub(super) trait ByItems {
    fn to_postcard(&self, arguments: &[MessageItem]) -> Result<Vec<u8>, Misfit>;
    fn value_to_postcard(&self, value: &MessageItem) -> Result<Vec<u8>, Misfit>;
    fn from_postcard(&self, bytes: &[u8]) -> Result<Vec<MessageItem>, Misfit>;
    fn value_from_postcard(&self, bytes: &[u8]) -> Result<MessageItem, Misfit>;
}

impl ByItems for Typed {
    fn to_postcard(&self, arguments: &[MessageItem]) -> Result<Vec<u8>, Misfit> {
        let outcome = plain_to_postcard(self, arguments);
        let mut message = call();
        if append(&mut message, arguments).is_ok() && signature(&message) == self.signature() {
            alike(&outcome, &self.take(&mut carried(&mut message).iter_init()));
        } else {
            assert!(outcome.is_err());
        }
        outcome
    }

    fn value_to_postcard(&self, value: &MessageItem) -> Result<Vec<u8>, Misfit> {
        let mut out = Vec::new();
        let outcome = to_postcard::value(self.form(), value, &mut out).map(|()| out);
        let mut message = call();
        if append(&mut message, &[variant(value.clone())]).is_ok() {
            let message = carried(&mut message);
            let mut content = message.iter_init().recurse(ArgType::Variant).unwrap();
            let fits = *content.signature() == *self.value_signature();
            match (fits || matches!(self.form(), Form::Nothing), self.take_value(&mut content)) {
                (true, taken) => alike(&outcome, &taken),
                // Nobody asks for what has another signature; it does no harm.
                (false, _) => assert!(outcome.is_err()),
            }
        }
        outcome
    }

    fn from_postcard(&self, bytes: &[u8]) -> Result<Vec<MessageItem>, Misfit> {
        let mut reader = Reader::new(bytes);
        let items = match self.form() {
            Form::Nothing => Ok(Vec::new()),
            Form::Struct(fields) => reader.fields(fields),
            form => reader.value(form).map(|value| vec![value]),
        };
        let outcome = items.and_then(|items| reader.end().map(|()| items));
        alike(&outcome, &put_and_read(Piece::Arguments(self, bytes)));
        outcome
    }

    fn value_from_postcard(&self, bytes: &[u8]) -> Result<MessageItem, Misfit> {
        let mut reader = Reader::new(bytes);
        let value = reader.value(self.form());
        let outcome = value.and_then(|value| reader.end().map(|()| value));
        let within = outcome.clone().map(|value| vec![variant(value)]);
        alike(&within, &put_and_read(Piece::Value(self, bytes)));
        outcome
    }
}

fn plain_to_postcard(typed: &Typed, arguments: &[MessageItem]) -> Result<Vec<u8>, Misfit> {
    let wrong =
        || Misfit::Wrong { at: String::new(), needed: typed.signature().to_owned(), got: "more".to_owned() };
    if arguments.len() != typed.arguments().len() {
        return Err(wrong());
    }
    let mut out = Vec::new();
    match (typed.form(), arguments) {
        (Form::Struct(fields), arguments) => to_postcard::fields(fields, arguments, &mut out)?,
        (form, [argument]) => to_postcard::value(form, argument, &mut out)?,
        _ => {}
    }
    Ok(out)
}

fn put_and_read(piece: Piece<'_>) -> Result<Vec<MessageItem>, Misfit> {
    let mut message = call();
    let outcome = put(&mut message, &[piece]);
    let came = carried(&mut message);
    match outcome {
        Ok(()) => Ok(read_items(&came)?),
        Err(misfit) => {
            assert_eq!(signature(&came), "", "nothing was put in");
            Err(misfit)
        }
    }
}

/// The same value, or an error of both, but for what is counted: values that are made cost more.
#[track_caller]
fn alike<T: std::fmt::Debug>(plain: &Result<T, Misfit>, other: &Result<T, Misfit>) {
    let is_count = |misfit: &Misfit| {
        matches!(misfit, Misfit::TooMany { .. } | Misfit::TooLong { .. } | Misfit::Unfit(_))
    };
    let is_counted = |outcome: &Result<T, Misfit>| outcome.as_ref().is_err_and(is_count);
    if !is_counted(plain) && !is_counted(other) && (plain.is_ok() || other.is_ok()) {
        assert_eq!(format!("{plain:?}"), format!("{other:?}"));
    }
}
