//! The `options` that the bridge's methods take. An unknown one is refused by name: who misspells one must not believe
//! that it counts.

use dbus::arg::{ArgType, Iter};
use visorbus_core::bus::SlowConsumer;
use visorbus_core::message::{MessageFlags, MessagePriority};

use crate::fault::Fault;

/// What a caller has chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    timeout_ms: Option<u32>,
    priority: MessagePriority,
    /// Payloads are texts in JSON.
    pub(crate) json: bool,
    /// What a subscriber gets that does not keep up.
    pub(crate) policy: SlowConsumer,
}

impl Options {
    /// Reads an `a{sv}` where it stands, of which a method knows the options `known`. The value of an unknown one is not
    /// looked at, whatever it is.
    ///
    /// # Errors
    /// One is unknown, of the wrong type, or has no such value: the text names it. There are more than a method could know.
    pub(crate) fn read(options: &mut Iter<'_>, known: &[&str]) -> Result<Self, Fault> {
        let wrong = || Fault::invalid_args("the options are a dictionary a{sv}");
        let mut entries = options.recurse(ArgType::Array).ok_or_else(wrong)?;
        let (mut read, mut chosen, mut count) = (Self::default(), Chosen::default(), 0);
        while let Some(mut entry) = entries.recurse(ArgType::DictEntry) {
            count += 1;
            if count > MAX_OPTIONS {
                return Err(Fault::invalid_args(format!("there are more than {MAX_OPTIONS} options")));
            }
            let name: &str = entry.get().ok_or_else(wrong)?;
            let Some(name) = known.iter().copied().find(|option| *option == name) else {
                let shown: String = name.chars().take(MAX_SHOWN).collect();
                return Err(Fault::invalid_args(format!(
                    "there is no option '{shown}': there are {}",
                    known.join(", ")
                )));
            };
            entry.next();
            let mut value = entry.recurse(ArgType::Variant).ok_or_else(wrong)?;
            read.choose(name, &mut value, &mut chosen)?;
            entries.next();
        }
        read.policy = slow_consumer(chosen.policy, chosen.keep)?;
        Ok(read)
    }

    fn choose<'a>(&mut self, name: &str, value: &mut Iter<'a>, chosen: &mut Chosen<'a>) -> Result<(), Fault> {
        let wrong = |value: &mut Iter<'_>| {
            let (needed, given) = (signature(name), value.signature());
            Fault::invalid_args(format!("the option '{name}' is '{needed}', not '{}'", &*given))
        };
        match name {
            TIMEOUT_MS => self.timeout_ms = Some(value.get().ok_or_else(|| wrong(value))?),
            PRIORITY => self.priority = priority(value.get().ok_or_else(|| wrong(value))?)?,
            JSON => self.json = value.get().ok_or_else(|| wrong(value))?,
            POLICY => chosen.policy = Some(value.get().ok_or_else(|| wrong(value))?),
            _ => chosen.keep = Some(value.get().ok_or_else(|| wrong(value))?),
        }
        Ok(())
    }

    /// As a message has them; it wants an answer.
    pub(crate) fn flags(self) -> MessageFlags {
        MessageFlags {
            requires_response: true,
            priority: self.priority,
            timeout_ms: self.timeout_ms,
            ..MessageFlags::NONE
        }
    }
}

/// What makes a policy.
#[derive(Default)]
struct Chosen<'a> {
    policy: Option<&'a str>,
    keep: Option<u32>,
}

fn signature(name: &str) -> &'static str {
    match name {
        TIMEOUT_MS | KEEP => "u",
        JSON => "b",
        _ => "s",
    }
}

fn priority(name: &str) -> Result<MessagePriority, Fault> {
    Ok(match name {
        "low" => MessagePriority::Low,
        "normal" => MessagePriority::Normal,
        "high" => MessagePriority::High,
        "critical" => MessagePriority::Critical,
        _ => return Err(Fault::invalid_args("the option 'priority' is low, normal, high or critical")),
    })
}

fn slow_consumer(policy: Option<&str>, keep: Option<u32>) -> Result<SlowConsumer, Fault> {
    match (policy, keep) {
        (None, None) => Ok(SlowConsumer::default()),
        (Some("latest"), None) => Ok(SlowConsumer::Latest),
        (Some("disconnect"), None) => Ok(SlowConsumer::Disconnect),
        (Some("drop_oldest") | None, Some(count)) => Ok(SlowConsumer::DropOldest(count)),
        (Some("drop_oldest"), None) => Ok(SlowConsumer::default()),
        (Some("latest" | "disconnect"), Some(_)) => {
            Err(Fault::invalid_args("the option 'keep' goes with the policy drop_oldest alone"))
        }
        _ => Err(Fault::invalid_args("the option 'policy' is latest, drop_oldest or disconnect")),
    }
}

/// How long an answer may take, in milliseconds.
pub(crate) const TIMEOUT_MS: &str = "timeout_ms";
/// What goes first.
pub(crate) const PRIORITY: &str = "priority";
/// Whether payloads are texts in JSON.
pub(crate) const JSON: &str = "json";
/// What a subscriber gets that does not keep up.
pub(crate) const POLICY: &str = "policy";
/// How many notifications `drop_oldest` keeps.
pub(crate) const KEEP: &str = "keep";
/// Options in one call.
const MAX_OPTIONS: usize = 16;
/// Characters of a name in an error.
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use dbus::Message;
    use dbus::arg::messageitem::MessageItem;

    use super::*;
    use crate::router::items::{self, details, text};
    use crate::types::append;

    fn read(options: MessageItem, known: &[&str]) -> Result<Options, Fault> {
        let mut call = Message::new_method_call("a.b", "/", "a.b", "C").unwrap();
        append(&mut call, &[options]).unwrap();
        Options::read(&mut call.iter_init(), known)
    }

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        let fault = read(details([("timeout", MessageItem::UInt32(5))]), &[TIMEOUT_MS, JSON]).unwrap_err();
        assert_eq!(fault, Fault::invalid_args("there is no option 'timeout': there are timeout_ms, json"));
        let long = "x".repeat(1 << 20);
        assert!(read(details([(long, MessageItem::UInt32(5))]), &[JSON]).unwrap_err().text.len() < 200);
    }

    #[test]
    fn more_options_than_there_are_are_refused() {
        let many = (0..=MAX_OPTIONS).map(|_| (JSON, MessageItem::Bool(true)));
        assert!(read(details(many.clone().skip(1)), &[JSON]).is_ok());
        assert!(read(details(many), &[JSON]).unwrap_err().text.contains("more than 16"));
    }

    #[test]
    fn an_option_of_another_type_or_value_is_refused() {
        let all = [TIMEOUT_MS, PRIORITY, JSON, POLICY, KEEP];
        let wrong = |name: &str, value| read(details([(name, value)]), &all).unwrap_err().text;
        assert_eq!(wrong(TIMEOUT_MS, MessageItem::Int32(5)), "the option 'timeout_ms' is 'u', not 'i'");
        assert_eq!(wrong(JSON, items::bytes(&[1])), "the option 'json' is 'b', not 'ay'");
        assert!(wrong(PRIORITY, text("urgent")).contains("low, normal"));
        assert!(wrong(POLICY, text("newest")).contains("latest, drop_oldest"));
        assert!(read(details([(POLICY, text("latest")), (KEEP, MessageItem::UInt32(3))]), &all).is_err());
        assert!(read(text(""), &all).is_err());
    }

    #[test]
    fn options_become_flags_and_a_policy() {
        let given = details([
            (TIMEOUT_MS, MessageItem::UInt32(70)),
            (PRIORITY, text("high")),
            (KEEP, MessageItem::UInt32(3)),
        ]);
        let options = read(given, &[TIMEOUT_MS, PRIORITY, KEEP]).unwrap();
        assert_eq!(options.policy, SlowConsumer::DropOldest(3));
        let flags = options.flags();
        assert_eq!(
            (flags.timeout_ms, flags.priority, flags.requires_response),
            (Some(70), MessagePriority::High, true)
        );
    }
}
