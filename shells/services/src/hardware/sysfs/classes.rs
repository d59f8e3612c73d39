//! What is read of a device of each class, and what it means.

mod drm;
mod hwmon;
mod iio;
mod input;
mod power_supply;
mod thermal;

use visorbus_hub::Value;

use super::Folder;
use crate::hardware::device::{Device, Property};

/// The classes, in the order in which they are listed and share the room.
pub(super) const CLASSES: [Class; 6] =
    [power_supply::CLASS, thermal::CLASS, iio::CLASS, hwmon::CLASS, input::CLASS, drm::CLASS];

/// What the kernel's events call the classes.
pub(crate) const KINDS: [&str; CLASSES.len()] = {
    let mut kinds = [""; CLASSES.len()];
    let mut number = 0;
    while number < CLASSES.len() {
        kinds[number] = CLASSES[number].kind;
        number += 1;
    }
    kinds
};

/// A class of devices.
pub(super) struct Class {
    /// Its name, which a device's id begins with.
    pub(super) kind: &'static str,
    /// Where its devices are.
    pub(super) folder: &'static str,
    /// Whether what has this name is a device of the class.
    pub(super) holds: fn(&str) -> bool,
    /// Reads one.
    pub(super) describe: fn(&Entry<'_>) -> Found,
}

impl Class {
    /// The device called `name`; `None` when it has gone.
    pub(super) fn read(&self, root: &Folder, name: &str) -> Option<Device> {
        let path = format!("{}/{name}", self.folder);
        let entry = Entry { name, folder: root.folder(&path)?, root, path: &path };
        let Found { name: own, state, properties } = (self.describe)(&entry);
        // What went away while it was read was read in part.
        root.folder(&path)?;
        Some(Device {
            id: format!("{}/{name}", self.kind),
            kind: self.kind.to_owned(),
            name: own.unwrap_or_else(|| name.to_owned()),
            state: state.unwrap_or_else(|| "present".to_owned()),
            properties,
            commands: Vec::new(),
        })
    }
}

/// A device that is being read.
pub(super) struct Entry<'a> {
    name: &'a str,
    folder: Folder,
    root: &'a Folder,
    path: &'a str,
}

impl Entry<'_> {
    /// The folder that a link of the device's leads to; elsewhere in the tree, as a rule.
    fn linked(&self, link: &str) -> Option<Folder> {
        self.root.folder(&format!("{}/{link}", self.path))
    }
}

/// What was read of a device.
#[derive(Default)]
pub(super) struct Found {
    name: Option<String>,
    state: Option<String>,
    properties: Vec<Property>,
}

impl Found {
    /// What the table says is in the folder.
    fn read(folder: &Folder, attributes: &[Attribute]) -> Self {
        let properties = attributes.iter().filter_map(|attribute| attribute.read(folder)).collect();
        Self { properties, ..Self::default() }
    }

    fn has(&self, name: &str) -> bool {
        self.properties.iter().any(|property| property.name == name)
    }

    /// Adds a property, unless there is one of this name.
    fn add(&mut self, name: &str, value: Value, unit: &str, reading: bool) {
        if !self.has(name) {
            let (name, unit) = (name.to_owned(), unit.to_owned());
            self.properties.push(Property { name, value, unit, reading });
        }
    }

    /// The text of a property, if it has one.
    fn text(&self, name: &str) -> Option<&str> {
        let property = self.properties.iter().find(|property| property.name == name)?;
        if let Value::Text(text) = &property.value { Some(text) } else { None }
    }
}

/// What a sensor measures, the unit that it is shown in, and what the kernel's number is to be multiplied by for that.
struct Quantity {
    kind: &'static str,
    unit: &'static str,
    by: f64,
}

/// A file whose meaning is known.
pub(super) struct Attribute {
    file: &'static str,
    name: &'static str,
    form: Form,
    unit: &'static str,
    reading: bool,
}

/// What stands in a file.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Integer,
    /// 0 or 1.
    Flag,
    /// A number, and what it is to be multiplied by.
    Scaled(f64),
}

impl Attribute {
    const fn text(file: &'static str, name: &'static str) -> Self {
        Self { file, name, form: Form::Text, unit: "", reading: false }
    }

    const fn flag(file: &'static str, name: &'static str) -> Self {
        Self { form: Form::Flag, ..Self::text(file, name) }
    }

    const fn integer(file: &'static str, name: &'static str, unit: &'static str) -> Self {
        Self { form: Form::Integer, unit, ..Self::text(file, name) }
    }

    const fn scaled(file: &'static str, name: &'static str, by: f64, unit: &'static str) -> Self {
        Self { form: Form::Scaled(by), unit, ..Self::text(file, name) }
    }

    /// It moves by itself.
    const fn reading(self) -> Self {
        Self { reading: true, ..self }
    }

    fn read(&self, folder: &Folder) -> Option<Property> {
        let value = match self.form {
            Form::Text => Value::Text(folder.line(self.file)?),
            Form::Integer => Value::Integer(folder.integer(self.file)?),
            Form::Flag => Value::Bool(folder.integer(self.file)? != 0),
            Form::Scaled(by) => scaled(folder.number(self.file)?, by),
        };
        let Self { name, unit, reading, .. } = *self;
        Some(Property { name: name.to_owned(), value, unit: unit.to_owned(), reading })
    }
}

/// `number` times `by`, without what the multiplication adds beyond a millionth of the unit.
fn scaled(number: f64, by: f64) -> Value {
    let value = number * by;
    let rounded = (value * 1e6).round() / 1e6;
    Value::Float(if value.abs() >= 1e-3 && rounded.is_finite() { rounded } else { value })
}

const MICRO: f64 = 1e-6;
const MILLI: f64 = 1e-3;
