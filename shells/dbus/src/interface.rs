//! An interface of one's own on the bus: what it has, and what it does.

use dbus::arg::messageitem::MessageItem;
use visorbus_core::dispatch::Caller;
use visorbus_hub::Result;

/// An interface on the service's object, and what its methods and properties do.
///
/// The service checks before it asks: that the member is there, that the arguments have its signature, that the caller may
/// use it. What is given back is checked too. A member that [requires authentication](DBusMethod::requires_auth) is used by
/// whoever may send requests to its address, `INTERFACE/MEMBER` in lower case with words joined by `-`:
/// `org.visorbus.config1/get-value`; a property is read at `org.visorbus.config1/prop/version`, and written at
/// `org.visorbus.config1/prop/version/set`. Two members that would have one address cannot be registered together.
///
/// # For the implementer
/// Methods run on the hub's pool, one at a time for each interface, and may block, unless
/// [`DBusInterface::may_block`] says otherwise; one that never returns keeps a thread of the pool, while its caller is told
/// after the call's time that it is over. A panic is answered with an error and ends nothing else. An error's kind becomes
/// the name of the D-Bus error, its text the error's text.
pub trait DBusInterface: Send + Sync {
    /// The interface's name, such as `org.visorbus.Config1`; at most 32 bytes.
    fn name(&self) -> &str;

    /// Its methods; asked once.
    fn methods(&self) -> Vec<DBusMethod>;

    /// Its signals; asked once.
    fn signals(&self) -> Vec<DBusSignal>;

    /// Its properties; asked once.
    fn properties(&self) -> Vec<DBusProperty>;

    /// Whether a method or a property may take longer than a few microseconds; asked once. One that does not is answered
    /// sooner, in the hub's own loop, where [all else waits](visorbus_hub::HubHandle) for it; but not one that takes arrays or
    /// variants, which may be long.
    fn may_block(&self) -> bool {
        true
    }

    /// Does what a method does. That `caller` may was asked before, for the method's address; a method that does more asks
    /// [`Caller::may`]. It has no grant only where the method requires no authentication.
    ///
    /// # Errors
    /// What the caller is told.
    fn handle_method_call(
        &self,
        method_name: &str,
        args: &[MessageItem],
        caller: &Caller<'_>,
    ) -> Result<Vec<MessageItem>>;

    /// The value of a property, for `caller`: [as a method's](DBusInterface::handle_method_call).
    ///
    /// # Errors
    /// What the caller is told.
    fn get_property(&self, property_name: &str, caller: &Caller<'_>) -> Result<MessageItem>;

    /// Changes a property. Where that succeeds, the service tells of the change.
    ///
    /// # Errors
    /// What the caller is told.
    fn set_property(&self, property_name: &str, value: MessageItem, caller: &Caller<'_>) -> Result<()>;
}

/// A method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DBusMethod {
    /// Its name, such as `GetValue`.
    pub name: String,
    /// The types of its arguments, such as `ss`; empty for none.
    pub input_signature: String,
    /// The types of what it answers.
    pub output_signature: String,
    /// What it does, for people.
    pub description: String,
    /// Whether the caller must have authenticated, and must be allowed to use it.
    pub requires_auth: bool,
}

impl DBusMethod {
    /// One for callers that have authenticated and may use it.
    pub fn authenticated(
        name: &str,
        input_signature: &str,
        output_signature: &str,
        description: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            input_signature: input_signature.to_owned(),
            output_signature: output_signature.to_owned(),
            description: description.to_owned(),
            requires_auth: true,
        }
    }
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DBusSignal {
    /// Its name, such as `ConfigChanged`.
    pub name: String,
    /// The types of its arguments.
    pub signature: String,
    /// What it tells, for people.
    pub description: String,
    /// Whether it goes only to those who may subscribe to its address and have used the interface before; else to everybody
    /// on the bus who asks the bus for it.
    pub requires_auth: bool,
}

impl DBusSignal {
    /// One for those who have authenticated and may subscribe to it.
    pub fn authenticated(name: &str, signature: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            signature: signature.to_owned(),
            description: description.to_owned(),
            requires_auth: true,
        }
    }
}

/// A property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DBusProperty {
    /// Its name, such as `Version`.
    pub name: String,
    /// The type of its value: one complete type.
    pub signature: String,
    /// What it is, for people.
    pub description: String,
    /// What can be done with it.
    pub access: DBusPropertyAccess,
    /// Whether whoever reads it must have authenticated, and must be allowed to.
    pub requires_auth_read: bool,
    /// Whether whoever writes it must have authenticated, and must be allowed to.
    pub requires_auth_write: bool,
}

impl DBusProperty {
    /// One that callers who have authenticated and may do so read, and nobody writes.
    pub fn read_only(name: &str, signature: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            signature: signature.to_owned(),
            description: description.to_owned(),
            access: DBusPropertyAccess::Read,
            requires_auth_read: true,
            requires_auth_write: true,
        }
    }
}

/// What can be done with a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DBusPropertyAccess {
    /// It can be read.
    Read,
    /// It can be written.
    Write,
    /// Both.
    ReadWrite,
}
