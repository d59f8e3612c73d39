//! The interfaces that are there whatever the hub holds: those of D-Bus itself (D-Bus specification, "Standard Interfaces"),
//! the bridge and what every component has. One table is what is checked, shown and documented.

use crate::xml::{Argument, Xml};

/// An interface.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) name: &'static str,
    doc: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) signals: &'static [Signal],
    pub(crate) properties: &'static [Property],
}

impl Fixed {
    /// Writes it.
    pub(crate) fn describe(&self, xml: &mut Xml) {
        xml.interface(self.name);
        xml.note(DOC, self.doc);
        for method in self.methods {
            xml.method(method.name, method.takes, method.gives, &[(DOC, method.doc)]);
        }
        for signal in self.signals {
            xml.signal(signal.name, signal.carries, &[(DOC, signal.doc)]);
        }
        for property in self.properties {
            let notes = [(DOC, property.doc), (EMITS_CHANGED, "false")];
            xml.property(property.name, property.signature, "read", &notes);
        }
        xml.end_interface();
    }

    pub(crate) fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.name == name)
    }
}

/// A method: names and signatures of what it takes and gives.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) takes: &'static [Argument<'static>],
    pub(crate) gives: &'static [Argument<'static>],
    doc: &'static str,
}

impl Method {
    /// The signature of all that it takes.
    pub(crate) fn signature(&self) -> String {
        self.takes.iter().map(|(_, signature)| *signature).collect()
    }
}

/// A signal.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) name: &'static str,
    pub(crate) carries: &'static [Argument<'static>],
    doc: &'static str,
}

/// A property that can be read, and tells nobody of its changes.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) signature: &'static str,
    doc: &'static str,
}

/// The annotation with a description, as GLib's tools read it.
pub(crate) const DOC: &str = "org.gtk.GDBus.DocString";
/// The annotation of a property's changes.
pub(crate) const EMITS_CHANGED: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";
/// The annotation of a method that nobody needs to wait for.
pub(crate) const NO_REPLY: &str = "org.freedesktop.DBus.Method.NoReply";

pub(crate) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(crate) const PEER: &str = "org.freedesktop.DBus.Peer";
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(crate) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
pub(crate) const BUS: &str = "org.visorbus.Bus1";
pub(crate) const COMPONENT: &str = "org.visorbus.Component1";

/// What every object has.
pub(crate) const PLAIN: &[&Fixed] = &[&INTROSPECTABLE_1, &PEER_1];
/// What the root has.
pub(crate) const ROOT: &[&Fixed] = &[&INTROSPECTABLE_1, &PEER_1, &PROPERTIES_1, &OBJECT_MANAGER_1, &BUS_1];
/// What a component has.
pub(crate) const OF_COMPONENT: &[&Fixed] = &[&INTROSPECTABLE_1, &PEER_1, &PROPERTIES_1, &COMPONENT_1];

const INTROSPECTABLE_1: Fixed = Fixed {
    name: INTROSPECTABLE,
    doc: "",
    methods: &[Method { name: "Introspect", takes: &[], gives: &[("xml_data", "s")], doc: "" }],
    signals: &[],
    properties: &[],
};

const PEER_1: Fixed = Fixed {
    name: PEER,
    doc: "",
    methods: &[
        Method { name: "Ping", takes: &[], gives: &[], doc: "" },
        Method { name: "GetMachineId", takes: &[], gives: &[("machine_uuid", "s")], doc: "" },
    ],
    signals: &[],
    properties: &[],
};

const PROPERTIES_1: Fixed = Fixed {
    name: PROPERTIES,
    doc: "",
    methods: &[
        Method {
            name: "Get",
            takes: &[("interface_name", "s"), ("property_name", "s")],
            gives: &[("value", "v")],
            doc: "",
        },
        Method {
            name: "Set",
            takes: &[("interface_name", "s"), ("property_name", "s"), ("value", "v")],
            gives: &[],
            doc: "",
        },
        Method {
            name: "GetAll",
            takes: &[("interface_name", "s")],
            gives: &[("properties", "a{sv}")],
            doc: "Those that the caller may not read are left out.",
        },
    ],
    signals: &[Signal {
        name: "PropertiesChanged",
        carries: &[
            ("interface_name", "s"),
            ("changed_properties", "a{sv}"),
            ("invalidated_properties", "as"),
        ],
        doc: "",
    }],
    properties: &[],
};

const OBJECT_MANAGER_1: Fixed = Fixed {
    name: OBJECT_MANAGER,
    doc: "",
    methods: &[Method {
        name: "GetManagedObjects",
        takes: &[],
        gives: &[("objects", "a{oa{sa{sv}}}")],
        doc: "The components of which the caller may use something. From then on the caller is told of those that come and \
              go, where it may subscribe to bus/services/changed.",
    }],
    signals: &[
        Signal {
            name: "InterfacesAdded",
            carries: &[("object", "o"), ("interfaces", "a{sa{sv}}")],
            doc: "A component came; goes only to who has called GetManagedObjects.",
        },
        Signal {
            name: "InterfacesRemoved",
            carries: &[("object", "o"), ("interfaces", "as")],
            doc: "A component went; goes only to who was told of it.",
        },
    ],
    properties: &[],
};

const BUS_1: Fixed = Fixed {
    name: BUS,
    doc: "The bridge to the hub: what any of its peers can do, any program of the bus can do here, if it may.",
    methods: &[
        Method {
            name: "Authenticate",
            takes: &[("token", "s")],
            gives: &[("session", "a{sv}")],
            doc: "Proves with a token who the caller is; it counts until it expires or the caller leaves the bus. Subscriptions \
                  stay as far as the token allows them. Gives subject s, scopes as, issuer s and expires t, in Unix seconds.",
        },
        Method {
            name: "Call",
            takes: &[("address", "s"), ("payload", "v"), ("options", "a{sv}")],
            gives: &[("answer", "v")],
            doc: "Sends a request to an address and waits for its answer. The payload is of the address's type, or its postcard \
                  bytes (ay). Options: timeout_ms u, priority s (low, normal, high, critical), json b (payload and answer \
                  are texts in JSON).",
        },
        Method {
            name: "Notify",
            takes: &[("address", "s"), ("payload", "v"), ("options", "a{sv}")],
            gives: &[],
            doc: "Sends a notification to an address. Options: priority s, json b.",
        },
        Method {
            name: "Subscribe",
            takes: &[("pattern", "s"), ("options", "a{sv}")],
            gives: &[],
            doc: "Asks for the notifications on topics; they come as the signal Notification, to the caller alone. In a pattern \
                  * is one segment and ** the rest. Options: policy s (latest, drop_oldest, disconnect), keep u (how many \
                  drop_oldest keeps), json b (payloads are texts in JSON).",
        },
        Method {
            name: "Unsubscribe",
            takes: &[("pattern", "s")],
            gives: &[],
            doc: "Takes a subscription back; takes the very text of its pattern.",
        },
        Method {
            name: "ListServices",
            takes: &[],
            gives: &[("services", "a(sssa(sss))")],
            doc: "The components of the hub: name, peer, transport, and of each address the address, its kind (endpoint, \
                  publishes, hears) and what a caller needs (open, permission, scope NAME). Needs request on bus/services.",
        },
        Method {
            name: "Describe",
            takes: &[("address", "s")],
            gives: &[
                ("request_signature", "s"),
                ("request_type", "s"),
                ("response_signature", "s"),
                ("response_type", "s"),
            ],
            doc: "What an address takes and gives: the signatures of a variant, and the types as they read in Rust. Empty where \
                  its owner has not told, or D-Bus has no form for it.",
        },
        Method {
            name: "Permissions",
            takes: &[],
            gives: &[("permissions", "a(ssa{ss})")],
            doc: "What the caller may do: operation, resource and constraints.",
        },
    ],
    signals: &[
        Signal {
            name: "Notification",
            carries: &[("topic", "s"), ("source", "s"), ("payload", "v"), ("details", "a{sv}")],
            doc: "What was published on a topic that the caller has subscribed to. Details: format s (typed, binary, text, json, \
                  toml, empty), priority s, timestamp_us t and uncertainty_us u where they are known, encrypted b.",
        },
        Signal {
            name: "Missed",
            carries: &[("pattern", "s"), ("count", "t")],
            doc: "So many notifications of a subscription were dropped because the bus did not take them in time.",
        },
        Signal {
            name: "SubscriptionEnded",
            carries: &[("pattern", "s"), ("reason", "s")],
            doc: "A subscription was taken from the caller, by its pattern or topic.",
        },
        Signal {
            name: "SessionEnded",
            carries: &[("reason", "s")],
            doc: "The caller has no session any more, and no subscriptions. The next call begins a new one.",
        },
    ],
    properties: BUS_PROPERTIES,
};

const COMPONENT_1: Fixed = Fixed {
    name: COMPONENT,
    doc: "A component of the hub.",
    methods: &[
        Method {
            name: "Subscribe",
            takes: &[("topic", "s")],
            gives: &[],
            doc: "Asks for what the component publishes on a topic; it comes as the component's own signal, with its own types, \
                  to the caller alone.",
        },
        Method {
            name: "Unsubscribe",
            takes: &[("topic", "s")],
            gives: &[],
            doc: "Takes a subscription back.",
        },
    ],
    signals: &[],
    properties: COMPONENT_PROPERTIES,
};

/// Those of the bridge.
pub(crate) const BUS_PROPERTIES: &[Property] = &[
    Property { name: "Version", signature: "s", doc: "The version of Visorbus." },
    Property { name: "BusName", signature: "s", doc: "The well-known name of the service." },
    Property { name: "Subject", signature: "s", doc: "Who the reader is to the hub; empty for nobody." },
];

/// Those of a component, in the order in which it gives their values.
pub(crate) const COMPONENT_PROPERTIES: &[Property] = &[
    Property { name: "Name", signature: "s", doc: "The component's name in the hub." },
    Property { name: "Peer", signature: "s", doc: "The peer that has it; empty: the hub itself." },
    Property { name: "Transport", signature: "s", doc: "How that peer is connected, for people." },
    Property {
        name: "Addresses",
        signature: "a(sss)",
        doc: "Its addresses as far as the reader may know them: address, kind (endpoint, publishes, hears) and what a \
                  caller needs (open, permission, scope NAME).",
    },
];
