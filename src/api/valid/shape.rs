//! Shapes of texts: what is allowed, never what is not.

/// What an API server gives as UID; it goes into labels, names and certificates.
pub(super) fn is_uid(text: &str) -> bool {
    let hex = text.bytes().filter(u8::is_ascii_hexdigit).count();
    (10..=63).contains(&text.len())
        && hex >= 10
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// One DNS label: lower-case letters, digits and dashes inside.
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between.
pub fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// `name@sha256:` and 64 hex digits.
pub(super) fn is_image_by_digest(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else {
        return false;
    };
    let name_is_sound = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./:_-".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    name_is_sound
        && digest.len() == 64
        && digest
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Something visible, in one line, and not longer than this many characters.
pub(super) fn is_one_line(text: &str, longest: usize) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= longest
        && !text.chars().any(char::is_control)
}

/// A local part and a domain, in visible ASCII.
pub(super) fn is_email(text: &str) -> bool {
    let domain = text
        .split_once('@')
        .filter(|(local, _)| !local.is_empty())
        .map(|(_, domain)| domain);
    text.len() <= 254
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && domain.is_some_and(|domain| is_dns_name(&domain.to_ascii_lowercase()))
}
