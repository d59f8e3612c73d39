//! The right name that is nearest to a wrong one.

/// The one of `names` that somebody who wrote `wrong` has most likely meant; `None` when none is alike.
pub(crate) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    // What is compared costs the product of both lengths.
    let wrong: String = wrong.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.replace('-', "_")), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_several_alike_is_meant_and_of_none_alike_none() {
        let names = ["bind_address", "server_url", "path", "enabled"];
        for (wrong, right) in [
            ("bind_adress", Some("bind_address")),
            ("bind-address", Some("bind_address")),
            ("BIND_ADDRESS", Some("bind_address")),
            ("pathh", Some("path")),
            ("enable", Some("enabled")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, names).as_deref(), right, "{wrong}");
        }
        assert_eq!(nearest(&"a".repeat(1 << 20), names), None);
    }
}
