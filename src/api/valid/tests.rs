//! What is accepted and what is not.

use rstest::rstest;

use super::*;
use crate::api::fixtures::{image, settings, small, standard, tenant, valid};
use crate::api::tenant::{Owner, TenantApp};

#[test]
fn a_sound_tenant_gets_all_its_names() {
    let valid = valid();
    assert_eq!(valid.namespace.as_str(), "silo-acme-4f1c09ab7d");
    assert_eq!(valid.host, "acme.granary.localhost");
    assert_eq!(valid.url, "https://acme.granary.localhost:8443");
    assert_eq!(valid.release, Release::of_image(&image("cashbook", 'a')));
    assert_eq!(valid.generation, 3);
    assert_eq!(valid.database.storage, Bytes(1 << 30));
}

#[test]
fn the_default_port_is_not_shown() {
    let settings = SiloSettings {
        external_port: 443,
        ..settings()
    };
    let valid = ValidTenant::new(&tenant(), &small(), &settings).unwrap();
    assert_eq!(valid.url, "https://acme.granary.localhost");
}

#[test]
fn what_the_tenant_leaves_out_comes_from_the_plan() {
    let mut tenant = tenant();
    tenant.spec.display_name = None;
    tenant.spec.owner = None;
    let valid = ValidTenant::new(&tenant, &small(), &settings()).unwrap();
    assert_eq!(
        (valid.display_name.as_str(), valid.owner_email),
        ("acme", None)
    );
    tenant.spec.app = Some(TenantApp {
        image: Some(image("other", 'c')),
        replicas: Some(4),
    });
    let valid = ValidTenant::new(&tenant, &small(), &settings()).unwrap();
    assert_eq!(
        (valid.app.image, valid.app.replicas),
        (image("other", 'c'), 4)
    );
}

/// Each changes one thing in a sound tenant; the message must name the field.
#[rstest]
#[case::no_uid(|t: &mut Tenant| t.metadata.uid = None, "InvalidIdentity", "metadata.uid")]
#[case::path_uid(|t: &mut Tenant| t.metadata.uid = Some("../../0123456789".into()), "InvalidIdentity", "metadata.uid")]
#[case::upper_case(|t: &mut Tenant| t.metadata.name = Some("Acme".into()), "InvalidName", "metadata.name")]
#[case::dot(|t: &mut Tenant| t.metadata.name = Some("acme.evil".into()), "InvalidName", "metadata.name")]
#[case::long(|t: &mut Tenant| t.metadata.name = Some("a".repeat(64)), "InvalidName", "metadata.name")]
#[case::punycode(|t: &mut Tenant| t.metadata.name = Some("xn--acme".into()), "InvalidName", "metadata.name")]
#[case::other_plan(|t: &mut Tenant| t.spec.plan = "huge".into(), "InvalidSpec", "spec.plan")]
#[case::newline(|t: &mut Tenant| t.spec.display_name = Some("Acme\nevil: true".into()), "InvalidSpec", "spec.displayName")]
#[case::blank(|t: &mut Tenant| t.spec.display_name = Some("  ".into()), "InvalidSpec", "spec.displayName")]
#[case::no_email(|t: &mut Tenant| t.spec.owner = Some(Owner { email: "ops".into() }), "InvalidSpec", "spec.owner.email")]
#[case::tag(|t: &mut Tenant| set_image(t, "cashbook:latest"), "InvalidSpec", "spec.app.image")]
#[case::short_digest(|t: &mut Tenant| set_image(t, "cashbook@sha256:abcd"), "InvalidSpec", "spec.app.image")]
#[case::replicas(|t: &mut Tenant| t.spec.app = Some(TenantApp { image: None, replicas: Some(0) }), "InvalidSpec", "spec.app.replicas")]
#[case::domain(|t: &mut Tenant| t.spec.domains = vec!["*.acme.example".into()], "InvalidSpec", "spec.domains")]
#[case::twice(|t: &mut Tenant| t.spec.domains = vec!["a.example".into(), "a.example".into()], "InvalidSpec", "spec.domains")]
fn an_unsound_tenant_is_rejected(
    #[case] spoil: fn(&mut Tenant),
    #[case] reason: &str,
    #[case] field: &str,
) {
    let mut tenant = tenant();
    spoil(&mut tenant);
    let rejection = ValidTenant::new(&tenant, &small(), &settings()).unwrap_err();
    assert_eq!(rejection.reason(), reason);
    let message = rejection.to_string();
    assert!(
        message.contains(field) && !message.contains('\n'),
        "{message}"
    );
}

fn set_image(tenant: &mut Tenant, image: &str) {
    tenant.spec.app = Some(TenantApp {
        image: Some(image.to_owned()),
        replicas: None,
    });
}

#[rstest]
#[case::negative(|p: &mut Plan| p.spec.database.storage = "-1Gi".into(), "spec.database.storage")]
#[case::no_room(|p: &mut Plan| p.spec.database.storage = "1Mi".into(), "spec.database.storage")]
#[case::no_memory(|p: &mut Plan| p.spec.database.memory = "16Mi".into(), "spec.database.memory")]
#[case::fraction(|p: &mut Plan| p.spec.app.cpu = "0.5".into(), "spec.app.cpu")]
#[case::idle(|p: &mut Plan| p.spec.database.cpu = "0".into(), "spec.database.cpu")]
#[case::replicas(|p: &mut Plan| p.spec.app.replicas = -1, "spec.app.replicas")]
#[case::image(|p: &mut Plan| p.spec.app.image = "cashbook".into(), "spec.app.image")]
#[case::connections(|p: &mut Plan| p.spec.database.connections = 3, "spec.database.connections")]
#[case::class(|p: &mut Plan| p.spec.database.storage_class_name = Some("Fast!".into()), "spec.database.storageClassName")]
fn an_unsound_plan_is_rejected(#[case] spoil: fn(&mut Plan), #[case] field: &str) {
    let mut tenant = tenant();
    tenant.spec.plan = "standard".to_owned();
    let mut plan = standard();
    ValidTenant::new(&tenant, &plan, &settings()).unwrap();
    spoil(&mut plan);
    let rejection = ValidTenant::new(&tenant, &plan, &settings()).unwrap_err();
    assert_eq!(rejection.reason(), "InvalidPlan");
    let message = rejection.to_string();
    assert!(
        message.contains(field) && message.contains("\"standard\""),
        "{message}"
    );
}

#[test]
fn a_long_value_is_cut_in_messages() {
    let mut tenant = tenant();
    tenant.metadata.name = Some("ä".repeat(5000));
    let message = ValidTenant::new(&tenant, &small(), &settings())
        .unwrap_err()
        .to_string();
    assert!(message.len() < 400, "{message}");
}
