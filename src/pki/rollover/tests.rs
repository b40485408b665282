//! A silo's authorities over the years.

use proptest::prelude::*;

use super::*;
use crate::pki::tests::{SHORT, at, client_is_trusted, database_name, issue, server_is_trusted};
use crate::pki::{Issued, PkiError, operator_client};

#[test]
fn an_authority_is_kept_until_two_thirds_of_its_life() {
    let first = issue(Vec::new(), at(0), &SHORT);
    let kept = issue(first.authorities.clone(), at(3699), &SHORT);
    assert_eq!(kept.authorities.len(), 1);
    // The rollover is due before the leafs are.
    assert_eq!(kept.renew_at, at(3700));
    let grown = issue(first.authorities.clone(), at(3700), &SHORT);
    assert_eq!(grown.authorities.len(), 2);
    assert_eq!(grown.signer().fingerprint, first.signer().fingerprint);
    assert_eq!(grown.renew_at, at(3760));
    let switched = issue(grown.authorities, at(3760), &SHORT);
    assert_ne!(switched.signer().fingerprint, first.signer().fingerprint);
    assert_eq!(
        switched.authorities[0].key_pem(),
        None,
        "a succeeded authority signs no more"
    );
    let error = operator_client(&switched.authorities[0], at(3760)).unwrap_err();
    assert!(matches!(error, PkiError::Retired { .. }), "{error}");
    let alone = issue(switched.authorities, first.signer().not_after, &SHORT);
    assert_eq!(alone.authorities.len(), 1);
}

/// What pods hold after one call: since when, and until when it may still be on some of them.
struct Held {
    since: Timestamp,
    issued: Issued,
}

/// Lives through `calls` calls, each made when due and late by what `late` says, and checks at each that all pods that
/// files may have reached, or not yet reached after `spread` seconds, trust each other. Returns how many authorities
/// signed.
fn live(lifetimes: &Lifetimes, spread: i64, calls: usize, late: impl Fn(usize) -> i64) -> usize {
    let mut history: Vec<Held> = Vec::new();
    let mut now = at(0);
    let mut signers = std::collections::BTreeSet::new();
    for call in 0..calls {
        let stored = history
            .last()
            .map(|held| held.issued.authorities.clone())
            .unwrap_or_default();
        let issued = issue(stored, now, lifetimes);
        signers.insert(issued.signer().fingerprint.clone());
        let next = seconds_after(issued.renew_at, late(call)).max(seconds_after(now, 1));
        history.push(Held { since: now, issued });
        for moment in [now, next] {
            assert_all_trust(&history, moment, spread);
        }
        now = next;
    }
    signers.len()
}

fn assert_all_trust(history: &[Held], moment: Timestamp, spread: i64) {
    let on_pods: Vec<&Held> = history
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            history
                .get(index + 1)
                .is_none_or(|next| seconds_after(next.since, spread) > moment)
        })
        .map(|(_, held)| held)
        .collect();
    for (one, other) in on_pods
        .iter()
        .flat_map(|one| on_pods.iter().map(move |other| (one, other)))
    {
        let (bundle, leafs) = (&one.issued.bundle_pem, &other.issued.leafs);
        let context = format!(
            "files of {} meet files of {} at {moment}",
            one.since, other.since
        );
        assert!(
            server_is_trusted(
                &leafs.database.certificate_pem,
                bundle,
                &database_name(),
                moment
            ),
            "{context}"
        );
        assert!(
            client_is_trusted(&leafs.app_client.certificate_pem, bundle, moment),
            "{context}"
        );
    }
}

#[test]
fn through_the_years_no_two_pods_ever_distrust_each_other() {
    assert!(live(&Lifetimes::default(), 3599, 70, |_| 0) >= 4);
    assert!(live(&SHORT, 59, 60, |_| 0) >= 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Calls come early, as after a repair, or late, as after an outage: by as much of the last third of a leaf's life as
    /// leaves time for new files to arrive.
    #[test]
    fn nor_when_renewal_is_late_or_early(late in proptest::collection::vec(-400_i64..140, 40)) {
        live(&SHORT, 59, 40, |call| late[call]);
    }
}

#[test]
fn an_operator_that_was_away_until_near_the_end_still_goes_step_by_step() {
    let first = issue(Vec::new(), at(0), &SHORT);
    let end = first.signer().not_after;
    let late = seconds_after(end, -40);
    let grown = issue(first.authorities.clone(), late, &SHORT);
    assert_eq!(grown.signer().fingerprint, first.signer().fingerprint);
    assert!(
        grown.leafs.database.not_after <= end,
        "a leaf never outlives its authority"
    );
    assert!(
        grown.renew_at > late && grown.renew_at <= seconds_after(end, -20),
        "{}",
        grown.renew_at
    );
    let switched = issue(grown.authorities, seconds_after(end, -20), &SHORT);
    assert_ne!(switched.signer().fingerprint, first.signer().fingerprint);
}
