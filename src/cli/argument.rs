//! What the command line's values must look like, so that nonsense is refused before any call.

use crate::api::valid::{is_dns_label, is_dns_name};

/// Longest name or value of a label.
const LABEL_MAX: usize = 63;

/// The name of a tenant that may exist. What a new one may be called is the API server's to say.
pub fn tenant(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("no tenant has such a name: it is 1 to 63 of a-z, 0-9 and '-'".to_owned())
    }
}

/// A label selector, by the grammar of Kubernetes.
pub fn selector(text: &str) -> Result<String, String> {
    let wrong = requirements(text)
        .into_iter()
        .find(|requirement| !is_requirement(requirement.trim()));
    match wrong {
        Some(wrong) if !text.trim().is_empty() => Err(format!(
            "{:?} asks nothing of a label; write key=value, key!=value, key, !key, key in (a,b) or key notin (a,b), with commas between several",
            wrong.trim()
        )),
        _ => Ok(text.to_owned()),
    }
}

/// The parts between commas, except those in parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut listing = false;
    text.split(|letter| {
        match letter {
            '(' => listing = true,
            ')' => listing = false,
            _ => {}
        }
        letter == ',' && !listing
    })
    .collect()
}

fn is_requirement(text: &str) -> bool {
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key.trim());
    }
    for operator in ["!=", "==", "="] {
        if let Some((key, value)) = text.split_once(operator) {
            return is_key(key.trim()) && is_value(value.trim());
        }
    }
    if let Some((key, number)) = text.split_once(['<', '>']) {
        return is_key(key.trim()) && number.trim().parse::<i64>().is_ok();
    }
    let Some((head, values)) = text.split_once('(') else {
        return is_key(text);
    };
    let Some((key, "in" | "notin")) = head.trim().rsplit_once(char::is_whitespace) else {
        return false;
    };
    values.strip_suffix(')').is_some_and(|values| {
        is_key(key.trim())
            && !values.trim().is_empty()
            && values.split(',').all(|value| is_value(value.trim()))
    })
}

/// `name` or `prefix.example/name`.
fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_value(name)
}

fn is_value(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("acme", true)]
    #[case("acme-2", true)]
    #[case("", false)]
    #[case("a b", false)]
    #[case("www/../x", false)]
    #[case("Acme", false)]
    fn names_are_labels(#[case] name: &str, #[case] fine: bool) {
        assert_eq!(tenant(name).is_ok(), fine);
    }

    #[rstest]
    #[case("")]
    #[case("tier=gold")]
    #[case("tier == gold , !legacy")]
    #[case("tier=")]
    #[case("example.org/tier!=gold,region")]
    #[case("tier in (gold, silver),region notin(eu)")]
    #[case("size>3")]
    fn selectors_are_taken(#[case] text: &str) {
        assert_eq!(selector(text).as_deref(), Ok(text));
    }

    #[rstest]
    #[case("bad==x=y")]
    #[case("tier gold")]
    #[case("tier=gold,")]
    #[case("tier in ()")]
    #[case("tier in (gold")]
    #[case("tier within (gold)")]
    #[case("!tier=gold")]
    #[case("-tier")]
    #[case("a/b/c=d")]
    #[case("size>big")]
    fn nonsense_is_refused(#[case] text: &str) {
        let error = selector(text).expect_err(text);
        assert!(error.contains("key=value"), "{error}");
    }
}
