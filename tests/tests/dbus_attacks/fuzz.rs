//! Every member of every interface of every object, found as a program finds them, called with arguments made by chance:
//! of the right types, and of wrong ones. Each call is answered, nothing breaks, and others are served meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dbus::Message;
use dbus::arg::messageitem::{MessageItem, MessageItemArray, MessageItemDict};
use dbus::strings::Signature;
use visorbus_tests::dbus_daemon::DbusDaemon;

use crate::program::Program;
use crate::world::{SERVICE, Setup, World};

#[test]
fn every_method_takes_whatever_it_is_called_with() {
    let mut chance = Chance(0x5eed_0006);
    for bus in [Some(DbusDaemon::start()), DbusDaemon::broker()].into_iter().flatten() {
        // Whoever calls may do everything: the more is reached.
        let world =
            World::of(Setup { bus, allow: "\"*\", \"imu.control\"", ..Setup::default() }).with_sensor();
        let program = world.program();
        let (mut calls, mut good) = (0, 0);
        let members = members(&program);
        assert!(members.len() > 40, "{members:?}");
        for (path, interface, member, signature) in &members {
            // `Wait` waits for its test, and tokens are made by chance elsewhere.
            if member == "Wait" {
                continue;
            }
            for round in 0..ROUNDS {
                let signature = match round % 4 {
                    0 | 1 => signature.clone(),
                    2 => mutated(signature, &mut chance),
                    _ => chance.signature(),
                };
                let mut call =
                    Message::new_method_call(SERVICE, path.as_str(), interface.as_str(), member.as_str())
                        .unwrap();
                call.append_items(&chance.arguments(&signature));
                if chance.below(5) == 0 {
                    call = without_interface(&call, path, member, &signature, &mut chance);
                }
                let begun = Instant::now();
                let answer = program.answer(program.send(call));
                calls += 1;
                good += usize::from(answer.is_ok());
                assert!(
                    begun.elapsed() < Duration::from_secs(8),
                    "{path} {interface}.{member} '{signature}'"
                );
            }
            world.serves_neighbours();
        }
        // Properties too, those that there are and others.
        for name in ["Volume", "Code", "Subject", "Version", "Name", "Addresses", "", "\u{1f600}"] {
            for (path, interface) in
                members.iter().map(|(path, interface, ..)| (path, interface)).collect::<BTreeSet<_>>()
            {
                let value = chance.signature_of_one();
                let value = MessageItem::Variant(Box::new(chance.value(&value, 0)));
                let properties = "org.freedesktop.DBus.Properties";
                let args = [interface.as_str().into(), name.into()];
                let _ = program.call_at(path, properties, "Get", &args);
                let _ = program.call_at(path, properties, "Set", &[args[0].clone(), args[1].clone(), value]);
                let _ = program.call_at(path, properties, "GetAll", &args[..1]);
                calls += 3;
            }
        }
        let stats = world.statistics();
        eprintln!(
            "{calls} calls of {} members on {:?}, {good} of them answered well",
            members.len(),
            world.bus.program()
        );
        assert_eq!((stats.faults, stats.connects, stats.waiting), (0, 1, 0), "{stats:?}");
        assert!(good > calls / 20, "{good} of {calls}");
        world.serves_neighbours();
        // Its signals were thrown away all the while; another begins anew.
        drop(program);
        assert_eq!(world.program().call_address("vault/open", "x").as_deref(), Ok("x"));
    }
}

/// The fuzzer of others, where it is: few distributions have it.
#[test]
fn dfuzzer_finds_nothing() {
    if std::process::Command::new("dfuzzer").arg("--version").output().is_err() {
        eprintln!("left out: there is no dfuzzer; the fuzzer of these tests stands in for it");
        return;
    }
    let world = World::allowing("\"*\", \"imu.control\"").with_sensor();
    let mut command = world.bus.command("dfuzzer");
    let ran = command
        .args(["-v", "-n", SERVICE, "-b", "1000"])
        .env("DFUZZER_LOG", world.bus.home())
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains("FAIL"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(world.statistics().faults, 0);
    world.serves_neighbours();
}

/// All methods that can be found from the top: path, interface, name, signature of the arguments.
fn members(program: &Program) -> Vec<(String, String, String, String)> {
    let mut found = Vec::new();
    let mut paths = vec!["/".to_owned()];
    while let Some(path) = paths.pop() {
        let described =
            program.call_at(&path, "org.freedesktop.DBus.Introspectable", "Introspect", &[]).unwrap();
        let [MessageItem::Str(xml)] = described.as_slice() else { panic!("{described:?}") };
        let (mut interface, mut method) = (String::new(), None::<(String, String)>);
        for tag in xml.split('<') {
            let name = attribute(tag, "name");
            match tag.split([' ', '>', '/']).next().unwrap_or_default() {
                "node" if !name.is_empty() => {
                    paths.push(format!("{}/{name}", path.trim_end_matches('/')));
                }
                "interface" => interface = name,
                "method" => match tag.contains("/>") {
                    true => found.push((path.clone(), interface.clone(), name, String::new())),
                    false => method = Some((name, String::new())),
                },
                "arg" if attribute(tag, "direction") != "out" => {
                    if let Some((_, signature)) = &mut method {
                        signature.push_str(&attribute(tag, "type"));
                    }
                }
                // The end of an element begins with a slash.
                "" if tag.starts_with("/method") => {
                    let (name, signature) = method.take().expect("a method ends that has begun");
                    found.push((path.clone(), interface.clone(), name, signature));
                }
                _ => {}
            }
        }
    }
    found
}

fn attribute(tag: &str, name: &str) -> String {
    let value = tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.map_or_else(String::new, |(value, _)| value.to_owned())
}

fn without_interface(
    call: &Message,
    path: &str,
    member: &str,
    signature: &str,
    chance: &mut Chance,
) -> Message {
    drop(call.get_items());
    let mut bare = Message::new_method_call(SERVICE, path, "a.b", member).unwrap();
    bare.set_auto_start(false);
    bare.append_items(&chance.arguments(signature));
    bare
}

/// A signature with something exchanged, left out or added.
fn mutated(signature: &str, chance: &mut Chance) -> String {
    let mut all: Vec<String> = split(signature);
    let one = chance.signature_of_one();
    match chance.below(3) {
        0 if !all.is_empty() => {
            let at = chance.below(all.len());
            all[at] = one;
        }
        1 if !all.is_empty() => {
            all.pop();
        }
        _ => all.push(one),
    }
    all.concat()
}

/// The complete types of a signature.
fn split(signature: &str) -> Vec<String> {
    let (mut all, mut rest) = (Vec::new(), signature);
    while !rest.is_empty() {
        let len = length_of_one(rest);
        all.push(rest[..len].to_owned());
        rest = &rest[len..];
    }
    all
}

fn length_of_one(signature: &str) -> usize {
    match signature.as_bytes()[0] {
        b'a' => 1 + length_of_one(&signature[1..]),
        b'(' | b'{' => {
            let mut depth = 0;
            let end = signature.bytes().position(|byte| {
                depth += i32::from(b"({".contains(&byte)) - i32::from(b")}".contains(&byte));
                depth == 0
            });
            end.expect("what opens closes") + 1
        }
        _ => 1,
    }
}

/// Numbers that look random, the same ones every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn signature_of_one(&mut self) -> String {
        const SOME: [&str; 24] = [
            "y",
            "b",
            "n",
            "q",
            "i",
            "u",
            "x",
            "t",
            "d",
            "s",
            "o",
            "g",
            "v",
            "as",
            "ay",
            "av",
            "aas",
            "a{sv}",
            "a{is}",
            "(si)",
            "(s(uv))",
            "a(sa{sv})",
            "aaaaai",
            "((((((((y))))))))",
        ];
        SOME[self.below(SOME.len())].to_owned()
    }

    fn signature(&mut self) -> String {
        (0..self.below(5)).map(|_| self.signature_of_one()).collect()
    }

    fn arguments(&mut self, signature: &str) -> Vec<MessageItem> {
        split(signature).iter().map(|one| self.value(one, 0)).collect()
    }

    fn text(&mut self) -> String {
        const SOME: [&str; 20] = [
            "",
            "x",
            "vault/open",
            "vault/**",
            "imu/sample",
            "imu/set-rate",
            "bus/services",
            "bus/hello",
            "bus/subscribe",
            "**",
            "*",
            "org.example.Settings1",
            "org.visorbus.Bus1",
            "Volume",
            "vb1.AAAA",
            "{}",
            "null",
            "\u{1f600}\u{0301}",
            "%s%n",
            "../../etc",
        ];
        match self.below(8) {
            0 => "a".repeat(self.below(5000)),
            1 => {
                char::from_u32(self.below(0x1_0000) as u32).filter(|c| *c != '\0').unwrap_or('?').to_string()
            }
            _ => SOME[self.below(SOME.len())].to_owned(),
        }
    }

    fn value(&mut self, signature: &str, depth: usize) -> MessageItem {
        let number = match self.below(3) {
            0 => 0,
            1 => u64::MAX,
            _ => self.next(),
        };
        match signature.as_bytes()[0] {
            b'y' => MessageItem::Byte(number as u8),
            b'b' => MessageItem::Bool(number & 1 == 1),
            b'n' => MessageItem::Int16(number as i16),
            b'q' => MessageItem::UInt16(number as u16),
            b'i' => MessageItem::Int32(number as i32),
            b'u' => MessageItem::UInt32(number as u32),
            b'x' => MessageItem::Int64(number as i64),
            b't' => MessageItem::UInt64(number),
            b'd' => MessageItem::Double(f64::from_bits(number)),
            b's' => MessageItem::Str(self.text()),
            b'o' => MessageItem::ObjectPath("/org/visorbus/Bus1".into()),
            b'g' => MessageItem::Signature(Signature::from("a{sv}")),
            b'v' => {
                let inner = if depth > 9 { "y".to_owned() } else { self.signature_of_one() };
                MessageItem::Variant(Box::new(self.value(&inner, depth + 1)))
            }
            b'(' => {
                let fields = split(&signature[1..signature.len() - 1]);
                MessageItem::Struct(fields.iter().map(|field| self.value(field, depth + 1)).collect())
            }
            b'a' => {
                let count = if depth > 4 { 0 } else { self.below(4) };
                match signature.as_bytes()[1] {
                    b'{' => {
                        let types = split(&signature[2..signature.len() - 1]);
                        let pairs = (0..count)
                            .map(|_| (self.value(&types[0], depth + 1), self.value(&types[1], depth + 1)));
                        let pairs = pairs.collect();
                        let [key, value] =
                            [&types[0], &types[1]].map(|one| Signature::new(one.as_str()).unwrap());
                        MessageItem::Dict(MessageItemDict::new(pairs, key, value).unwrap())
                    }
                    _ => {
                        let values = (0..count).map(|_| self.value(&signature[1..], depth + 1)).collect();
                        let signature = Signature::new(signature).unwrap();
                        MessageItem::Array(MessageItemArray::new(values, signature).unwrap())
                    }
                }
            }
            other => panic!("{}", other as char),
        }
    }
}

const ROUNDS: usize = 24;
