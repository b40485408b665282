//! Names no tenant can have, because the subdomain means something else to people, to mail or to Granary.

/// The names, sorted. The chart's value `admission.reservedNames` has the same list by default, and enforces it.
pub const RESERVED_NAMES: &[&str] = &[
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "auth",
    "autoconfig",
    "autodiscover",
    "billing",
    "blog",
    "broadcasthost",
    "cdn",
    "console",
    "dashboard",
    "default",
    "dns",
    "docs",
    "ftp",
    "grafana",
    "granary",
    "help",
    "hostmaster",
    "imap",
    "internal",
    "kube",
    "kubernetes",
    "localhost",
    "login",
    "mail",
    "metrics",
    "mx",
    "ns",
    "ns1",
    "ns2",
    "ns3",
    "ns4",
    "null",
    "pop",
    "pop3",
    "postmaster",
    "prometheus",
    "root",
    "security",
    "signin",
    "signup",
    "smtp",
    "sso",
    "static",
    "status",
    "support",
    "system",
    "webmail",
    "webmaster",
    "wpad",
    "www",
];

/// Prefixes no tenant's name can have. The chart's value `admission.reservedPrefixes` has the same list.
pub const RESERVED_PREFIXES: &[&str] = &["granary-", "kube-"];

/// Whether a tenant cannot have this name.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED_NAMES.contains(&name)
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}
