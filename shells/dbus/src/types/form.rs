//! A schema as D-Bus sees it: worked out once, so that a value costs no more than a walk over it.

use std::sync::Arc;

use dbus::Signature;
use dbus::arg::Iter;
use postcard_schema::schema::owned::{
    OwnedDataModelType as Type, OwnedDataModelVariant as Variant, OwnedNamedType, OwnedNamedValue,
    OwnedNamedVariant,
};
use visorbus_hub::schema::{Shape, is_value};

use super::signature::{is_basic, is_signature};
use super::take::Taker;
use super::{MAX_DEPTH, MAX_LEVELS, MAX_VARIANTS, Misfit};

/// What an address takes or gives, as D-Bus sees it. It is cheap to clone.
///
/// A struct or tuple is the arguments of a method, one by one; any other type is one argument. In a variant, and in another
/// type, a struct is one value.
#[derive(Debug, Clone)]
pub(crate) struct Typed(Arc<Known>);

#[derive(Debug)]
struct Known {
    form: Form,
    arguments: Vec<Argument>,
    signature: String,
    value: Signature<'static>,
}

/// An argument of a method or a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    /// The field's name; of a tuple's items `arg0`, `arg1` …; of a type that has no fields `value`.
    pub(crate) name: String,
    /// Its complete type.
    pub(crate) signature: String,
}

impl Typed {
    /// `None` where D-Bus has no form for the type: a signature of more than 255 bytes, deeper than is read here, or with a
    /// schema as a value in it.
    pub(crate) fn new(shape: &Shape) -> Option<Self> {
        let form =
            Form::of(shape.named(), Room { depth: MAX_DEPTH - SPARE, variants: MAX_VARIANTS - SPARE })?;
        let value = form.signature();
        let arguments: Vec<Argument> = match &form {
            Form::Nothing => Vec::new(),
            Form::Struct(fields) => fields.iter().map(Field::argument).collect(),
            _ => vec![Argument { name: "value".to_owned(), signature: value.clone() }],
        };
        let signature: String = arguments.iter().map(|argument| argument.signature.as_str()).collect();
        Some(Self(Arc::new(Known { form, arguments, signature, value: checked(value)? })))
    }

    /// The arguments of a method that takes it, or gives it.
    pub(crate) fn arguments(&self) -> &[Argument] {
        &self.0.arguments
    }

    /// The signature of all arguments, such as `sq`; empty for a type without content.
    pub(crate) fn signature(&self) -> &str {
        &self.0.signature
    }

    /// The signature of the whole as one value, such as `(sq)`: what a variant holds; `y` for a type without content.
    pub(crate) fn value_signature(&self) -> &str {
        &self.0.value
    }

    /// The same, as the library wants it.
    pub(super) fn value_type(&self) -> &Signature<'static> {
        &self.0.value
    }

    /// The postcard of a message's arguments from the one on that stands here; they are of this type's
    /// [signature](Self::signature).
    ///
    /// # Errors
    /// [`Misfit`] when they are not of this type; no value is in its text.
    pub(crate) fn take(&self, arguments: &mut Iter<'_>) -> Result<Vec<u8>, Misfit> {
        let mut taker = Taker::new();
        match &self.0.form {
            Form::Nothing => {}
            Form::Struct(fields) => taker.fields(fields, arguments, 0)?,
            form => taker.value(form, arguments, 0)?,
        }
        Ok(taker.finish())
    }

    /// The postcard of one value, as a variant holds it; it is of this type's [signature](Self::value_signature).
    ///
    /// # Errors
    /// As [`Typed::take`].
    pub(crate) fn take_value(&self, value: &mut Iter<'_>) -> Result<Vec<u8>, Misfit> {
        let mut taker = Taker::new();
        taker.value(&self.0.form, value, SPARE)?;
        Ok(taker.finish())
    }

    /// What values of it are made by.
    pub(super) fn form(&self) -> &Form {
        &self.0.form
    }
}

/// One type and what is in it. What has no content is left out of structs; where something must stand it is
/// [`Form::Nothing`].
#[derive(Debug)]
pub(super) enum Form {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
    /// `[u8; N]`.
    FixedBytes(usize),
    Nothing,
    Optional(List),
    List(List),
    /// `[T; N]`.
    Fixed(List, usize),
    Map(Map),
    Struct(Vec<Field>),
    /// A [`visorbus_hub::Value`].
    Any,
    /// An enum of unit variants alone.
    Names(Variants),
    /// Any other enum, with the contents of its variants.
    Choice(Variants, Vec<Content>),
}

/// The content of a variant of an enum.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) form: Form,
    pub(super) signature: Signature<'static>,
}

/// An array's element, and the signatures of both.
#[derive(Debug)]
pub(super) struct List {
    pub(super) item: Box<Form>,
    pub(super) signature: Signature<'static>,
    pub(super) element: Signature<'static>,
}

/// A map's key, value and signature, and what its pairs are.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) key: Box<Form>,
    pub(super) value: Box<Form>,
    pub(super) signature: Signature<'static>,
    pub(super) pair: Pair,
}

/// What a map is an array of.
#[derive(Debug)]
pub(super) enum Pair {
    /// Dictionary entries: the signatures of key and value.
    Entry(Signature<'static>, Signature<'static>),
    /// Structs of this signature, where no dictionary may have such a key.
    Struct(Signature<'static>),
}

/// A field of a struct, or an item of a tuple under its number.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    is_item: bool,
    pub(super) form: Form,
}

impl Field {
    fn argument(&self) -> Argument {
        let name = if self.is_item { format!("arg{}", self.name) } else { self.name.clone() };
        Argument { name, signature: self.form.signature() }
    }
}

/// The names of an enum's variants.
#[derive(Debug)]
pub(super) struct Variants {
    names: Vec<String>,
    /// Their numbers, in the order of the names.
    sorted: Vec<u32>,
}

impl Variants {
    fn new(variants: &[OwnedNamedVariant]) -> Self {
        let names: Vec<String> = variants.iter().map(|variant| variant.name.clone()).collect();
        let mut sorted: Vec<u32> = (0..).take(names.len()).collect();
        sorted.sort_by_key(|number| &names[*number as usize]);
        Self { names, sorted }
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let found = self.sorted.binary_search_by_key(&name, |number| &self.names[*number as usize]).ok()?;
        Some(self.sorted[found])
    }

    pub(super) fn name(&self, number: usize) -> Option<&str> {
        self.names.get(number).map(String::as_str)
    }

    /// All of them for an error, cut to what fits into one.
    pub(super) fn known(&self) -> String {
        let all = self.names.join(", ");
        match all.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{} …", &all[..end]),
            None => all,
        }
    }
}

/// How much deeper a type may go.
#[derive(Debug, Clone, Copy)]
struct Room {
    depth: usize,
    variants: usize,
}

impl Room {
    fn containers(self, count: usize) -> Option<Self> {
        Some(Self { depth: self.depth.checked_sub(count)?, ..self })
    }

    /// A variant, and the arrays and dictionaries of variants that may be in it.
    fn any(self) -> Option<()> {
        let variants = self.variants.checked_sub(1 + MAX_LEVELS);
        variants.and(self.depth.checked_sub(2 + 3 * MAX_LEVELS)).map(drop)
    }

    /// In the variant that is in the struct of an enum.
    fn choice(self) -> Option<Self> {
        let variants = self.variants.checked_sub(1)?;
        Self { variants, ..self }.containers(2)
    }
}

impl Form {
    fn of(named: &OwnedNamedType, room: Room) -> Option<Self> {
        Some(match &named.ty {
            Type::Bool => Self::Bool,
            Type::I8 => Self::I8,
            Type::I16 => Self::I16,
            Type::I32 => Self::I32,
            Type::I64 | Type::Isize => Self::I64,
            Type::I128 => Self::I128,
            Type::U8 => Self::U8,
            Type::U16 => Self::U16,
            Type::U32 => Self::U32,
            Type::U64 | Type::Usize => Self::U64,
            Type::U128 => Self::U128,
            Type::F32 => Self::F32,
            Type::F64 => Self::F64,
            Type::Char => Self::Char,
            Type::String => Self::Text,
            Type::ByteArray => room.containers(1).map(|_| Self::Bytes)?,
            Type::Unit | Type::UnitStruct => Self::Nothing,
            Type::NewtypeStruct(inner) => Self::of(inner, room)?,
            Type::Option(inner) => Self::Optional(List::new(Self::of(inner, room.containers(1)?)?)?),
            Type::Seq(item) => match Self::of(item, room.containers(1)?)? {
                Self::U8 => Self::Bytes,
                item => Self::List(List::new(item)?),
            },
            Type::Tuple(items) if is_array(named, items) => Self::fixed(items, room)?,
            Type::Tuple(items) | Type::TupleStruct(items) => Self::items(items, room)?,
            Type::Map { key, val } => Self::Map(Map::new(key, val, room)?),
            Type::Struct(fields) => Self::fields(fields, room)?,
            Type::Enum(variants) if is_value(variants) => room.any().map(|()| Self::Any)?,
            Type::Enum(variants) if variants.iter().all(|variant| variant.ty == Variant::UnitVariant) => {
                Self::Names(Variants::new(variants))
            }
            Type::Enum(variants) => Self::choice(variants, room)?,
            Type::Schema => return None,
        })
    }

    fn fixed(items: &[OwnedNamedType], room: Room) -> Option<Self> {
        Some(match Self::of(items.first()?, room.containers(1)?)? {
            Self::U8 => Self::FixedBytes(items.len()),
            Self::Nothing => Self::Nothing,
            item => Self::Fixed(List::new(item)?, items.len()),
        })
    }

    fn items(items: &[OwnedNamedType], room: Room) -> Option<Self> {
        let items = items.iter().enumerate().map(|(number, item)| (number.to_string(), true, item));
        Self::parts(items, room)
    }

    fn fields(fields: &[OwnedNamedValue], room: Room) -> Option<Self> {
        Self::parts(fields.iter().map(|field| (field.name.clone(), false, &field.ty)), room)
    }

    fn parts<'a>(
        parts: impl Iterator<Item = (String, bool, &'a OwnedNamedType)>,
        room: Room,
    ) -> Option<Self> {
        let mut fields = Vec::new();
        for (name, is_item, ty) in parts {
            match Self::of(ty, room.containers(1)?)? {
                Self::Nothing => {}
                form => fields.push(Field { name, is_item, form }),
            }
        }
        Some(if fields.is_empty() { Self::Nothing } else { Self::Struct(fields) })
    }

    fn choice(variants: &[OwnedNamedVariant], room: Room) -> Option<Self> {
        let inner = room.choice()?;
        let content = |variant: &OwnedNamedVariant| {
            let form = match &variant.ty {
                Variant::UnitVariant => Some(Self::Nothing),
                Variant::NewtypeVariant(ty) => Self::of(ty, inner),
                Variant::TupleVariant(items) => Self::items(items, inner),
                Variant::StructVariant(fields) => Self::fields(fields, inner),
            }?;
            Some(Content { signature: checked(form.signature())?, form })
        };
        let contents = variants.iter().map(content).collect::<Option<Vec<Content>>>()?;
        Some(Self::Choice(Variants::new(variants), contents))
    }

    /// One complete type; it may be too long to be a signature.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Optional(list) | Self::List(list) | Self::Fixed(list, _) => list.signature.to_string(),
            Self::Map(map) => map.signature.to_string(),
            Self::Struct(fields) => {
                let inner: String = fields.iter().map(|field| field.form.signature()).collect();
                format!("({inner})")
            }
            plain => plain.code().to_owned(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Bool => "b",
            Self::U8 | Self::Nothing => "y",
            Self::I8 | Self::I16 => "n",
            Self::U16 => "q",
            Self::I32 => "i",
            Self::U32 => "u",
            Self::I64 => "x",
            Self::U64 => "t",
            Self::F32 | Self::F64 => "d",
            Self::Bytes | Self::FixedBytes(_) => "ay",
            Self::Choice(..) => "(sv)",
            Self::Any => "v",
            _ => "s",
        }
    }
}

impl List {
    fn new(item: Form) -> Option<Self> {
        let element = item.signature();
        let signature = checked(format!("a{element}"))?;
        Some(Self { item: Box::new(item), signature, element: checked(element)? })
    }
}

impl Map {
    fn new(key: &OwnedNamedType, value: &OwnedNamedType, room: Room) -> Option<Self> {
        let inner = room.containers(2)?;
        let (key, value) = (Form::of(key, inner)?, Form::of(value, inner)?);
        let (of_key, of_value) = (key.signature(), value.signature());
        let is_dictionary = matches!(of_key.as_bytes(), [code] if is_basic(*code));
        let (signature, pair) = if is_dictionary {
            let signature = format!("a{{{of_key}{of_value}}}");
            (signature, Pair::Entry(checked(of_key)?, checked(of_value)?))
        } else {
            let pair = format!("({of_key}{of_value})");
            (format!("a{pair}"), Pair::Struct(checked(pair)?))
        };
        Some(Self { key: Box::new(key), value: Box::new(value), signature: checked(signature)?, pair })
    }
}

/// `postcard-schema` tells arrays from tuples by the name alone.
fn is_array(named: &OwnedNamedType, items: &[OwnedNamedType]) -> bool {
    named.name == "[T; N]" && items.windows(2).all(|two| two[0] == two[1])
}

fn checked(text: String) -> Option<Signature<'static>> {
    if is_signature(&text) { Signature::new(text).ok() } else { None }
}

/// Containers that a message may have around a value of a type: a variant, or the variant in an array of properties.
const SPARE: usize = 2;
/// Characters of names in an error.
const MAX_SHOWN: usize = 400;
