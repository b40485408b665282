//! When the plane's Secrets are sound, and what is read of them.

use jiff::ToSpan;

use super::*;
use crate::resources::plane::REGISTRY_TLS;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn stored() -> (Timestamp, BTreeMap<String, Secret>) {
    let issued =
        pki::establish_plane("granary-system", Vec::new(), now(), &Lifetimes::default()).unwrap();
    let secrets = certificates("granary-system", &issued)
        .into_iter()
        .map(|manifest| {
            let secret: Secret = serde_json::from_value(manifest.body).unwrap();
            (manifest.name, secret)
        });
    (issued.renew_at, secrets.collect())
}

#[test]
fn what_was_just_issued_is_sound_until_its_renewal() {
    let (renew_at, stored) = stored();
    assert_eq!(sound_until(&stored, now()), Some(renew_at));
    assert_eq!(sound_until(&stored, renew_at), None);
    assert_eq!(sound_until(&stored, now() + 1000.hours()), None);
}

#[test]
fn a_secret_that_is_missing_or_damaged_is_noticed() {
    for name in CERTIFICATE_SECRETS {
        let (_, mut missing) = stored();
        missing.remove(name);
        assert_eq!(sound_until(&missing, now()), None, "{name} is missing");

        let (_, mut damaged) = stored();
        let data = damaged.get_mut(name).unwrap().data.as_mut().unwrap();
        data.pop_first();
        assert_eq!(sound_until(&damaged, now()), None, "{name} is damaged");
    }
}

#[test]
fn the_operators_certificates_are_read_back_as_they_were_issued() {
    let (_, stored) = stored();
    let read = Credentials::read(stored.get(OPERATOR_TLS)).unwrap();
    assert!(read.authorities_pem.contains("BEGIN CERTIFICATE"));
    assert_ne!(read.owner.certificate_pem, read.app.certificate_pem);
    assert_eq!(format!("{read:?}"), "Credentials", "no key is printed");
    let error = Credentials::read(stored.get(REGISTRY_TLS)).unwrap_err();
    assert!(error.to_string().contains("owner.crt"), "{error}");
    assert!(Credentials::read(None).is_err());
}

#[test]
fn the_next_look_is_neither_at_once_nor_never() {
    let now = Timestamp::now();
    assert_eq!(until(now - 1.hours()), SETTLE);
    assert_eq!(until(now + 100.hours()), LOOK_EVERY);
}
