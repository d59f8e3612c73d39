//! Calls with arguments by chance, to a hub that answers by chance: each has exactly one reply, and nothing panics.

use super::*;
use crate::types::signature_of;

#[test]
fn whatever_is_called_and_answered_every_call_has_one_reply() {
    let mut chance = Chance(7);
    let mut bench = Bench::with_imu();
    let fixed = fixed::ROOT
        .iter()
        .map(|fixed| (ROOT, fixed))
        .chain(fixed::OF_COMPONENT.iter().map(|fixed| (IMU, fixed)));
    let methods: Vec<_> = fixed
        .flat_map(|(path, fixed)| {
            fixed.methods.iter().map(move |method| (path, fixed.name, method.name, method.signature()))
        })
        .chain([
            (IMU, IMU_INTERFACE, "SetRate", "us".to_owned()),
            (IMU, IMU_INTERFACE, "Raw", "v".to_owned()),
        ])
        .collect();
    bench.answer("authenticate", Ok(OwnedPayload::Empty));
    for round in 0..3_000 {
        let (path, interface, member, signature) = &methods[chance.below(methods.len())];
        let args = match chance.below(8) {
            0 => vec![chance.item(3)],
            _ => chance.of(signature),
        };
        if signature_of(&args).is_err() {
            continue;
        }
        if round % 3 == 0 {
            for address in
                [bus::INTERFACES, bus::SCHEMA, bus::SERVICES, bus::SUBSCRIBE, "imu/set-rate", "imu/raw"]
            {
                let outcome = chance.outcome();
                bench.answer(address, outcome);
            }
        }
        if round % 50 == 0 {
            bench.offer(vec![imu()]);
            bench.change_types();
        }
        let reply = bench.call(path, interface, member, &args);
        assert!(matches!(reply.kind, MessageType::MethodReturn | MessageType::Error), "{reply:?}");
    }
}

#[test]
fn notifications_by_chance_become_signals_or_nothing() {
    let mut chance = Chance(11);
    let mut bench = Bench::with_imu();
    bench.call(ROOT, fixed::OBJECT_MANAGER, "GetManagedObjects", &[]);
    bench.bridge("Subscribe", &[text("**"), no_options()]).values();
    bench.call(IMU, fixed::COMPONENT, "Subscribe", &[text("imu/samples")]).values();
    for round in 0..2_000 {
        if round % 20 == 0 {
            bench.change_types();
            match chance.below(2) {
                0 => bench.tell_types("imu/samples", Sample::SCHEMA, <()>::SCHEMA),
                _ => {
                    let outcome = chance.outcome();
                    bench.answer(bus::SCHEMA, outcome);
                }
            }
        }
        let topics = ["imu/samples", bus::SERVICES_CHANGED, bus::MISSED, bus::REVOKED, "x/y"];
        let payload = chance.outcome().unwrap_or_default();
        for signal in bench.notify(topics[chance.below(topics.len())], &payload) {
            assert_eq!((signal.kind, signal.to.as_str()), (MessageType::Signal, ":1.7"));
        }
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn text(&mut self) -> MessageItem {
        let known = [
            "",
            "imu",
            "imu/set-rate",
            "imu/samples",
            "**",
            "imu/*",
            BUS,
            fixed::COMPONENT,
            "Version",
            "Name",
            "bus/services",
            "no address",
            "ünï",
            "a\u{0}b",
            "vb1.AAAA",
            "org.freedesktop.DBus.Peer",
            "{}",
            "json",
            "policy",
        ];
        text(known[self.below(known.len())])
    }

    fn item(&mut self, depth: usize) -> MessageItem {
        match self.below(if depth == 0 { 7 } else { 10 }) {
            0 => MessageItem::Byte(self.next() as u8),
            1 => MessageItem::UInt32(self.next() as u32),
            2 => MessageItem::Bool(self.next().is_multiple_of(2)),
            3 => MessageItem::Double(f64::from_bits(self.next())),
            4 => items::bytes(&self.next().to_le_bytes()[..self.0 as usize % 9]),
            5 | 6 => self.text(),
            7 => items::variant(self.item(depth - 1)),
            8 => MessageItem::Struct(vec![self.item(depth - 1), self.item(depth - 1)]),
            _ => self.options(),
        }
    }

    fn options(&mut self) -> MessageItem {
        let names = ["json", "timeout_ms", "priority", "policy", "keep", "other"];
        let entries =
            (0..self.below(3)).map(|_| (names[self.below(names.len())], self.item(1))).collect::<Vec<_>>();
        items::details(entries)
    }

    /// Arguments of this signature.
    fn of(&mut self, signature: &str) -> Vec<MessageItem> {
        let one = |chance: &mut Self, ty: &str| match ty {
            "s" => chance.text(),
            "u" => MessageItem::UInt32(chance.next() as u32),
            "v" => items::variant(chance.item(3)),
            _ => chance.options(),
        };
        crate::types::split(signature).unwrap().into_iter().map(|ty| one(self, ty)).collect()
    }

    fn outcome(&mut self) -> Outcome {
        let bytes: Vec<u8> = (0..self.below(40)).map(|_| self.next() as u8 % 12).collect();
        match self.below(6) {
            0 => Err(Error::Message("no".to_owned())),
            1 => denied(),
            2 => Ok(OwnedPayload::String("x\0y".to_owned())),
            3 => Ok(OwnedPayload::Json("[1, null]".to_owned())),
            4 => Ok(OwnedPayload::Empty),
            _ => Ok(OwnedPayload::Binary(bytes)),
        }
    }
}
