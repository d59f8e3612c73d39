//! What components and addresses of the hub are called on the bus: objects, interfaces and members.

use std::collections::HashMap;

/// The object path of a component, below the service's own: `/org/visorbus/Bus1/components/imu`.
pub(crate) fn object_path(root: &str, component: &str) -> String {
    let root = root.trim_end_matches('/');
    format!("{root}{COMPONENTS}{}", element(component))
}

/// The component whose object `path` is; `None` for any other path.
pub(crate) fn component_at(root: &str, path: &str) -> Option<String> {
    component(path.strip_prefix(root.trim_end_matches('/'))?.strip_prefix(COMPONENTS)?)
}

/// A component's name as an element of an object path: what is neither a letter nor a digit, and a digit at the front, as
/// `_` and two hex digits, as systemd writes unit names; an empty name as `_`.
pub(crate) fn element(component: &str) -> String {
    if component.is_empty() {
        return "_".to_owned();
    }
    let mut element = String::with_capacity(component.len());
    for (at, byte) in component.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => element.push(byte.into()),
            b'0'..=b'9' if at > 0 => element.push(byte.into()),
            _ => element.push_str(&format!("_{byte:02x}")),
        }
    }
    element
}

/// The component's name that an element stands for; `None` where no name is written like that.
pub(crate) fn component(escaped: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), escaped.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'_' if escaped == "_" => {}
            b'_' => {
                let (hex, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = after;
            }
            plain => bytes.push(*plain),
        }
    }
    // One object has one path: what is written otherwise than it would be is none.
    String::from_utf8(bytes).ok().filter(|name| element(name) == escaped)
}

/// The interface of what a component offers: `org.visorbus.components.LeftHand` for `left-hand`.
pub(crate) fn interface(component: &str) -> String {
    let name = camel(component);
    let front = if name.starts_with(|first: char| first.is_ascii_alphabetic()) { "" } else { "_" };
    format!("{INTERFACES}{front}{name}")
}

/// The members for the paths of a component's addresses, in their order: `SetRate` for `set-rate`, `AB` for `a/b`. `None`
/// for what has no name as a member, and for those that would have the same.
pub(crate) fn members(paths: &[&str]) -> Vec<Option<String>> {
    let names: Vec<Option<String>> = paths.iter().map(|path| member(path)).collect();
    let mut count: HashMap<String, usize> = HashMap::new();
    for name in names.iter().flatten() {
        *count.entry(name.clone()).or_default() += 1;
    }
    names.into_iter().map(|name| name.filter(|name| count[name] == 1)).collect()
}

/// The member for one path, were it alone.
pub(crate) fn member(path: &str) -> Option<String> {
    Some(camel(path)).filter(|name| is_member(name))
}

/// Whether `name` can be that of a member (D-Bus specification, "Member names").
pub(crate) fn is_member(name: &str) -> bool {
    name.len() <= MAX_NAME && is_word(name)
}

/// Whether `name` can be that of an interface (D-Bus specification, "Interface names").
pub(crate) fn is_interface(name: &str) -> bool {
    name.len() <= MAX_NAME && name.contains('.') && name.split('.').all(is_word)
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|first: char| first.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Every word with a capital in front, and nothing between them.
fn camel(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut camel = String::new();
    for word in words {
        let (first, rest) = word.split_at(1);
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(rest);
    }
    camel
}

/// Between the service's path and a component's element.
const COMPONENTS: &str = "/components/";
const INTERFACES: &str = "org.visorbus.components.";
/// Bytes of any name on the bus.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_components_name_comes_back_from_its_path_and_no_other_path_is_its() {
        let names = ["imu", "left-hand", "a.b_c", "3dof", "x9", "", "-", "_", "0", "a_2db", "ünï"];
        for name in names {
            let path = object_path("/org/visorbus/Bus1", name);
            assert!(dbus::Path::new(path.as_str()).is_ok(), "{path}");
            assert_eq!(component_at("/org/visorbus/Bus1", &path).as_deref(), Some(name), "{path}");
            assert_eq!(component_at("/", &object_path("/", name)).as_deref(), Some(name));
        }
        assert_eq!(object_path("/r", "left-hand"), "/r/components/left_2dhand");
        assert_eq!(element("3dof"), "_33dof");
        for wrong in
            ["left_2Dhand", "_61", "a_", "a_2", "a_zz", "a__", "_ff", "a_+1", "", "a-b", "a/b", "3dof"]
        {
            assert_eq!(component(wrong), None, "{wrong}");
        }
        assert_eq!(component_at("/r", "/r/componentsx/a"), None);
        assert_eq!(component_at("/r", "/rcomponents/a"), None);
        assert_eq!(component_at("/r", "/r/components"), None);
        assert_eq!(component_at("/r", "/r/components/"), None);
    }

    #[test]
    fn what_would_have_the_same_member_has_none() {
        let paths = ["set-rate", "a/b", "a-b", "3d", "x/3d", "", "-", "rate", "a.b"];
        let expected = [Some("SetRate"), None, None, None, Some("X3d"), None, None, Some("Rate"), None];
        let members = members(&paths);
        assert_eq!(members.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_component_has_an_interface_that_is_one() {
        for (component, name) in
            [("imu", "Imu"), ("left-hand", "LeftHand"), ("3dof", "_3dof"), ("-", "_"), ("", "_")]
        {
            let interface = interface(component);
            assert_eq!(interface, format!("org.visorbus.components.{name}"));
            assert!(is_interface(&interface));
        }
    }

    #[test]
    fn names_that_the_bus_would_refuse_are_none() {
        for wrong in ["", "3a", "a-b", "a.b", "a\0", "ä", &"a".repeat(256)] {
            assert!(!is_member(wrong), "{wrong}");
        }
        for wrong in ["", "a", "a..b", ".a", "a.", "a.3", "a.b-c", "a.b\0c", &"a.".repeat(200)] {
            assert!(!is_interface(wrong), "{wrong}");
        }
        assert!(is_member("_a9") && is_interface("a.b.C9_"));
    }
}
