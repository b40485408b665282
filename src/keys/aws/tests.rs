//! What can be told without a KMS.

use super::*;
use crate::keys::{Context, Purpose};

fn header() -> Header {
    Header {
        provider: ProviderName::Aws,
        key: "arn:aws:kms:eu-central-1:111122223333:key/1"
            .parse()
            .unwrap(),
        key_version: 0,
        context: Context {
            tenant: "4f1c09ab-7d00-4000-8000-0000000000aa".parse().unwrap(),
            purpose: Purpose::Backup,
            version: 7,
        },
        created: "2026-11-21T00:00:00Z".parse().unwrap(),
    }
}

#[test]
fn the_encryption_context_is_exact() {
    let context = encryption_context(&header());
    assert_eq!(context.len(), 4);
    assert_eq!(
        context["tenant-uid"],
        "4f1c09ab-7d00-4000-8000-0000000000aa"
    );
    assert_eq!(context["purpose"], "backup");
    assert_eq!(context["version"], "7");
    assert_eq!(context["header"].len(), 64);

    let later = Header {
        created: "2026-11-21T00:00:01Z".parse().unwrap(),
        ..header()
    };
    assert_ne!(encryption_context(&later)["header"], context["header"]);
}

#[test]
fn keys_are_named_by_arn() {
    assert!(check_arn(&header().key).is_ok());
    for other in [
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/granary-4f1c09ab-7d00-4000-8000-0000000000aa",
        "arn:aws:kms:eu-central-1:111122223333:alias/granary",
        "local:4f1c09ab-7d00-4000-8000-0000000000aa",
    ] {
        assert!(check_arn(&other.parse().unwrap()).is_err(), "{other}");
    }
}

#[test]
fn a_state_that_is_not_known_is_not_gone() {
    let metadata = |state: &str| {
        let builder = KeyMetadata::builder().key_id("1").key_state(state.into());
        state_of(&builder.build().unwrap())
    };
    assert_eq!(metadata("Enabled"), KeyState::Enabled);
    assert_eq!(metadata("Updating"), KeyState::Enabled);
    for other in [
        "Disabled",
        "Creating",
        "PendingImport",
        "Unavailable",
        "New",
    ] {
        assert_eq!(metadata(other), KeyState::Disabled, "{other}");
    }
    assert_eq!(
        metadata("PendingDeletion"),
        KeyState::PendingDeletion { at: Timestamp::MAX }
    );
}

#[tokio::test]
async fn an_endpoint_in_the_clear_is_refused_whoever_names_it() {
    let credentials = aws_sdk_kms::config::Credentials::new("test", "test", None, None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(aws_sdk_kms::config::SharedCredentialsProvider::new(
            credentials,
        ))
        // As `AWS_ENDPOINT_URL` does; nobody answers at this address.
        .endpoint_url("http://192.0.2.1")
        .build();
    let settings = AwsSettings {
        plane: "granary".to_owned(),
        region: None,
        endpoint: None,
        ca_file: PathBuf::new(),
        timeout: Duration::from_secs(5),
    };
    let client = http::without_tls().unwrap();
    let kms = Aws::with_client(&sdk, &settings, client).unwrap();
    let error = kms.metadata("alias/any").await.unwrap_err();
    assert!(error.to_string().contains("has no TLS"), "{error}");
    assert!(!error.is_transient());
}
