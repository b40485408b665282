//! May the caller do what the commands do?

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use super::super::cluster::Cluster;
use super::report::Check;
use crate::api::GROUP;

const NAME: &str = "permissions";

/// What is asked of the API server, and which commands ask it: verb, group, resource, commands.
const NEEDED: [(&str, &str, &str, &str); 11] = [
    ("list", GROUP, "tenants", "list"),
    ("get", GROUP, "tenants", "status, suspend, resume, offboard"),
    ("watch", GROUP, "tenants", "--wait, status --watch"),
    ("create", GROUP, "tenants", "onboard"),
    ("patch", GROUP, "tenants", "suspend, resume, offboard"),
    ("delete", GROUP, "tenants", "offboard"),
    ("list", "", "pods", "status (objects)"),
    ("watch", "", "pods", "status --watch (objects)"),
    ("list", "", "events", "status (events)"),
    ("list", "apps", "statefulsets", "status (objects)"),
    ("get", "", "configmaps", "status (certificates)"),
];

/// Asks the API server about each permission, for the person who asks.
pub async fn check(cluster: &Cluster) -> Check {
    let asked = NEEDED.map(|(verb, group, resource, commands)| async move {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
        let params = PostParams::default();
        cluster
            .ask(
                "cannot ask for the own permissions",
                api.create(&params, &review),
            )
            .await
            .map(|review| {
                (
                    review.status.is_some_and(|status| status.allowed),
                    verb,
                    resource,
                    commands,
                )
            })
    });
    let mut missing = Vec::new();
    for answer in join_all(asked).await {
        match answer {
            Ok((true, ..)) => {}
            Ok((false, verb, resource, commands)) => missing.push((verb, resource, commands)),
            Err(failure) => return Check::unanswered(NAME, &failure),
        }
    }
    judge(&missing)
}

fn judge(missing: &[(&str, &str, &str)]) -> Check {
    if missing.is_empty() {
        return Check::ok(NAME, "you may do what every command needs");
    }
    let rights: Vec<String> = missing
        .iter()
        .map(|(verb, resource, _)| format!("{verb} {resource}"))
        .collect();
    let mut commands: Vec<&str> = missing
        .iter()
        .flat_map(|(_, _, commands)| commands.split(", "))
        .collect();
    commands.sort_unstable();
    commands.dedup();
    Check::warn(NAME, format!("you may not {}", rights.join(", ")))
        .means(format!(
            "will be refused or show less: {}",
            commands.join(", ")
        ))
        .next("ask whoever runs the cluster for these rights, if you need the commands")
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn missing_rights_are_told_by_the_commands_they_stop() {
        assert_eq!(judge(&[]).verdict, Verdict::Ok);
        let check = judge(&[
            ("delete", "tenants", "offboard"),
            ("patch", "tenants", "suspend, resume, offboard"),
        ]);
        assert_eq!(check.verdict, Verdict::Warn);
        assert_eq!(check.found, "you may not delete tenants, patch tenants");
        assert_eq!(
            check.means.as_deref(),
            Some("will be refused or show less: offboard, resume, suspend")
        );
    }
}
