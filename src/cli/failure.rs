//! What a person reads when a command fails: what failed, on which object, why, and what to do next.

use kube::core::Status;
use kube::core::response::reason;

use super::exit::Exit;

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    exit: Exit,
    what: String,
    why: Vec<String>,
    next: Vec<String>,
}

impl Failure {
    /// A failure that ends with this code: what failed, and on which object.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Nobody reads the output any more (`granary list | head -1`): they have what they wanted, so it ends in
    /// silence.
    #[must_use]
    pub fn reader_left() -> Self {
        Self::new(Exit::Success, String::new())
    }

    /// Adds a reason.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Adds something to do next, best as a command to copy.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// The code that the process ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The reasons, most telling first.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.why
    }

    /// The whole text, as lines for stderr.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, &str)> {
        if self.what.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![("error", self.what.as_str())];
        lines.extend(self.why.iter().map(|why| ("why", why.as_str())));
        lines.extend(self.next.iter().map(|next| ("next", next.as_str())));
        lines
    }

    /// What the API server's or the client's error means for somebody who tried `what`
    /// (for example `cannot read tenant "acme"`).
    #[must_use]
    pub fn from_kube(what: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(what, status),
            kube::Error::SerdeError(source) => Self::new(Exit::Failure, what)
                .why(format!(
                    "the API server's answer could not be read: {source}"
                ))
                .next("granary doctor   # are the installed CRDs of this granary's version?"),
            kube::Error::Auth(source) => Self::new(Exit::Refused, what)
                .why(format!(
                    "could not log in to the cluster: {}",
                    root_cause(source)
                ))
                .next("kubectl auth whoami   # are the kubeconfig's credentials still valid?"),
            kube::Error::HyperError(_)
            | kube::Error::Service(_)
            | kube::Error::ReadEvents(_)
            | kube::Error::HttpError(_) => {
                Self::new(Exit::Unreachable, what).why(root_cause(error))
            }
            other => Self::new(Exit::Failure, what).why(root_cause(other)),
        }
    }

    /// What a status of the API server means for somebody who tried `what`.
    #[must_use]
    pub fn from_status(what: &str, status: &Status) -> Self {
        let causes = causes(status);
        let message = if causes.is_empty() {
            vec![readable(&status.message)]
        } else {
            causes
        };
        let explained = |exit| message.iter().fold(Self::new(exit, what), Self::why);
        let says = |reason: &str, code: u16| {
            status.reason == reason || (!reason::is_known(&status.reason) && status.code == code)
        };
        if says(reason::NOT_FOUND, 404) {
            if names_an_object(status) {
                return Self::new(Exit::NotFound, what).why("it does not exist");
            }
            return Self::new(Exit::NotFound, what)
                .why("the cluster does not know this kind of object")
                .next("granary doctor   # is Granary's chart installed?");
        }
        if says(reason::ALREADY_EXISTS, 409) || says(reason::CONFLICT, 409) {
            return explained(Exit::Conflict);
        }
        if says(reason::UNAUTHORIZED, 401) {
            return Self::new(Exit::Refused, what)
                .why("the cluster does not accept the kubeconfig's credentials")
                .next("kubectl auth whoami   # are they still valid?");
        }
        if says(reason::FORBIDDEN, 403) {
            let failure = explained(Exit::Refused);
            return if by_admission(&status.message) {
                lacking_parameters(failure, &status.message)
            } else {
                failure.next("granary doctor   # shows which permissions are missing")
            };
        }
        if says(reason::INVALID, 422) || says(reason::BAD_REQUEST, 400) {
            return lacking_parameters(explained(Exit::Refused), &status.message);
        }
        if says(reason::TIMEOUT, 504) || says(reason::SERVER_TIMEOUT, 504) {
            return explained(Exit::TimedOut);
        }
        if says(reason::SERVICE_UNAVAILABLE, 503) {
            return explained(Exit::Unreachable);
        }
        explained(Exit::Failure)
    }
}

/// Whether a 404 speaks of one object rather than of an unknown kind.
fn names_an_object(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| !details.name.is_empty())
}

/// Whether an admission policy, not the caller's permissions, forbade it.
fn by_admission(message: &str) -> bool {
    message.contains("denied request") || message.contains("admission")
}

/// A policy that misses its parameters speaks of itself; people need to know whose they are.
fn lacking_parameters(failure: Failure, message: &str) -> Failure {
    if message.contains("no params found") {
        failure.next(
            "granary doctor   # the catalogue of plans is missing; the operator restores it while it runs",
        )
    } else {
        failure
    }
}

/// The fields that were refused, each with its reason.
fn causes(status: &Status) -> Vec<String> {
    let Some(details) = &status.details else {
        return Vec::new();
    };
    details
        .causes
        .iter()
        .filter(|cause| !cause.message.is_empty())
        .map(|cause| {
            if cause.field.is_empty() || cause.field == "<nil>" {
                readable(&cause.message)
            } else {
                format!("{}: {}", cause.field, readable(&cause.message))
            }
        })
        .collect()
}

/// A message of the API server without the envelope that says nothing to people.
fn readable(message: &str) -> String {
    let message = message.trim();
    // `… is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: <the policy's words>`
    if let Some((head, words)) = message.split_once(" denied request: ") {
        let policy = head
            .split_once("ValidatingAdmissionPolicy '")
            .and_then(|(_, rest)| rest.split_once('\''))
            .map(|(policy, _)| policy);
        return match policy {
            Some(policy) => format!("{words} (admission policy {policy})"),
            None => words.to_owned(),
        };
    }
    // `Invalid value: "object": <a rule's words>`: the whole object is no help.
    message
        .strip_prefix("Invalid value: \"object\": ")
        .unwrap_or(message)
        .to_owned()
}

/// The innermost error, which is the one that names the cause (`Connection refused`, `certificate expired`).
#[must_use]
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    // An io::Error made by another crate may wrap its cause without naming it as source.
    cause
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
        .map_or(text, |inner| match inner.source() {
            Some(source) => root_cause(source),
            None => inner.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn status(value: serde_json::Value) -> Status {
        serde_json::from_value(value).expect("a status")
    }

    #[rstest]
    #[case(json!({"code": 404, "reason": "NotFound", "details": {"name": "acme", "kind": "tenants"}}), Exit::NotFound)]
    #[case(json!({"code": 404, "reason": "NotFound"}), Exit::NotFound)]
    #[case(json!({"code": 404, "reason": "Failed to parse error data", "message": "404 page not found"}), Exit::NotFound)]
    #[case(json!({"code": 409, "reason": "AlreadyExists"}), Exit::Conflict)]
    #[case(json!({"code": 409, "reason": "Conflict"}), Exit::Conflict)]
    #[case(json!({"code": 403, "reason": "Forbidden"}), Exit::Refused)]
    #[case(json!({"code": 401, "reason": "Unauthorized"}), Exit::Refused)]
    #[case(json!({"code": 422, "reason": "Invalid"}), Exit::Refused)]
    #[case(json!({"code": 400, "reason": "BadRequest"}), Exit::Refused)]
    #[case(json!({"code": 504, "reason": "Timeout"}), Exit::TimedOut)]
    #[case(json!({"code": 503, "reason": "ServiceUnavailable"}), Exit::Unreachable)]
    #[case(json!({"code": 500, "reason": "InternalError"}), Exit::Failure)]
    fn every_answer_has_its_exit_code(#[case] answer: serde_json::Value, #[case] exit: Exit) {
        assert_eq!(
            Failure::from_status("cannot do it", &status(answer)).exit(),
            exit
        );
    }

    #[test]
    fn a_policy_speaks_in_its_own_words() {
        let refused = Failure::from_status(
            "cannot onboard tenant \"www\"",
            &status(json!({
                "code": 422, "reason": "Invalid",
                "message": "tenants.granary.dev \"www\" is forbidden: ValidatingAdmissionPolicy 'granary-reserved-names' with binding 'granary-reserved-names' denied request: the name \"www\" is reserved",
            })),
        );
        assert_eq!(refused.exit(), Exit::Refused);
        assert_eq!(
            refused.reasons(),
            ["the name \"www\" is reserved (admission policy granary-reserved-names)"]
        );
    }

    #[rstest]
    #[case(403, "Forbidden")]
    #[case(422, "Invalid")]
    fn a_missing_catalogue_leads_to_the_operator(#[case] code: u16, #[case] reason: &str) {
        let refused = Failure::from_status(
            "cannot onboard tenant \"acme\"",
            &status(json!({
                "code": code, "reason": reason,
                "message": "tenants.granary.dev \"acme\" is forbidden: ValidatingAdmissionPolicy 'granary-plans' with binding 'granary-plans' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            })),
        );
        assert_eq!(refused.exit(), Exit::Refused);
        assert!(
            refused
                .lines()
                .iter()
                .any(|(kind, text)| *kind == "next" && text.starts_with("granary doctor")),
            "{refused:?}"
        );
    }

    #[test]
    fn refused_fields_are_named() {
        let refused = Failure::from_status(
            "cannot onboard tenant \"acme\"",
            &status(json!({
                "code": 422, "reason": "Invalid", "message": "Tenant.granary.dev \"acme\" is invalid: …",
                "details": {"name": "acme", "causes": [
                    {"field": "spec.plan", "message": "Invalid value: \"object\": must be a DNS label"},
                    {"field": "spec.app.replicas", "message": "Invalid value: -1: should be greater than or equal to 1"},
                ]},
            })),
        );
        assert_eq!(
            refused.reasons(),
            [
                "spec.plan: must be a DNS label",
                "spec.app.replicas: Invalid value: -1: should be greater than or equal to 1",
            ]
        );
    }

    #[test]
    fn an_unknown_kind_is_not_a_missing_object() {
        let unknown = Failure::from_status(
            "cannot list tenants",
            &status(
                json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource"}),
            ),
        );
        assert!(
            unknown
                .lines()
                .iter()
                .any(|(_, text)| text.starts_with("granary doctor")),
            "{unknown:?}"
        );
    }

    #[test]
    fn the_cause_is_the_innermost_error() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = kube::Error::Service(Box::new(io));
        let failure = Failure::from_kube("cannot list tenants", &error);
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(failure.reasons(), ["connection refused"]);
    }
}
