//! What every backend does alike.

use futures::future::join_all;
use granary::keys::{
    Context, Header, KeyId, KeyState, Kms, KmsError, ProviderName, Purpose, WrappedKey,
};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::bench::{Backend, Bench, app_context, new_tenant};

/// Asserts that a call was refused for a reason of this shape.
macro_rules! assert_refused {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(error) => panic!("refused for another reason: {error:?}"),
            Ok(_) => panic!("not refused"),
        }
    };
}

#[rstest]
#[tokio::test]
async fn a_key_is_made_once(#[values(Backend::Local, Backend::Aws)] backend: Backend) {
    let bench = Bench::new(backend).await;
    let tenant = new_tenant();
    let key = bench.kms.create_key(tenant).await.unwrap();
    assert_eq!(bench.kms.create_key(tenant).await.unwrap(), key);
    assert_eq!(bench.kms.describe(&key).await.unwrap(), KeyState::Enabled);
    assert_eq!(
        bench.kms.list_keys().await.unwrap(),
        [(tenant, key.clone(), KeyState::Enabled)]
    );
    assert_ne!(bench.kms.create_key(new_tenant()).await.unwrap(), key);
}

#[rstest]
#[tokio::test]
async fn of_many_that_make_it_at_once_all_get_the_same_key(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let tenant = new_tenant();
    let made = join_all((0..6).map(|_| bench.kms.create_key(tenant))).await;
    let keys: Vec<KeyId> = made.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let mut live = bench.kms.list_keys().await.unwrap();
    live.retain(|(_, _, state)| !matches!(state, KeyState::PendingDeletion { .. }));
    assert_eq!(live, [(tenant, keys[0].clone(), KeyState::Enabled)]);
}

#[rstest]
#[tokio::test]
async fn what_was_wrapped_is_unwrapped(#[values(Backend::Local, Backend::Aws)] backend: Backend) {
    let bench = Bench::new(backend).await;
    let tenant = bench.tenant().await;
    let plain = tenant.unwrap(&bench.kms).await.unwrap();
    assert_eq!(tenant.unwrap(&bench.kms).await.unwrap(), plain);
    assert_eq!(tenant.wrapped.header.context, tenant.context);
    assert_eq!(tenant.wrapped.header.key, tenant.key);
    assert_eq!(tenant.wrapped.header.provider, bench.kms.provider());

    let stored = WrappedKey::from_bytes(&tenant.wrapped.to_bytes()).unwrap();
    assert_eq!(stored, tenant.wrapped);

    let another = bench
        .kms
        .generate(&tenant.key, &tenant.context)
        .await
        .unwrap();
    let another = bench
        .kms
        .unwrap(&tenant.key, &another, &tenant.context)
        .await
        .unwrap();
    assert_ne!(another.expose(), &plain);
}

#[rstest]
#[tokio::test]
async fn another_context_is_refused(#[values(Backend::Local, Backend::Aws)] backend: Backend) {
    let bench = Bench::new(backend).await;
    let (tenant, stranger) = (bench.tenant().await, bench.tenant().await);
    let right = tenant.context;
    for wrong in [
        Context {
            tenant: stranger.context.tenant,
            ..right
        },
        Context {
            purpose: Purpose::Backup,
            ..right
        },
        Context {
            version: 2,
            ..right
        },
    ] {
        let (kms, key) = (&bench.kms, &tenant.key);
        assert_refused!(
            kms.unwrap(key, &tenant.wrapped, &wrong).await,
            KmsError::WrongContext { .. }
        );
        assert_refused!(
            kms.rewrap(key, &tenant.wrapped, &wrong).await,
            KmsError::WrongContext { .. }
        );
        // And if the header is made to say what the caller says.
        let forged = WrappedKey {
            header: Header {
                context: wrong,
                ..tenant.wrapped.header.clone()
            },
            ciphertext: tenant.wrapped.ciphertext.clone(),
        };
        assert_refused!(
            kms.unwrap(key, &forged, &wrong).await,
            KmsError::Corrupt { .. }
        );
        assert_refused!(
            kms.rewrap(key, &forged, &wrong).await,
            KmsError::Corrupt { .. }
        );
    }
}

#[rstest]
#[tokio::test]
async fn another_key_is_refused(#[values(Backend::Local, Backend::Aws)] backend: Backend) {
    let bench = Bench::new(backend).await;
    let (tenant, stranger) = (bench.tenant().await, bench.tenant().await);
    assert_refused!(
        bench
            .kms
            .unwrap(&stranger.key, &tenant.wrapped, &tenant.context)
            .await,
        KmsError::WrongKey { .. }
    );
    // With a header that was made to fit.
    let mut forged = tenant.wrapped.clone();
    forged.header.key = stranger.key.clone();
    let refused = bench
        .kms
        .unwrap(&stranger.key, &forged, &tenant.context)
        .await;
    // AWS does not tell a ciphertext of another key from one that the caller may not use.
    assert_refused!(refused, KmsError::Corrupt { .. } | KmsError::Denied { .. });

    let mut foreign = tenant.wrapped.clone();
    foreign.header.provider = match bench.kms.provider() {
        ProviderName::Local => ProviderName::Aws,
        ProviderName::Aws => ProviderName::Local,
    };
    assert_refused!(
        bench
            .kms
            .unwrap(&tenant.key, &foreign, &tenant.context)
            .await,
        KmsError::WrongKey { .. }
    );
}

#[rstest]
#[tokio::test]
async fn a_swapped_header_is_refused(#[values(Backend::Local, Backend::Aws)] backend: Backend) {
    let bench = Bench::new(backend).await;
    let tenant = bench.tenant().await;
    let header = &tenant.wrapped.header;
    let later = header.created.saturating_add(SignedDuration::from_secs(1));
    for header in [
        Header {
            created: later.unwrap(),
            ..header.clone()
        },
        Header {
            key_version: header.key_version + 1,
            ..header.clone()
        },
    ] {
        let forged = WrappedKey {
            header,
            ciphertext: tenant.wrapped.ciphertext.clone(),
        };
        assert_refused!(
            bench
                .kms
                .unwrap(&tenant.key, &forged, &tenant.context)
                .await,
            KmsError::Corrupt { .. }
        );
    }
}

#[rstest]
#[tokio::test]
async fn altered_and_truncated_bytes_are_refused(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let tenant = bench.tenant().await;
    let bytes = tenant.wrapped.to_bytes();
    // Every byte where that costs nothing, every fifth where it costs a request or two.
    let step = match backend {
        Backend::Local => 1,
        Backend::Aws => 5,
    };
    for at in (0..bytes.len()).step_by(step) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x20;
        if let Ok(wrapped) = WrappedKey::from_bytes(&altered) {
            let (kms, key) = (&bench.kms, &tenant.key);
            let refused = kms.unwrap(key, &wrapped, &tenant.context).await;
            assert!(refused.is_err(), "byte {at}");
            // Also for a caller who believes what the header says.
            let header = &wrapped.header;
            let refused = kms.unwrap(&header.key, &wrapped, &header.context).await;
            assert!(refused.is_err(), "byte {at}, believed");
        }
    }
    let whole = &tenant.wrapped.ciphertext;
    for length in (0..whole.len()).step_by(step) {
        let cut = WrappedKey {
            header: tenant.wrapped.header.clone(),
            ciphertext: whole[..length].to_vec(),
        };
        let refused = bench.kms.unwrap(&tenant.key, &cut, &tenant.context).await;
        assert!(refused.is_err(), "cut to {length}");
    }
}

#[rstest]
#[tokio::test]
async fn a_disabled_key_refuses_until_it_is_enabled(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let (tenant, neighbour) = (bench.tenant().await, bench.tenant().await);
    let plain = tenant.unwrap(&bench.kms).await.unwrap();
    for _ in 0..2 {
        bench.kms.disable(&tenant.key).await.unwrap();
    }
    let (kms, key) = (&bench.kms, &tenant.key);
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Disabled);
    assert_refused!(
        tenant.unwrap(kms).await,
        KmsError::Disabled {
            state: KeyState::Disabled,
            ..
        }
    );
    assert_refused!(
        kms.rewrap(key, &tenant.wrapped, &tenant.context).await,
        KmsError::Disabled { .. }
    );
    assert_refused!(kms.rotate_key(key, 1).await, KmsError::Disabled { .. });
    assert!(neighbour.unwrap(kms).await.is_ok());
    // It is still the tenant's, and no second one is made.
    assert_eq!(kms.create_key(tenant.context.tenant).await.unwrap(), *key);

    for _ in 0..2 {
        kms.enable(key).await.unwrap();
    }
    assert_eq!(tenant.unwrap(kms).await.unwrap(), plain);
}

#[rstest]
#[tokio::test]
async fn a_key_that_is_going_to_be_destroyed_refuses_until_that_is_cancelled(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let (tenant, neighbour) = (bench.tenant().await, bench.tenant().await);
    let plain = tenant.unwrap(&bench.kms).await.unwrap();
    let (kms, key) = (&bench.kms, &tenant.key);
    for days in [0, 6, 31, u32::MAX] {
        assert_refused!(
            kms.schedule_deletion(key, days).await,
            KmsError::DeletionWindow { .. }
        );
    }
    let at = kms.schedule_deletion(key, 7).await.unwrap();
    let wait = at.duration_since(Timestamp::now());
    assert!(
        (SignedDuration::from_hours(167)..=SignedDuration::from_hours(168)).contains(&wait),
        "{wait}"
    );
    let pending = KeyState::PendingDeletion { at };
    assert_eq!(kms.describe(key).await.unwrap(), pending);
    assert_eq!(kms.schedule_deletion(key, 30).await.unwrap(), at);

    assert_refused!(tenant.unwrap(kms).await, KmsError::Disabled { state, .. } if state == pending);
    assert_refused!(kms.enable(key).await, KmsError::Disabled { .. });
    assert_refused!(kms.disable(key).await, KmsError::Disabled { .. });
    assert_refused!(
        kms.create_key(tenant.context.tenant).await,
        KmsError::Disabled { .. }
    );
    assert_eq!(kms.describe(key).await.unwrap(), pending);
    assert!(neighbour.unwrap(kms).await.is_ok());

    for _ in 0..2 {
        kms.cancel_deletion(key).await.unwrap();
    }
    assert_eq!(kms.describe(key).await.unwrap(), KeyState::Disabled);
    assert_refused!(tenant.unwrap(kms).await, KmsError::Disabled { .. });
    kms.enable(key).await.unwrap();
    assert_eq!(tenant.unwrap(kms).await.unwrap(), plain);
}

#[rstest]
#[tokio::test]
async fn a_key_that_is_not_there_is_missing(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let mut tenant = bench.tenant().await;
    let known = tenant.key.to_string();
    let gone: KeyId = match known.rsplit_once([':', '/']) {
        Some((head, _)) => format!(
            "{}{}",
            &known[..=head.len()],
            new_tenant() // any UUID that is no key
        )
        .parse()
        .unwrap(),
        None => panic!("{known}"),
    };
    tenant.wrapped.header.key = gone.clone();
    tenant.key = gone.clone();
    let kms = &bench.kms;
    assert_eq!(kms.describe(&gone).await.unwrap(), KeyState::Missing);
    assert_refused!(tenant.unwrap(kms).await, KmsError::NotFound { .. });
    assert_refused!(
        kms.generate(&gone, &tenant.context).await,
        KmsError::NotFound { .. }
    );
    assert_refused!(kms.enable(&gone).await, KmsError::NotFound { .. });
    assert_refused!(kms.disable(&gone).await, KmsError::NotFound { .. });
    assert_refused!(kms.rotate_key(&gone, 1).await, KmsError::NotFound { .. });
    assert_refused!(
        kms.schedule_deletion(&gone, 7).await,
        KmsError::NotFound { .. }
    );
    assert_refused!(kms.cancel_deletion(&gone).await, KmsError::NotFound { .. });
}

#[rstest]
#[tokio::test]
async fn after_a_rotation_old_and_rewrapped_data_keys_unwrap(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let tenant = bench.tenant().await;
    let plain = tenant.unwrap(&bench.kms).await.unwrap();
    let (kms, key) = (&bench.kms, &tenant.key);
    for _ in 0..2 {
        // The second time nothing is left to do.
        assert_eq!(kms.rotate_key(key, 1).await.unwrap(), 2);
    }
    assert_eq!(kms.rotate_key(key, 2).await.unwrap(), 3);
    assert_eq!(tenant.unwrap(kms).await.unwrap(), plain);

    let rewrapped = kms
        .rewrap(key, &tenant.wrapped, &tenant.context)
        .await
        .unwrap();
    assert_ne!(rewrapped.ciphertext, tenant.wrapped.ciphertext);
    assert_eq!(rewrapped.header.created, tenant.wrapped.header.created);
    let expected = match backend {
        Backend::Local => 3,
        Backend::Aws => 0,
    };
    assert_eq!(rewrapped.header.key_version, expected);
    let again = kms.unwrap(key, &rewrapped, &tenant.context).await.unwrap();
    assert_eq!(again.expose(), &plain);
    // The header of one does not fit the ciphertext of the other where the header says which version it is.
    if backend == Backend::Local {
        let swapped = WrappedKey {
            header: rewrapped.header,
            ciphertext: tenant.wrapped.ciphertext.clone(),
        };
        assert_refused!(
            kms.unwrap(key, &swapped, &tenant.context).await,
            KmsError::Corrupt { .. }
        );
    }
}

#[rstest]
#[tokio::test]
async fn the_list_names_every_key_and_its_state(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    assert_eq!(bench.kms.list_keys().await.unwrap(), []);
    let tenants = [new_tenant(), new_tenant(), new_tenant()];
    let mut keys = Vec::new();
    for tenant in tenants {
        keys.push(bench.kms.create_key(tenant).await.unwrap());
    }
    bench.kms.disable(&keys[1]).await.unwrap();
    let at = bench.kms.schedule_deletion(&keys[2], 7).await.unwrap();
    let mut expected = vec![
        (tenants[0], keys[0].clone(), KeyState::Enabled),
        (tenants[1], keys[1].clone(), KeyState::Disabled),
        (
            tenants[2],
            keys[2].clone(),
            KeyState::PendingDeletion { at },
        ),
    ];
    expected.sort_by_key(|(tenant, ..)| *tenant);
    let mut listed = bench.kms.list_keys().await.unwrap();
    listed.sort_by_key(|(tenant, ..)| *tenant);
    assert_eq!(listed, expected);
}

#[rstest]
#[tokio::test]
async fn names_of_another_provider_are_refused(
    #[values(Backend::Local, Backend::Aws)] backend: Backend,
) {
    let bench = Bench::new(backend).await;
    let foreign: KeyId = match backend {
        Backend::Local => "arn:aws:kms:eu-central-1:111122223333:key/1".parse(),
        Backend::Aws => format!("local:{}", new_tenant()).parse(),
    }
    .unwrap();
    let context = app_context(new_tenant());
    assert_refused!(
        bench.kms.describe(&foreign).await,
        KmsError::ForeignKey { .. }
    );
    assert_refused!(
        bench.kms.generate(&foreign, &context).await,
        KmsError::ForeignKey { .. }
    );
    assert_refused!(
        bench.kms.enable(&foreign).await,
        KmsError::ForeignKey { .. }
    );
}
