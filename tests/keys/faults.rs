//! A KMS on its bad days.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use granary::keys::{Aws, KeyState, Kms, KmsError};

use super::account::{Account, alias_of};
use super::bench::{Tenant, app_context, new_tenant};
use super::proxy::{DENIED, Fault, THROTTLED, UNWELL};

async fn tenant(kms: &Aws) -> Tenant {
    let context = app_context(new_tenant());
    let key = kms.create_key(context.tenant).await.unwrap();
    let wrapped = kms.generate(&key, &context).await.unwrap();
    Tenant {
        key,
        context,
        wrapped,
    }
}

#[tokio::test]
async fn calls_per_operation() {
    let account = Account::new().await;
    let (kms, uid) = (account.provider(), new_tenant());
    let (proxy, context) = (&account.proxy, app_context(uid));

    let key = kms.create_key(uid).await.unwrap();
    assert_eq!(
        proxy.asked(),
        [
            "DescribeKey",
            "ListKeys",
            "ListAliases",
            "CreateKey",
            "CreateAlias"
        ]
    );
    kms.create_key(uid).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "ListResourceTags"]);
    let wrapped = kms.generate(&key, &context).await.unwrap();
    assert_eq!(proxy.asked(), ["GenerateDataKeyWithoutPlaintext"]);
    kms.unwrap(&key, &wrapped, &context).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "Decrypt"]);
    kms.rewrap(&key, &wrapped, &context).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "ReEncrypt"]);
    kms.rotate_key(&key, 1).await.unwrap();
    assert_eq!(
        proxy.asked(),
        ["DescribeKey", "ListKeyRotations", "RotateKeyOnDemand"]
    );
    kms.disable(&key).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "DisableKey"]);
    kms.enable(&key).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "EnableKey"]);
    kms.schedule_deletion(&key, 7).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "ScheduleKeyDeletion"]);
    kms.cancel_deletion(&key).await.unwrap();
    assert_eq!(proxy.asked(), ["DescribeKey", "CancelKeyDeletion"]);
}

#[tokio::test]
async fn a_throttled_call_is_tried_again_after_a_wait() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    account.proxy.asked();
    account.proxy.order("Decrypt", "", THROTTLED, 3);
    tenant.unwrap(&kms).await.unwrap();
    let asked = account.proxy.asked();
    assert_eq!(asked.iter().filter(|name| *name == "Decrypt").count(), 4);
}

#[tokio::test]
async fn a_tenant_that_is_throttled_for_good_harms_nobody_else() {
    let account = Account::new().await;
    let kms = account.provider();
    let (throttled, other) = (tenant(&kms).await, tenant(&kms).await);
    let id = throttled.key.as_str();
    account.proxy.order("Decrypt", id, THROTTLED, u32::MAX);
    account.proxy.asked();
    let begun = Instant::now();
    let (refused, served) = tokio::join!(
        async { (throttled.unwrap(&kms).await, begun.elapsed()) },
        async {
            let mut slowest = Duration::ZERO;
            for _ in 0..5 {
                let begun = Instant::now();
                other.unwrap(&kms).await.unwrap();
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        }
    );
    let (refused, took) = refused;
    let error = refused.unwrap_err();
    assert!(matches!(error, KmsError::Throttled { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(
        took > Duration::ZERO && took < Duration::from_secs(80),
        "{took:?}"
    );
    let asked = account.proxy.asked();
    let decryptions = asked.iter().filter(|name| *name == "Decrypt").count();
    assert_eq!(
        decryptions,
        4 + 5,
        "four attempts for one, one each for the other"
    );
    println!("throttled for good: {took:?}; the other's slowest: {served:?}");
}

#[tokio::test]
async fn a_denied_call_is_not_tried_again() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    account.proxy.order("Decrypt", "", DENIED, u32::MAX);
    account.proxy.asked();
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    assert!(!error.is_transient());
    assert!(error.to_string().contains(tenant.key.as_str()), "{error}");
    assert_eq!(account.proxy.asked(), ["DescribeKey", "Decrypt"]);
}

#[tokio::test]
async fn without_the_right_to_ask_for_its_state_a_key_is_not_used() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    account.proxy.order("DescribeKey", "", DENIED, u32::MAX);
    account.proxy.asked();
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(matches!(error, KmsError::Denied { .. }), "{error:?}");
    assert_eq!(account.proxy.asked(), ["DescribeKey"]);
}

#[tokio::test]
async fn a_kms_that_is_not_well_is_asked_again() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    account.proxy.order("DescribeKey", "", UNWELL, 2);
    let internal = Fault::Refused(500, "KMSInternalException");
    account.proxy.order("Decrypt", "", internal, 2);
    tenant.unwrap(&kms).await.unwrap();

    account.proxy.order("Decrypt", "", UNWELL, u32::MAX);
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(matches!(error, KmsError::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_kms_that_does_not_answer_is_given_up_in_time() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let impatient = account.provider_with("granary", Duration::from_secs(1));
    account.proxy.order("Decrypt", "", Fault::Silence, u32::MAX);
    let begun = Instant::now();
    let error = tenant.unwrap(&impatient).await.unwrap_err();
    assert!(matches!(error, KmsError::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");

    account.proxy.heal();
    tenant.unwrap(&kms).await.unwrap();
}

#[tokio::test]
async fn a_kms_that_is_not_there_is_not_a_key_that_is_gone() {
    let mut account = Account::new().await;
    let kms = account.provider_with("granary", Duration::from_secs(2));
    let tenant = tenant(&kms).await;
    account.proxy.stop().await;
    for outcome in [
        kms.describe(&tenant.key).await.err(),
        kms.create_key(new_tenant()).await.err(),
        kms.list_keys().await.err(),
        tenant.unwrap(&kms).await.err(),
    ] {
        let error = outcome.unwrap();
        assert!(matches!(error, KmsError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_gives_nothing_away() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let plain = tenant.unwrap(&kms).await.unwrap();
    account
        .proxy
        .order("Decrypt", "", Fault::CutAnswer, u32::MAX);
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, plain);
    for said in [format!("{error:?}"), error.to_string()] {
        assert!(!said.contains(&secret[..12]), "the error prints the key");
        assert!(
            !said.contains("Plaintext"),
            "the error prints the answer: {said}"
        );
    }
}

#[tokio::test]
async fn lost_answers_make_no_second_key() {
    for (lost, times) in [
        ("CreateKey", 1),
        ("CreateKey", 2),
        ("CreateAlias", 1),
        ("DescribeKey", 2),
        ("ListKeys", 2),
    ] {
        let account = Account::new().await;
        let (kms, tenant) = (account.provider(), new_tenant());
        account.proxy.order(lost, "", Fault::LostAnswer, times);
        let key = kms.create_key(tenant).await.unwrap();
        assert_eq!(account.live_keys().await, from_ref(&key), "{lost}");
        assert_eq!(account.named(&alias_of(tenant)).await, Some(key), "{lost}");
    }
}

#[tokio::test]
async fn a_creation_that_fails_halfway_makes_one_key_in_the_end() {
    for fault in [THROTTLED, UNWELL, Fault::CutAnswer] {
        for operation in ["CreateKey", "CreateAlias"] {
            let account = Account::new().await;
            let (kms, tenant) = (account.provider(), new_tenant());
            account.proxy.order(operation, "", fault, u32::MAX);
            match kms.create_key(tenant).await {
                // What was carried out is found, whatever the answer was.
                Ok(_) => assert_eq!(fault, Fault::CutAnswer),
                Err(error) => assert!(error.is_transient(), "{operation} {fault:?}: {error:?}"),
            }
            account.proxy.heal();
            let key = kms.create_key(tenant).await.unwrap();
            assert_eq!(
                account.live_keys().await,
                from_ref(&key),
                "{operation} {fault:?}"
            );
            assert_eq!(kms.create_key(tenant).await.unwrap(), key);
        }
    }
}

#[tokio::test]
async fn who_makes_a_key_in_vain_gives_it_to_deletion() {
    let account = Account::new().await;
    let (kms, tenant) = (account.provider(), new_tenant());
    let key = kms.create_key(tenant).await.unwrap();
    // Another caller that looked before the alias was there.
    let early = Fault::Refused(400, "NotFoundException");
    let alias = alias_of(tenant);
    account.proxy.order("DescribeKey", &alias, early, 1);
    assert_eq!(kms.create_key(tenant).await.unwrap(), key);
    assert_eq!(account.live_keys().await, from_ref(&key));
    let listed = kms.list_keys().await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");

    // Where it may not do that, the key is listed, so that somebody else can.
    account.proxy.order("DescribeKey", &alias, early, 1);
    account
        .proxy
        .order("ScheduleKeyDeletion", "", DENIED, u32::MAX);
    assert_eq!(kms.create_key(tenant).await.unwrap(), key);
    let mut live = kms.list_keys().await.unwrap();
    live.retain(|(_, _, state)| *state == KeyState::Enabled);
    assert_eq!(live.len(), 2, "{live:?}");
}

#[tokio::test]
async fn a_lost_answer_changes_nothing_about_what_is_done() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let (proxy, key) = (&account.proxy, &tenant.key);
    let plain = tenant.unwrap(&kms).await.unwrap();
    for operation in [
        "GenerateDataKeyWithoutPlaintext",
        "ReEncrypt",
        "DisableKey",
        "EnableKey",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
    ] {
        proxy.order(operation, "", Fault::LostAnswer, 1);
    }
    let another = kms.generate(key, &tenant.context).await.unwrap();
    kms.unwrap(key, &another, &tenant.context).await.unwrap();
    let rewrapped = kms
        .rewrap(key, &tenant.wrapped, &tenant.context)
        .await
        .unwrap();
    let again = kms.unwrap(key, &rewrapped, &tenant.context).await.unwrap();
    assert_eq!(again.expose(), &plain);
    kms.disable(key).await.unwrap();
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Disabled);
    kms.enable(key).await.unwrap();
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Enabled);
    let at = kms.schedule_deletion(key, 7).await.unwrap();
    assert_eq!(
        kms.describe(key).await.unwrap(),
        KeyState::PendingDeletion { at }
    );
    kms.cancel_deletion(key).await.unwrap();
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Disabled);
}

/// moto schedules and cancels twice without complaint; AWS refuses the second time.
#[tokio::test]
async fn a_second_time_that_aws_refuses_counts_as_done() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let (proxy, key) = (&account.proxy, &tenant.key);
    let invalid = Fault::Refused(400, "KMSInvalidStateException");
    proxy.order("ScheduleKeyDeletion", "", Fault::LostAnswer, 1);
    proxy.order("ScheduleKeyDeletion", "", invalid, 1);
    let at = kms.schedule_deletion(key, 7).await.unwrap();
    assert_eq!(
        kms.describe(key).await.unwrap(),
        KeyState::PendingDeletion { at }
    );
    proxy.order("CancelKeyDeletion", "", Fault::LostAnswer, 1);
    proxy.order("CancelKeyDeletion", "", invalid, 1);
    kms.cancel_deletion(key).await.unwrap();
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Disabled);
}

#[tokio::test]
async fn a_rotation_whose_answer_is_lost_is_not_made_twice() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let proxy = &account.proxy;
    proxy.order("RotateKeyOnDemand", "", Fault::LostAnswer, 1);
    let error = kms.rotate_key(&tenant.key, 1).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(kms.rotate_key(&tenant.key, 1).await.unwrap(), 2);
    let asked = proxy.asked();
    let rotations = asked.iter().filter(|name| *name == "RotateKeyOnDemand");
    assert_eq!(rotations.count(), 1);

    let conflict = Fault::Refused(400, "ConflictException");
    proxy.order("RotateKeyOnDemand", "", conflict, 1);
    let error = kms.rotate_key(&tenant.key, 2).await.unwrap_err();
    assert!(matches!(error, KmsError::Busy { .. }), "{error:?}");
    // AWS lists a rotation some time after it was made.
    let early = kms.rotate_key(&tenant.key, 3).await.unwrap_err();
    assert!(matches!(early, KmsError::Busy { .. }), "{early:?}");
}

/// What AWS says of a key that it has destroyed, and of one that is disabled, which moto says of neither.
#[tokio::test]
async fn what_aws_says_of_a_key_that_cannot_be_used() {
    let account = Account::new().await;
    let kms = account.provider();
    let tenant = tenant(&kms).await;
    let (proxy, id) = (&account.proxy, tenant.key.as_str());

    // Disabled between the look at its state and the decryption.
    let disabled = Fault::Refused(400, "DisabledException");
    proxy.order("Decrypt", id, disabled, 1);
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(matches!(error, KmsError::Busy { .. }), "{error:?}");

    let gone = Fault::Refused(400, "NotFoundException");
    proxy.order("DescribeKey", id, gone, u32::MAX);
    proxy.order("GenerateDataKeyWithoutPlaintext", id, gone, u32::MAX);
    assert_eq!(kms.describe(&tenant.key).await.unwrap(), KeyState::Missing);
    let error = tenant.unwrap(&kms).await.unwrap_err();
    assert!(matches!(error, KmsError::NotFound { .. }), "{error:?}");
    assert!(!error.is_transient());
    let refused = kms
        .generate(&tenant.key, &tenant.context)
        .await
        .unwrap_err();
    assert!(matches!(refused, KmsError::NotFound { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_said() {
    let account = Account::new().await;
    let kms = account.provider();
    let full = Fault::Refused(400, "LimitExceededException");
    account.proxy.order("CreateKey", "", full, u32::MAX);
    account.proxy.asked();
    let error = kms.create_key(new_tenant()).await.unwrap_err();
    assert!(matches!(error, KmsError::Quota { .. }), "{error:?}");
    assert!(!error.is_transient());
    let asked = account.proxy.asked();
    assert_eq!(asked.iter().filter(|name| *name == "CreateKey").count(), 1);
}
