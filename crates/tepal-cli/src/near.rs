//! The name that was meant.

/// The nearest of `names` to a word that is none of them, if one is near enough: two slips, or one
/// in a short word.
pub(crate) fn near<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if word.chars().count() < 4 { 1 } else { 2 };
    let distances = names.into_iter().map(|name| (distance(word, name), name));
    let begins = |name: &str| word.len() >= 3 && name.starts_with(word);
    let near = distances.filter(|(distance, name)| *distance <= most || begins(name));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How that is said behind an error.
pub(crate) fn suggestion<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match near(word, names) {
        Some(name) => format!("; did you mean '{name}'?"),
        None => String::new(),
    }
}

// Letters that are wrong, too many or missing (Levenshtein); two swapped ones count as one slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_another_word_finds_none() {
        let names = ["tcp", "tls", "socks5", "http-connect", "danger-trust-all"];
        assert_eq!(near("tsl", names), Some("tls"));
        assert_eq!(near("sock5", names), Some("socks5"));
        assert_eq!(near("danger", names), Some("danger-trust-all"));
        assert_eq!(near("http_conect", names), Some("http-connect"));
        assert_eq!(near("udp", ["tcp", "unix"]), None);
        assert_eq!(near("", names), None);
        assert_eq!(near("smtp", names), None);
    }
}
