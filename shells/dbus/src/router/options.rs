//! The `options` that the bridge's methods take. An unknown one is refused by name: who misspells one must not believe
//! that it counts.

use dbus::arg::messageitem::MessageItem;
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
    /// Reads an `a{sv}`, of which a method knows the options `known`.
    ///
    /// # Errors
    /// One is unknown, of the wrong type, or has no such value: the text names it.
    pub(crate) fn read(options: Option<&MessageItem>, known: &[&str]) -> Result<Self, Fault> {
        let Some(MessageItem::Dict(entries)) = options else {
            return Err(Fault::invalid_args("the options are a dictionary a{sv}"));
        };
        let mut read = Self::default();
        let (mut policy, mut keep) = (None, None);
        for (name, value) in entries.iter() {
            let (MessageItem::Str(name), MessageItem::Variant(value)) = (name, value) else { continue };
            if !known.contains(&name.as_str()) {
                return Err(Fault::invalid_args(format!(
                    "there is no option '{name}': there are {}",
                    known.join(", ")
                )));
            }
            match (name.as_str(), value.as_ref()) {
                (TIMEOUT_MS, MessageItem::UInt32(timeout)) => read.timeout_ms = Some(*timeout),
                (PRIORITY, MessageItem::Str(name)) => read.priority = priority(name)?,
                (JSON, MessageItem::Bool(json)) => read.json = *json,
                (POLICY, MessageItem::Str(name)) => policy = Some(name.clone()),
                (KEEP, MessageItem::UInt32(count)) => keep = Some(*count),
                (name, value) => {
                    let (needed, given) = (signature(name), value.signature());
                    return Err(Fault::invalid_args(format!(
                        "the option '{name}' is '{needed}', not '{given}'"
                    )));
                }
            }
        }
        read.policy = slow_consumer(policy.as_deref(), keep)?;
        Ok(read)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::items::{details, text};

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        let given = details([("timeout", MessageItem::UInt32(5))]);
        let fault = Options::read(Some(&given), &[TIMEOUT_MS, JSON]).unwrap_err();
        assert_eq!(fault, Fault::invalid_args("there is no option 'timeout': there are timeout_ms, json"));
    }

    #[test]
    fn an_option_of_another_type_or_value_is_refused() {
        let all = [TIMEOUT_MS, PRIORITY, JSON, POLICY, KEEP];
        let wrong =
            |name: &str, value| Options::read(Some(&details([(name, value)])), &all).unwrap_err().text;
        assert_eq!(wrong(TIMEOUT_MS, MessageItem::Int32(5)), "the option 'timeout_ms' is 'u', not 'i'");
        assert!(wrong(PRIORITY, text("urgent")).contains("low, normal"));
        assert!(wrong(POLICY, text("newest")).contains("latest, drop_oldest"));
        let both = details([(POLICY, text("latest")), (KEEP, MessageItem::UInt32(3))]);
        assert!(Options::read(Some(&both), &all).is_err());
        assert!(Options::read(Some(&text("")), &all).is_err());
    }

    #[test]
    fn options_become_flags_and_a_policy() {
        let given = details([
            (TIMEOUT_MS, MessageItem::UInt32(70)),
            (PRIORITY, text("high")),
            (KEEP, MessageItem::UInt32(3)),
        ]);
        let options = Options::read(Some(&given), &[TIMEOUT_MS, PRIORITY, KEEP]).unwrap();
        assert_eq!(options.policy, SlowConsumer::DropOldest(3));
        let flags = options.flags();
        assert_eq!(
            (flags.timeout_ms, flags.priority, flags.requires_response),
            (Some(70), MessagePriority::High, true)
        );
    }
}
