//! Finds the known name that a mistyped one probably means. Pure.

/// The candidate nearest to `name`, if one is near enough to suggest.
///
/// Upper and lower case, `_` and `-` do not count: `firstname` and `first_name` both mean `firstName`.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name);
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&wanted, &folded(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        // Among equally near ones the first wins: `max_by` would choose the last.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_name_that_was_meant() {
        let keys = ["poll_interval", "lookback", "full_compare_interval"];
        assert_eq!(nearest("pol_interval", keys), Some("poll_interval"));
        assert_eq!(nearest("look_back", keys), Some("lookback"));
        assert_eq!(nearest("PollInterval", keys), Some("poll_interval"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("first_name", ["firstName", "lastName"]), Some("firstName"));
    }
}
