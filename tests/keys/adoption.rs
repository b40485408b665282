//! Which keys of an AWS account are taken for a tenant's, and which are not touched.

use std::time::Duration;

use granary::keys::{KeyState, Kms, KmsError};

use super::account::{Account, alias_of};
use super::bench::new_tenant;

#[tokio::test]
async fn a_key_that_was_made_and_not_named_is_used() {
    let account = Account::new().await;
    let (kms, tenant) = (account.provider(), new_tenant());
    let left = account.make_nameless(tenant).await;
    assert_eq!(kms.create_key(tenant).await.unwrap(), left);
    assert_eq!(account.named(&alias_of(tenant)).await, Some(left.clone()));
    assert_eq!(account.live_keys().await, [left]);
}

#[tokio::test]
async fn of_two_nameless_keys_the_older_is_used_and_the_other_listed() {
    let account = Account::new().await;
    let (kms, tenant) = (account.provider(), new_tenant());
    let older = account.make_nameless(tenant).await;
    let younger = account.make_nameless(tenant).await;
    assert_eq!(kms.create_key(tenant).await.unwrap(), older);
    let mut listed = kms.list_keys().await.unwrap();
    listed.retain(|(_, key, _)| *key != older);
    assert_eq!(listed, [(tenant, younger, KeyState::Enabled)]);
}

#[tokio::test]
async fn a_nameless_key_of_another_tenant_or_one_on_its_way_out_is_not_used() {
    let account = Account::new().await;
    let (kms, tenant) = (account.provider(), new_tenant());
    let foreign = account.make_nameless(new_tenant()).await;
    let untagged = account.make_key(&[]).await;
    let ending = account.make_nameless(tenant).await;
    kms.schedule_deletion(&ending, 7).await.unwrap();
    let key = kms.create_key(tenant).await.unwrap();
    assert!(![foreign, untagged, ending].contains(&key));
}

#[tokio::test]
async fn an_alias_that_names_the_key_of_another_is_an_error_and_nothing_changes() {
    let account = Account::new().await;
    let (kms, tenant, other) = (account.provider(), new_tenant(), new_tenant());
    let alias = alias_of(tenant);
    let theirs = account.make_nameless(other).await;
    account.name(&alias, &theirs).await;
    match kms.create_key(tenant).await {
        Err(KmsError::AliasTaken { owner, key, .. }) => {
            assert_eq!(owner, Some(other.to_string()));
            assert_eq!(key, theirs);
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(account.named(&alias).await, Some(theirs.clone()));
    assert_eq!(account.live_keys().await, [theirs]);
}

#[tokio::test]
async fn an_alias_that_names_a_key_without_a_tenant_is_an_error() {
    let account = Account::new().await;
    let (kms, tenant) = (account.provider(), new_tenant());
    let squatter = account.make_key(&[("team", "billing")]).await;
    account.name(&alias_of(tenant), &squatter).await;
    let error = kms.create_key(tenant).await.unwrap_err();
    assert!(
        matches!(&error, KmsError::AliasTaken { owner: None, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(squatter.as_str()), "{error}");
    assert!(!error.is_transient());
    assert_eq!(account.live_keys().await, [squatter]);
}

#[tokio::test]
async fn keys_of_another_installation_and_of_others_are_not_listed() {
    let account = Account::new().await;
    let ours = account.provider();
    let theirs = account.provider_with("staging", Duration::from_secs(20));
    let (tenant, other) = (new_tenant(), new_tenant());
    let key = ours.create_key(tenant).await.unwrap();
    let staging = theirs.create_key(other).await.unwrap();
    account.make_key(&[("team", "billing")]).await;
    account
        .make_key(&[
            ("granary.dev/tenant-uid", "nonsense"),
            ("granary.dev/plane", "granary"),
        ])
        .await;
    assert_eq!(
        ours.list_keys().await.unwrap(),
        [(tenant, key, KeyState::Enabled)]
    );
    assert_eq!(
        theirs.list_keys().await.unwrap(),
        [(other, staging, KeyState::Enabled)]
    );
}
