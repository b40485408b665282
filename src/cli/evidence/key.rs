//! `granary evidence key`: the public keys that deletion records are checked with.

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde::Serialize;

use super::super::cluster::Cluster;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::printer::{Printer, View};
use crate::api::plane::{EVIDENCE_KEY, EVIDENCE_PUBLIC_FILE};
use crate::evidence::PublicKey;

/// Print the plane's public key for deletion records, as PEM; keep it elsewhere, and check records with it
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// Namespace that Granary is installed in
    #[arg(short, long, default_value = "granary-system")]
    namespace: String,
}

/// The public keys: the one that signs now first, then those before it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    api_version: &'static str,
    kind: &'static str,
    keys: Vec<Key>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    pem: String,
}

impl View for Published {
    fn table(&self, _wide: bool, _colour: bool) -> String {
        self.keys.iter().map(|key| key.pem.as_str()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }
}

/// Runs `granary evidence key`.
pub async fn run(args: &KeyArgs, cluster: &Cluster, printer: Printer) -> Result<(), Failure> {
    let keys = read(cluster, &args.namespace).await?;
    let keys = keys.iter().map(|key| Key {
        id: key.id(),
        pem: key.to_pem(),
    });
    printer.show(&Published {
        api_version: super::super::REPORT_VERSION,
        kind: "EvidenceKeys",
        keys: keys.collect(),
    })
}

/// The public keys that the plane publishes.
pub async fn read(cluster: &Cluster, namespace: &str) -> Result<Vec<PublicKey>, Failure> {
    let what =
        format!("cannot read ConfigMap {namespace}/{EVIDENCE_KEY}, which holds the public key");
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let config =
        cluster
            .ask(&what, api.get(EVIDENCE_KEY))
            .await
            .map_err(|failure| {
                match failure.exit() {
            Exit::NotFound => failure
                .next("granary evidence key --namespace NAMESPACE   # where is Granary installed?")
                .next("granary doctor   # is the operator running? It makes that key"),
            _ => failure,
        }
            })?;
    let pem = config
        .data
        .and_then(|mut data| data.remove(EVIDENCE_PUBLIC_FILE))
        .unwrap_or_default();
    PublicKey::all_from_pem(pem.as_bytes()).map_err(|error| {
        Failure::new(
            Exit::Failure,
            format!("ConfigMap {namespace}/{EVIDENCE_KEY} has no usable {EVIDENCE_PUBLIC_FILE}"),
        )
        .why(error.to_string())
        .next("granary doctor   # is the operator running? It puts the key back within the hour")
    })
}
