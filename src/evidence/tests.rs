use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::envelope::pre_authentication_encoding;
use super::*;

/// A record that was written down, encoded and signed by another implementation (Python's `cryptography`).
const KNOWN: &[u8] = include_bytes!("../../tests/evidence/record.json");
const KNOWN_PUBLIC: &str = include_str!("../../tests/evidence/public.pem");

/// The key of test 1 in RFC 8032, section 7.1, which signed [`KNOWN`].
const RFC_8032_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

fn at(minute: i64) -> Timestamp {
    let start: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minute)
}

const WEEK: i64 = 7 * 24 * 60;

fn data_key(purpose: &str, version: u32) -> DataKey {
    DataKey {
        purpose: purpose.to_owned(),
        version,
    }
}

fn proof(tried: Attempt, data_key: Option<DataKey>, answer: &str, minute: i64) -> Proof {
    Proof {
        tried,
        data_key,
        outcome: Outcome::Refused,
        answer: answer.to_owned(),
        at: at(minute),
    }
}

/// The record that [`KNOWN`] holds.
fn record() -> Record {
    let (disabled, leaving) = ("the key is disabled", "the key is going to be destroyed");
    Record {
        tenant: Tenant {
            name: "acme".to_owned(),
            uid: "4f1c09ab-7d2e-4c3b-9a10-0123456789ab".parse().unwrap(),
            namespace: "silo-acme-4f1c09ab7d".to_owned(),
        },
        stage: Stage::Destroyed,
        keys: vec![Key {
            provider: "aws".to_owned(),
            id: "arn:aws:kms:eu-central-1:1:key/0a1b".to_owned(),
        }],
        data_keys: vec![
            data_key("app", 1),
            data_key("app", 2),
            data_key("backup", 1),
        ],
        steps: Steps {
            access_cut: Some(at(0)),
            pods_stopped: Some(at(1)),
            exported: Some(at(2)),
            keys_disabled: Some(at(3)),
            proved: Some(at(5)),
            volumes_deleted: Some(at(6)),
            deletion_scheduled: Some(at(7)),
            destroyed: Some(at(WEEK + 8)),
        },
        export: Some(Export {
            bytes: 4096,
            sha256: "ab".repeat(32),
            sealed_with: "handover-2026".to_owned(),
        }),
        removed: Removed {
            objects: 31,
            volumes: 1,
            bytes: 1 << 30,
        },
        proofs: vec![
            proof(Attempt::Unwrap, Some(data_key("app", 1)), disabled, 4),
            proof(Attempt::Unwrap, Some(data_key("app", 2)), disabled, 4),
            proof(
                Attempt::SavedDataKey,
                Some(data_key("backup", 1)),
                disabled,
                5,
            ),
            proof(Attempt::SavedToken, None, "the pod is gone", 5),
            proof(Attempt::Unwrap, Some(data_key("app", 1)), leaving, 8),
            proof(Attempt::Unwrap, Some(data_key("app", 2)), leaving, 8),
            proof(Attempt::Unwrap, Some(data_key("backup", 1)), leaving, 8),
        ],
        destruction_due: at(WEEK + 7),
        recorded_at: at(WEEK + 9),
    }
}

fn faults(change: impl FnOnce(&mut Record)) -> Vec<Fault> {
    let mut record = record();
    change(&mut record);
    match Statement::new(record) {
        Ok(_) => Vec::new(),
        Err(Impossible(faults)) => faults,
    }
}

fn known_key() -> SigningKey {
    SigningKey::from_pem(RFC_8032_KEY.as_bytes()).unwrap()
}

fn known_public() -> Vec<PublicKey> {
    PublicKey::all_from_pem(KNOWN_PUBLIC.as_bytes()).unwrap()
}

/// An envelope around any payload, signed as it should be.
fn envelope_of(payload: &[u8], key: &SigningKey) -> Value {
    let signature = key
        .sign(&pre_authentication_encoding(PAYLOAD_TYPE, payload))
        .unwrap();
    json!({
        "payload": STANDARD.encode(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.public().id(), "sig": STANDARD.encode(signature)}],
    })
}

fn check(envelope: &Value) -> Result<Verified, VerifyError> {
    verify(envelope.to_string().as_bytes(), &known_public())
}

fn known() -> Value {
    serde_json::from_slice(KNOWN).unwrap()
}

fn known_payload() -> Vec<u8> {
    STANDARD
        .decode(known()["payload"].as_str().unwrap())
        .unwrap()
}

/// The known statement with something else in it, signed with the right key.
fn signed_with(change: impl FnOnce(&mut Value)) -> Result<Verified, VerifyError> {
    let mut statement: Value = serde_json::from_slice(&known_payload()).unwrap();
    change(&mut statement);
    check(&envelope_of(statement.to_string().as_bytes(), &known_key()))
}

#[test]
fn the_encoding_that_is_signed_is_that_of_the_specification() {
    assert_eq!(
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    // Lengths are of bytes, not of characters.
    assert_eq!(
        pre_authentication_encoding("é", "ü".as_bytes()),
        "DSSEv1 2 é 2 ü".as_bytes()
    );
    assert_eq!(pre_authentication_encoding("", b""), b"DSSEv1 0  0 ");
}

#[test]
fn a_record_that_another_implementation_signed_is_what_is_signed_here() {
    let statement = Statement::new(record()).unwrap();
    let verified = verify(KNOWN, &known_public()).unwrap();
    assert_eq!(verified.statement, statement);
    assert_eq!(verified.key_id, known_key().public().id());
    // Ed25519 signs the same bytes in the same way.
    let envelope = Envelope::sign(&statement, &known_key()).unwrap();
    assert_eq!(serde_json::to_value(&envelope).unwrap(), known());
}

#[test]
fn keys_survive_being_written_down() {
    let key = SigningKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    let again = SigningKey::from_pem(pem.expose_secret().as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(
        PublicKey::all_from_pem(key.public().to_pem().as_bytes()).unwrap(),
        [key.public().clone()]
    );
    assert_eq!(known_key().to_pem().unwrap().expose_secret(), RFC_8032_KEY);
    assert_eq!(known_key().public().to_pem(), KNOWN_PUBLIC);
    assert_eq!(
        known_key().public().id(),
        "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9"
    );
    assert_ne!(key.public(), SigningKey::generate().unwrap().public());
    let shown = format!("{key:?}");
    assert!(
        !shown.contains("PRIVATE") && shown.contains("public"),
        "{shown}"
    );
}

#[test]
fn key_files_that_are_no_key_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let write = |content: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        SigningKey::read(&path)
    };
    assert!(write(RFC_8032_KEY, 0o400).is_ok());
    assert!(
        write(RFC_8032_KEY, 0o440).is_ok(),
        "as Kubernetes mounts it for a group"
    );
    let open = write(RFC_8032_KEY, 0o644).unwrap_err();
    assert!(matches!(open, KeyError::Open { mode: 0o644, .. }), "{open}");
    for (content, what) in [
        (KNOWN_PUBLIC.to_owned(), "there are 0"),
        (RFC_8032_KEY.repeat(2), "there are 2"),
        (String::new(), "there are 0"),
        (
            RFC_8032_KEY.replace("END PRIVATE", "END PUBLIC"),
            "not valid PEM",
        ),
        (RFC_8032_KEY.replace("K2Vw", "K2Vu"), "not an Ed25519 key"),
    ] {
        let error = write(&content, 0o400).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(!error.contains("MC4CAQ"), "{error}");
    }
    let missing = SigningKey::read(&dir.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
    assert!(matches!(
        PublicKey::all_from_pem(RFC_8032_KEY.as_bytes()),
        Err(KeyError::NoPublicKey)
    ));
}

#[test]
fn the_subject_is_the_tenant() {
    let statement = serde_json::to_value(Statement::new(record()).unwrap()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(
        statement["predicateType"],
        "https://granary.dev/deletion/v1"
    );
    // printf %s 4f1c09ab-7d2e-4c3b-9a10-0123456789ab | sha256sum
    assert_eq!(
        statement["subject"],
        json!([{"name": "acme", "digest": {"sha256": "2554e5d67bbfc66128525a4908f615c62ebd84852fc4cec9d7938775b65b0d8a"}}])
    );
}

#[test]
fn a_possible_record_is_one() {
    assert_eq!(faults(|_| {}), []);
    // Everything at once is in order too.
    assert_eq!(
        faults(|record| {
            record.steps.pods_stopped = Some(at(0));
            record.steps.exported = Some(at(0));
        }),
        []
    );
    assert_eq!(
        faults(|record| {
            record.export = None;
            record.steps.exported = None;
        }),
        []
    );
    // It stays refused: later proofs are welcome.
    assert_eq!(
        faults(|record| record.proofs.push(proof(
            Attempt::Unwrap,
            Some(data_key("app", 1)),
            "gone",
            WEEK + 8
        ))),
        []
    );
}

/// The first of a tenant's two records: its keys are still in the KMS, and refuse.
fn shredded(record: &mut Record) {
    record.stage = Stage::Shredded;
    record.steps.destroyed = None;
    record.recorded_at = at(9);
}

#[test]
fn a_record_is_possible_before_the_keys_are_destroyed_and_says_so() {
    assert_eq!(faults(shredded), []);
    let premature = faults(|record| {
        shredded(record);
        record.steps.destroyed = Some(at(8));
    });
    assert_eq!(premature, [Fault::DestroyedAlready]);
    let no_date = faults(|record| {
        shredded(record);
        record.destruction_due = at(6);
    });
    assert!(
        matches!(no_date.as_slice(), [Fault::Order { .. }]),
        "{no_date:?}"
    );
    let early = faults(|record| {
        shredded(record);
        record.proofs.retain(|proof| proof.at <= at(5));
        record.recorded_at = at(6);
    });
    assert!(
        matches!(early.first(), Some(Fault::Order { .. })),
        "{early:?}"
    );
}

#[test]
fn every_data_key_is_tried_again_at_the_end() {
    let untried = faults(|record| {
        record.proofs.remove(5);
    });
    assert_eq!(untried, [Fault::UnprovenAtTheEnd(data_key("app", 2))]);
    let early = faults(|record| record.proofs[6].at = at(6));
    assert_eq!(early, [Fault::UnprovenAtTheEnd(data_key("backup", 1))]);
}

#[rstest]
#[case::access("access cut", |s: &mut Steps| s.access_cut = None)]
#[case::pods("pods stopped", |s: &mut Steps| s.pods_stopped = None)]
#[case::disabled("keys disabled", |s: &mut Steps| s.keys_disabled = None)]
#[case::proofs("proofs", |s: &mut Steps| s.proved = None)]
#[case::volumes("volumes deleted", |s: &mut Steps| s.volumes_deleted = None)]
#[case::scheduled("deletion scheduled", |s: &mut Steps| s.deletion_scheduled = None)]
#[case::destroyed("destroyed", |s: &mut Steps| s.destroyed = None)]
fn no_step_may_be_missing(#[case] step: &'static str, #[case] forget: fn(&mut Steps)) {
    assert_eq!(
        faults(|record| forget(&mut record.steps)),
        [Fault::Missing(step)]
    );
}

#[rstest]
#[case::pods(|r: &mut Record| r.steps.pods_stopped = Some(at(-1)), "pods stopped", "access cut")]
#[case::export_early(|r: &mut Record| r.steps.exported = Some(at(-1)), "export", "access cut")]
#[case::export_late(|r: &mut Record| r.steps.exported = Some(at(4)), "keys disabled", "export")]
#[case::disabled(|r: &mut Record| { r.steps.exported = None; r.export = None; r.steps.keys_disabled = Some(at(0)); }, "keys disabled", "pods stopped")]
#[case::proved(|r: &mut Record| r.steps.proved = Some(at(7)), "volumes deleted", "proofs")]
#[case::scheduled(|r: &mut Record| r.steps.deletion_scheduled = Some(at(5)), "deletion scheduled", "volumes deleted")]
#[case::destroyed(|r: &mut Record| r.steps.destroyed = Some(at(6)), "destroyed", "deletion scheduled")]
#[case::recorded(|r: &mut Record| r.recorded_at = at(WEEK), "record", "destroyed")]
fn no_step_may_come_too_early(
    #[case] change: fn(&mut Record),
    #[case] later_step: &str,
    #[case] earlier_step: &str,
) {
    let found = faults(change);
    assert!(
        matches!(found.as_slice(), [Fault::Order { earlier, later, .. }]
            if *earlier == earlier_step && *later == later_step),
        "{found:?}"
    );
}

#[test]
fn a_proof_must_be_a_refusal_after_the_keys_were_disabled() {
    let allowed = faults(|record| record.proofs[3].outcome = Outcome::Allowed);
    assert_eq!(
        allowed,
        [Fault::NotRefused {
            tried: Attempt::SavedToken,
            at: at(5)
        }]
    );
    let early = faults(|record| record.proofs[0].at = at(2));
    assert!(
        matches!(early.as_slice(), [Fault::Order { .. }]),
        "{early:?}"
    );
    let late = faults(|record| record.proofs[0].at = at(6));
    assert_eq!(late, [Fault::Unproven(data_key("app", 1))]);
    let untried = faults(|record| {
        record.proofs.remove(2);
    });
    assert_eq!(untried, [Fault::Unproven(data_key("backup", 1))]);
    // A stolen token proves nothing about a key.
    let token_only = faults(|record| record.proofs[0].tried = Attempt::SavedToken);
    assert_eq!(token_only, [Fault::Unproven(data_key("app", 1))]);
    let foreign = faults(|record| record.proofs[3].data_key = Some(data_key("app", 3)));
    assert_eq!(foreign, [Fault::UnknownDataKey(data_key("app", 3))]);
}

#[test]
fn what_is_empty_or_odd_is_refused() {
    for change in [
        (|r: &mut Record| r.tenant.name.clear()) as fn(&mut Record),
        |r| r.tenant.namespace = " ".to_owned(),
        |r| r.keys.clear(),
        |r| r.keys[0].id.clear(),
        |r| r.keys[0].provider.clear(),
        |r| {
            r.data_keys.clear();
            for proof in &mut r.proofs {
                proof.data_key = None;
            }
        },
        |r| r.export.as_mut().unwrap().sealed_with.clear(),
    ] {
        let found = faults(change);
        assert!(matches!(found.as_slice(), [Fault::Empty(_)]), "{found:?}");
    }
    assert_eq!(
        faults(|record| record.data_keys.push(data_key("app", 1))),
        [Fault::OddDataKey(data_key("app", 1))]
    );
    assert_eq!(faults(|record| record.export = None), [Fault::HalfExport]);
    assert_eq!(
        faults(|record| record.steps.exported = None),
        [Fault::HalfExport]
    );
    for digest in ["", "AB", &"AB".repeat(32), &"zz".repeat(32)] {
        let digest = digest.to_owned();
        assert_eq!(
            faults(|record| record.export.as_mut().unwrap().sha256 = digest),
            [Fault::ExportDigest]
        );
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = Impossible(faults(|record| {
        record.steps.destroyed = None;
        record.steps.pods_stopped = Some(at(-5));
        record.proofs[0].outcome = Outcome::Allowed;
    }))
    .to_string();
    for part in [
        "\"destroyed\" is missing",
        "\"pods stopped\" (2026-11-20T09:55:00Z) is before \"access cut\" (2026-11-20T10:00:00Z)",
        "unwrap was not refused",
        "no proof in time that data key app version 1 is refused",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn a_changed_payload_is_found() {
    let payload = known_payload();
    for at in [0, payload.len() / 2, payload.len() - 1] {
        let mut changed = payload.clone();
        changed[at] ^= 1;
        let mut envelope = known();
        envelope["payload"] = STANDARD.encode(changed).into();
        let error = check(&envelope).unwrap_err();
        assert!(matches!(error, VerifyError::BadSignature { .. }), "{error}");
    }
    let mut envelope = known();
    envelope["payload"] = STANDARD.encode([payload.as_slice(), b" "].concat()).into();
    let error = check(&envelope).unwrap_err();
    assert!(
        error.to_string().contains("changed after it was signed"),
        "{error}"
    );
}

#[test]
fn a_changed_signature_is_found() {
    let signature = STANDARD
        .decode(known()["signatures"][0]["sig"].as_str().unwrap())
        .unwrap();
    let mut flipped = signature.clone();
    flipped[7] ^= 0x10;
    for odd in [
        flipped,
        signature[..63].to_vec(),
        [&signature[..], &[0]].concat(),
        Vec::new(),
    ] {
        let mut envelope = known();
        envelope["signatures"][0]["sig"] = STANDARD.encode(odd).into();
        let error = check(&envelope).unwrap_err();
        assert!(matches!(error, VerifyError::BadSignature { .. }), "{error}");
    }
}

#[test]
fn another_key_proves_nothing() {
    let other = SigningKey::generate().unwrap();
    let error = verify(KNOWN, &[other.public().clone()]).unwrap_err();
    let VerifyError::UnknownKey { signed_with, given } = &error else {
        panic!("{error}");
    };
    assert_eq!(*signed_with, known_key().public().id());
    assert_eq!(*given, other.public().id());
    assert!(matches!(
        verify(KNOWN, &[]),
        Err(VerifyError::UnknownKey { .. })
    ));

    // Who signs with another key cannot pass for the right one by its name.
    let mut forged = envelope_of(&known_payload(), &other);
    forged["signatures"][0]["keyid"] = known_key().public().id().into();
    assert!(matches!(
        check(&forged),
        Err(VerifyError::BadSignature { .. })
    ));
    // And the name is not needed.
    let mut nameless = known();
    nameless["signatures"][0]
        .as_object_mut()
        .unwrap()
        .remove("keyid");
    assert!(check(&nameless).is_ok());
}

#[test]
fn one_of_several_keys_or_signatures_is_enough() {
    let other = SigningKey::generate().unwrap();
    let keys = [other.public().clone(), known_public().remove(0)];
    assert_eq!(
        verify(KNOWN, &keys).unwrap().key_id,
        known_key().public().id()
    );
    let both = envelope_of(&known_payload(), &other)["signatures"][0].clone();
    let mut envelope = known();
    envelope["signatures"]
        .as_array_mut()
        .unwrap()
        .insert(0, both);
    assert!(check(&envelope).is_ok());
}

#[test]
fn signatures_are_some_and_not_many() {
    let mut envelope = known();
    envelope["signatures"] = json!([]);
    assert!(matches!(check(&envelope), Err(VerifyError::Signatures(0))));
    let one = known()["signatures"][0].clone();
    envelope["signatures"] = Value::Array(vec![one; 17]);
    assert!(matches!(check(&envelope), Err(VerifyError::Signatures(17))));
}

#[test]
fn another_payload_type_is_named() {
    for odd in ["application/json", "", "application/vnd.in-toto+json "] {
        let mut envelope = known();
        envelope["payloadType"] = odd.into();
        let error = check(&envelope).unwrap_err();
        assert!(
            matches!(&error, VerifyError::PayloadType { found } if found == odd),
            "{error}"
        );
    }
}

#[test]
fn base64_may_be_of_either_kind_but_not_wrong() {
    let signature = STANDARD
        .decode(known()["signatures"][0]["sig"].as_str().unwrap())
        .unwrap();
    let mut envelope = known();
    envelope["signatures"][0]["sig"] = URL_SAFE_NO_PAD.encode(signature).into();
    envelope["payload"] = URL_SAFE_NO_PAD.encode(known_payload()).into();
    assert!(check(&envelope).is_ok());
    for (field, pointer) in [("payload", "/payload"), ("signature", "/signatures/0/sig")] {
        for odd in ["%%%%", "QUJD\nREVG", "A", "AA==AA==", "+-+-"] {
            let mut envelope = known();
            *envelope.pointer_mut(pointer).unwrap() = odd.into();
            let error = check(&envelope).unwrap_err();
            assert!(
                matches!(&error, VerifyError::Base64 { field: found, .. } if *found == field),
                "{odd:?}: {error}"
            );
        }
    }
}

#[rstest]
#[case::nothing("", "EOF")]
#[case::no_json("deleted, honestly", "expected")]
#[case::cut_off("{\"payload\": \"", "EOF")]
#[case::list("[]", "invalid length")]
#[case::no_signatures(
    "{\"payload\": \"\", \"payloadType\": \"\"}",
    "missing field `signatures`"
)]
fn what_is_no_envelope_is_said_to_be_none(#[case] text: &str, #[case] reason: &str) {
    let error = verify(text.as_bytes(), &known_public()).unwrap_err();
    let VerifyError::Envelope(source) = &error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains(reason), "{source}");
}

#[test]
fn nothing_may_follow_the_envelope() {
    let trailing = |extra: &str| verify(&[KNOWN, extra.as_bytes()].concat(), &known_public());
    assert!(trailing("\n \n").is_ok());
    for extra in ["x", "{}", "\0", "null"] {
        let error = trailing(extra).unwrap_err();
        let VerifyError::Envelope(source) = &error else {
            panic!("{error}");
        };
        assert!(
            source.to_string().contains("trailing characters"),
            "{source}"
        );
    }
    assert!(matches!(
        verify(&vec![b' '; MAX_BYTES + 1], &known_public()),
        Err(VerifyError::Large)
    ));
}

#[test]
fn nothing_may_follow_the_statement() {
    let payload = [known_payload().as_slice(), b"{}"].concat();
    let error = check(&envelope_of(&payload, &known_key())).unwrap_err();
    assert!(matches!(error, VerifyError::Statement(_)), "{error}");
}

#[test]
fn no_name_may_be_used_twice() {
    let known = String::from_utf8(KNOWN.to_vec()).unwrap();
    for (from, to) in [
        ("\"payloadType\"", "\"payloadType\": \"x\", \"payloadType\""),
        ("\"keyid\"", "\"keyid\": \"x\", \"keyid\""),
        // Also where nobody looks, and however it is written.
        (
            "\"payload\"",
            "\"x\": {\"a\": 1, \"\\u0061\": 2}, \"payload\"",
        ),
    ] {
        let twice = known.replacen(from, to, 1);
        let error = verify(twice.as_bytes(), &known_public()).unwrap_err();
        let VerifyError::Envelope(source) = &error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains("used twice"), "{source}");
    }
    let payload = String::from_utf8(known_payload()).unwrap();
    for (from, to) in [
        ("\"name\":\"acme\"", "\"name\":\"globex\",\"name\":\"acme\""),
        ("\"version\":2}", "\"version\":2,\"version\":2}"),
    ] {
        let twice = payload.replacen(from, to, 1);
        let error = check(&envelope_of(twice.as_bytes(), &known_key())).unwrap_err();
        assert!(
            matches!(&error, VerifyError::Statement(source) if source.to_string().contains("used twice")),
            "{error}"
        );
    }
}

#[test]
fn other_statements_are_told_apart() {
    let error = signed_with(|s| s["predicateType"] = "https://granary.dev/deletion/v2".into());
    assert!(matches!(error, Err(VerifyError::PredicateType { found }) if found.ends_with("v2")));
    let error = signed_with(|s| s["_type"] = "https://in-toto.io/Statement/v0.1".into());
    assert!(matches!(error, Err(VerifyError::StatementType { found }) if found.ends_with("v0.1")));
    for change in [
        (|s: &mut Value| s["predicate"]["surprise"] = true.into()) as fn(&mut Value),
        |s| s["predicate"]["steps"]["accessCut"] = "yesterday".into(),
        |s| s["predicate"]["proofs"][0]["outcome"] = "unclear".into(),
        |s| s["predicate"]["removed"]["objects"] = (-1).into(),
        |s| s["predicate"] = Value::Null,
        |s| s["predicateType"] = Value::Null,
    ] {
        let error = signed_with(change).unwrap_err();
        assert!(matches!(error, VerifyError::Statement(_)), "{error}");
    }
}

#[test]
fn the_subject_must_be_the_records_tenant() {
    for change in [
        (|s: &mut Value| s["subject"][0]["name"] = "globex".into()) as fn(&mut Value),
        |s| s["subject"][0]["digest"]["sha256"] = "00".repeat(32).into(),
        |s| s["subject"] = json!([]),
        |s| {
            let one = s["subject"][0].clone();
            s["subject"] = json!([one, one]);
        },
        |s| s["predicate"]["tenant"]["uid"] = "00000000-0000-4000-8000-000000000000".into(),
    ] {
        assert!(matches!(signed_with(change), Err(VerifyError::Subject)));
    }
}

#[test]
fn a_signature_does_not_make_an_impossible_record_possible() {
    let error = signed_with(|s| {
        s["predicate"]["proofs"][0]["outcome"] = "allowed".into();
    })
    .unwrap_err();
    assert!(matches!(error, VerifyError::Impossible(_)), "{error}");
    let error = signed_with(|s| {
        s["predicate"]["steps"]
            .as_object_mut()
            .unwrap()
            .remove("destroyed");
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("\"destroyed\" is missing"),
        "{error}"
    );
}
