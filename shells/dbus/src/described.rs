//! A [`DBusInterface`] as it was when it was registered: its members, checked, and their addresses in the hub.

use visorbus_core::limits::MAX_NAME;
use visorbus_core::message::{Address, AddressBuf};
use visorbus_hub::{Error, Result};

use crate::interface::{DBusInterface, DBusMethod, DBusProperty, DBusPropertyAccess, DBusSignal};
use crate::names::{is_interface, is_member};
use crate::types::{is_signature, is_single_type};

/// What a registered interface has. Its addresses in the hub begin with [`Described::component`]; a payload that goes
/// there, or comes back, is one of [`crate::carrier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its name, such as `org.visorbus.Config1`.
    pub(crate) name: String,
    /// The component of the hub that does what it does: the name in lower case.
    pub(crate) component: String,
    pub(crate) methods: Vec<DBusMethod>,
    pub(crate) signals: Vec<DBusSignal>,
    pub(crate) properties: Vec<DBusProperty>,
}

impl Described {
    /// Whether what it takes may have many values in it, which takes its time to read.
    pub(crate) fn takes_containers(&self) -> bool {
        let methods = self.methods.iter().map(|method| &method.input_signature);
        let properties = self.properties.iter().filter(|property| property.access.writes());
        let mut all = methods.chain(properties.map(|property| &property.signature));
        all.any(|signature| signature.contains(['a', 'v']))
    }

    /// Asks an interface for what it has.
    ///
    /// # Errors
    /// `Message` when a name or a signature is none, something is there twice, or an address in the hub would be too long:
    /// the text says which.
    pub(crate) fn new(interface: &dyn DBusInterface) -> Result<Self> {
        let described = Self {
            name: interface.name().to_owned(),
            component: interface.name().to_ascii_lowercase(),
            methods: interface.methods(),
            signals: interface.signals(),
            properties: interface.properties(),
        };
        described.check()?;
        Ok(described)
    }

    pub(crate) fn method(&self, name: &str) -> Option<&DBusMethod> {
        self.methods.iter().find(|method| method.name == name)
    }

    pub(crate) fn signal(&self, name: &str) -> Option<&DBusSignal> {
        self.signals.iter().find(|signal| signal.name == name)
    }

    pub(crate) fn property(&self, name: &str) -> Option<&DBusProperty> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// Where a method is called: `org.visorbus.config1/get-value`.
    pub(crate) fn method_address(&self, method: &str) -> Result<AddressBuf> {
        address(&format!("{}/{}", self.component, words(method)))
    }

    /// Where a signal that requires authentication is published: `org.visorbus.config1/config-changed`.
    pub(crate) fn signal_address(&self, signal: &str) -> Result<AddressBuf> {
        address(&format!("{}/{}", self.component, words(signal)))
    }

    /// Where a property is read: `org.visorbus.config1/prop/version`.
    pub(crate) fn read_address(&self, property: &str) -> Result<AddressBuf> {
        address(&format!("{}/prop/{}", self.component, words(property)))
    }

    /// Where a property is written: `org.visorbus.config1/prop/version/set`.
    pub(crate) fn write_address(&self, property: &str) -> Result<AddressBuf> {
        address(&format!("{}/prop/{}/set", self.component, words(property)))
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| {
            Error::Message(format!("the interface '{}' cannot be registered: {what}", self.name))
        };
        if !is_interface(&self.name) || self.name.starts_with("org.freedesktop.DBus.") {
            return Err(wrong("its name is not one, or one of D-Bus itself".to_owned()));
        }
        if OWN.contains(&self.name.as_str()) || self.name.starts_with(OF_COMPONENTS) {
            return Err(wrong("its name is one of Visorbus itself".to_owned()));
        }
        if self.component.len() > MAX_NAME || Address::new(&self.component).is_err() {
            return Err(wrong(format!("its name is longer than {MAX_NAME} bytes")));
        }
        self.members().try_for_each(check_member).map_err(&wrong)?;
        check_addresses(&self.addresses().map_err(|error| wrong(error.text().clone()))?).map_err(wrong)
    }

    /// The name of each member, with its signatures, and whether each of those must be one complete type.
    fn members(&self) -> impl Iterator<Item = (&str, [&str; 2], bool)> {
        let methods = self.methods.iter().map(|method| {
            (method.name.as_str(), [method.input_signature.as_str(), method.output_signature.as_str()], false)
        });
        let signals =
            self.signals.iter().map(|signal| (signal.name.as_str(), [signal.signature.as_str(), ""], false));
        let properties = self
            .properties
            .iter()
            .map(|property| (property.name.as_str(), [property.signature.as_str(); 2], true));
        methods.chain(signals).chain(properties)
    }

    fn addresses(&self) -> Result<Vec<AddressBuf>> {
        let methods = self.methods.iter().map(|method| self.method_address(&method.name));
        let signals = self.signals.iter().map(|signal| self.signal_address(&signal.name));
        let read = self.properties.iter().map(|property| self.read_address(&property.name));
        let written = self.properties.iter().map(|property| self.write_address(&property.name));
        methods.chain(signals).chain(read).chain(written).collect()
    }
}

fn check_member((name, signatures, single): (&str, [&str; 2], bool)) -> std::result::Result<(), String> {
    if !is_member(name) {
        return Err(format!("'{name}' is no name of a member"));
    }
    let fits = |text: &&str| if single { is_single_type(text) } else { is_signature(text) };
    match signatures.iter().find(|text| !fits(text)) {
        Some(text) if single => Err(format!("'{text}', of '{name}', is not the signature of one value")),
        Some(text) => Err(format!("'{text}', of '{name}', is no signature")),
        None => Ok(()),
    }
}

/// Two members with one address could not be told apart, and one would be allowed by what allows the other.
fn check_addresses(addresses: &[AddressBuf]) -> std::result::Result<(), String> {
    let mut texts: Vec<&str> = addresses.iter().map(AddressBuf::as_str).collect();
    texts.sort_unstable();
    match texts.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(format!("two of its members have the address '{}'", two[0])),
        None => Ok(()),
    }
}

impl DBusPropertyAccess {
    /// Whether it can be read.
    pub(crate) const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether it can be written.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// `GetValue` as `get-value`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut before = None;
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        let next_is_small = rest.peek().is_some_and(char::is_ascii_lowercase);
        let begins = letter.is_ascii_uppercase()
            && before
                .is_some_and(|before: char| before != '_' && (!before.is_ascii_uppercase() || next_is_small));
        if begins {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
        before = Some(letter);
    }
    words
}

fn address(text: &str) -> Result<AddressBuf> {
    Address::new(text)
        .map(AddressBuf::from)
        .map_err(|error| Error::Message(format!("'{text}' is no address of the hub: {error}")))
}

/// Interfaces that the service has anyway.
const OWN: [&str; 2] = ["org.visorbus.Bus1", "org.visorbus.Component1"];
const OF_COMPONENTS: &str = "org.visorbus.components.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_name_are_joined_by_hyphens() {
        for (name, expected) in [
            ("GetValue", "get-value"),
            ("Version", "version"),
            ("GetIMURate", "get-imu-rate"),
            ("ID", "id"),
            ("get2", "get2"),
        ] {
            assert_eq!(words(name), expected);
        }
    }
}
