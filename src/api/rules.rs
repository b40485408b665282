//! The rules of both resources, in CEL, so that the API server and `granary validate` apply the same text.
//!
//! Texts are matched whole, against what is allowed rather than what is not: a newline, a quote, a `$(` or a
//! letter that only looks Latin has no place in a name, an address or a quantity. Every text has a length
//! limit in the schema, which keeps the rules within the API server's cost budget.

use kube::core::Rule;

use super::catalog::PLAN_CATALOG;
use super::duration;

/// Longest name of a tenant or a plan: one DNS label.
pub const NAME_MAX: usize = 63;

/// One DNS label that starts with a letter.
const LABEL: &str = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";

/// Labels with dashes in third and fourth place (`xn--…`) stand for letters of other alphabets.
const DISGUISED: &str = "^..--";

/// A lower-case domain name of two labels or more, the last with a letter first: no address, no wildcard, no
/// trailing dot. An internationalised name is given in its `xn--` form.
const DOMAIN: &str = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])$";

/// One part of the path of an image.
const IMAGE_PART: &str = "[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*";

/// An email address: unquoted, with a domain of two labels or more.
const EMAIL: &str = "^[A-Za-z0-9_+-]+([.][A-Za-z0-9_+-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])$";

/// Control characters, line and paragraph separators, and marks that reverse the direction of text.
const UNPRINTABLE: &str =
    r"[\\p{Cc}\\p{Zl}\\p{Zp}\\x{200E}\\x{200F}\\x{202A}-\\x{202E}\\x{2066}-\\x{2069}\\x{FEFF}]";

/// `metadata.name` of a tenant.
pub(super) fn tenant_name() -> Rule {
    resource_name("the name becomes the subdomain")
}

/// `metadata.name` of a plan.
pub(super) fn plan_name() -> Rule {
    resource_name("tenants name their plan by it")
}

/// `metadata.name` of the catalogue of plans, of which there is one.
pub(super) fn catalog_name() -> Rule {
    Rule::new(format!("self.metadata.name == '{PLAN_CATALOG}'"))
        .message(format!("metadata.name must be {PLAN_CATALOG}: there is one catalogue, and the operator keeps it").as_str())
        .field_path(".metadata.name")
}

/// Past the point of no return a tenant stays offboarded. The phase is there before anything is destroyed.
pub(super) fn no_return() -> Rule {
    Rule::new("oldSelf.spec.state != 'Offboarded' || self.spec.state == 'Offboarded' || !has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Shredding', 'Shredded'])")
        .message("state cannot be changed any more: the tenant's key and data are being destroyed, or are gone; onboard it anew")
        .field_path(".spec.state")
}

fn resource_name(why: &str) -> Rule {
    Rule::new(format!("{} && self.metadata.name.size() <= {NAME_MAX}", is_label("self.metadata.name")))
        .message(
            format!("metadata.name must be a DNS label: at most {NAME_MAX} of a-z, 0-9 and '-', a letter first, no '-' last, no '--' in third and fourth place; {why}")
                .as_str(),
        )
        .field_path(".metadata.name")
}

fn is_label(subject: &str) -> String {
    format!("{subject}.matches('{LABEL}') && !{subject}.matches('{DISGUISED}')")
}

/// A reference to a plan.
pub(super) fn plan_reference() -> Rule {
    Rule::new(is_label("self"))
        .message("must be the name of a Plan (a DNS label such as 'standard')")
}

/// A single line that a person can read and that no shell, template or environment expands.
pub(super) fn single_line() -> Rule {
    Rule::new(format!("!self.matches('{UNPRINTABLE}')"))
        .message("must be one line without control characters or marks that reverse text")
}

/// Kubernetes replaces `$(NAME)` in the environment of a container.
pub(super) fn no_expansion() -> Rule {
    Rule::new("!self.contains('$(')").message("must not contain '$(', which would be expanded")
}

/// No white space at the ends.
pub(super) fn trimmed() -> Rule {
    Rule::new("self.trim() == self && self.trim() != ''")
        .message("must not be blank, and must not begin or end with white space")
}

/// The email address of a person.
pub(super) fn email() -> Rule {
    Rule::new(format!("self.matches('{EMAIL}')"))
        .message("must be an email address such as ops@acme.example")
}

/// A recipient of age, whose alphabet is that of Bech32.
pub(super) fn recipient() -> Rule {
    Rule::new("self.matches('^age1[ac-hj-np-z02-9]{58}$')").message(
        "must be an X25519 recipient of age: age1 and 58 characters, as age-keygen prints it",
    )
}

/// An image by digest.
pub(super) fn image() -> Rule {
    Rule::new(format!("self.matches('^([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{{1,5}})?/)?{IMAGE_PART}(/{IMAGE_PART})*(:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?@sha256:[0-9a-f]{{64}}$')"))
        .message("must be an image by digest: name@sha256: and 64 hex digits in lower case")
}

/// Custom domains, each valid; the list type refuses duplicates.
pub(super) fn domains() -> Rule {
    Rule::new(format!("self.all(d, d.matches('{DOMAIN}'))"))
        .message("every entry must be a domain name in lower case such as books.acme.example: no trailing dot, no wildcard, no address")
}

/// A field that keeps the value it was created with. `why` completes "cannot be changed: ".
pub(super) fn immutable(why: &str) -> Rule {
    Rule::new("self == oldSelf").message(format!("cannot be changed: {why}").as_str())
}

/// CPU in millicores.
pub(super) fn cpu() -> Rule {
    quantity("^[1-9][0-9]{0,5}m$", "10m", "64000m", "CPU in millicores")
}

/// Memory of at least `min`.
pub(super) fn memory(min: &str) -> Rule {
    quantity(
        "^[1-9][0-9]{0,5}(Mi|Gi)$",
        min,
        "512Gi",
        "memory in Mi or Gi",
    )
}

/// Size of a volume.
pub(super) fn storage() -> Rule {
    quantity(
        "^[1-9][0-9]{0,5}(Mi|Gi|Ti)$",
        "64Mi",
        "16Ti",
        "storage in Mi, Gi or Ti",
    )
}

fn quantity(form: &str, min: &str, max: &str, what: &str) -> Rule {
    Rule::new(format!(
        "self.matches('{form}') && quantity(self).compareTo(quantity('{min}')) >= 0 && quantity(self).compareTo(quantity('{max}')) <= 0"
    ))
    .message(format!("must be {what}, a whole number from {min} to {max}").as_str())
}

/// A volume cannot become smaller.
pub(super) fn grows() -> Rule {
    Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0")
        .message("cannot be lowered: a volume does not shrink; make another Plan")
}

/// The storage class of volumes that exist cannot change.
pub(super) fn storage_class_stays() -> Rule {
    Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName cannot be changed: volumes keep their class; make another Plan")
        .field_path(".storageClassName")
}

/// Name of a storage class: a DNS subdomain.
pub(super) fn storage_class() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')")
        .message("must be the name of a StorageClass: a-z, 0-9, '-' and '.'")
}

/// A cron line of five fields, numbers only: minute, hour, day of the month, month, day of the week.
pub(super) fn schedule() -> Rule {
    let fields = [
        "[0-5]?[0-9]",
        "([01]?[0-9]|2[0-3])",
        "(0?[1-9]|[12][0-9]|3[01])",
        "(0?[1-9]|1[0-2])",
        "[0-7]",
    ]
    .map(|n| {
        let item = format!("([*]|{n}(-{n})?)(/[1-9][0-9]?)?");
        format!("{item}(,{item})*")
    });
    Rule::new(format!("self.matches('^{}$')", fields.join(" ")))
        .message("must be a cron line of five fields in numbers, one space between them: minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7 (UTC); for example '30 2 * * *'")
}

/// A range of a cron line runs upwards.
pub(super) fn schedule_ranges() -> Rule {
    Rule::new("self.findAll('[0-9]{1,2}-[0-9]{1,2}').all(r, int(r.split('-')[0]) <= int(r.split('-')[1]))")
        .message("has a range that runs backwards, such as 5-1")
}

/// The age at which keys are replaced.
pub(super) fn rotation_age() -> Rule {
    period("1h", "3650d")
}

/// How long an offboarded tenant can come back.
pub(super) fn grace_period() -> Rule {
    period("0s", "90d")
}

/// A duration of one unit, from `min` to `max`.
fn period(min: &str, max: &str) -> Rule {
    let seconds = |text: &str| duration::parse(text).unwrap_or_default().as_secs();
    let (form, least, most) = (duration::FORM, seconds(min), seconds(max));
    let unit =
        "(self.endsWith('d') ? 86400 : self.endsWith('h') ? 3600 : self.endsWith('m') ? 60 : 1)";
    let value = format!("int(self.substring(0, self.size() - 1)) * {unit}");
    Rule::new(format!(
        "self.matches('{form}') && {value} >= {least} && {value} <= {most}"
    ))
    .message(
        format!("must be a duration of one unit (s, m, h or d) from {min} to {max}, such as 90d")
            .as_str(),
    )
}
