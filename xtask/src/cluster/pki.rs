//! Keys and certificates: the cluster's own, and the gateway's.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::layout::{Cluster, write_if_changed};
use super::network::{API_SERVICE_ADDRESS, NODE_ADDRESS};

/// The API server, as everyone reaches it, on the host too.
pub fn api_server() -> String {
    format!("https://{NODE_ADDRESS}:6443")
}

/// Tenants' pages on the local cluster are below this domain.
pub const BASE_DOMAIN: &str = "granary.localhost";

/// The gateway's certificates are made anew when they are this old, before
/// they end after 820 days, the longest that every client accepts.
const GATEWAY_RENEWAL: Duration = Duration::from_hours(700 * 24);

/// A client of the API server: file name, user, groups.
const CLIENTS: [(&str, &str, &[&str]); 7] = [
    ("admin", "admin", &["system:masters"]),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        &[],
    ),
    ("kube-scheduler", "system:kube-scheduler", &[]),
    ("kube-proxy", "system:kube-proxy", &[]),
    ("cilium", "cilium", &[]),
    ("volumes", "volumes", &[]),
    ("kubelet", "", &["system:nodes"]),
];

/// Makes what is missing.
pub fn ensure(cluster: &Cluster) -> Result<()> {
    if !cluster.pki().join("complete").exists() {
        make_cluster(cluster).context("making the cluster's certificates")?;
        fs::write(cluster.pki().join("complete"), "")?;
    }
    let age = fs::metadata(cluster.gateway_pki().join("tls.crt"))
        .and_then(|file| file.modified())
        .map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
    if age.map_or(true, |age| age > GATEWAY_RENEWAL) {
        make_gateway(cluster).context("making the gateway's certificates")?;
    }
    Ok(())
}

fn make_cluster(cluster: &Cluster) -> Result<()> {
    let folder = cluster.pki();
    let node = cluster.name.as_str();
    let ca = Authority::make(&folder, "ca", "cluster", 3650)?;
    for (name, user, groups) in CLIENTS {
        let user = if user.is_empty() {
            format!("system:node:{node}")
        } else {
            user.to_owned()
        };
        let (certificate, key) =
            ca.issue(&user, groups, &[], ExtendedKeyUsagePurpose::ClientAuth)?;
        write_kubeconfig(cluster, name, &ca.pem, &certificate, &key)?;
    }
    fs::copy(folder.join("admin.kubeconfig"), cluster.kubeconfig())?;
    let names = [
        NODE_ADDRESS,
        API_SERVICE_ADDRESS,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    ca.issue_files(
        &folder,
        "apiserver",
        "kube-apiserver",
        &[],
        &names,
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    ca.issue_files(
        &folder,
        "kubelet",
        node,
        &[],
        &[node, NODE_ADDRESS],
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    ca.issue_files(
        &folder,
        "apiserver-kubelet",
        "kube-apiserver",
        &["system:masters"],
        &[],
        ExtendedKeyUsagePurpose::ClientAuth,
    )?;
    // etcd trusts an authority of its own: who may talk to the API server may not talk to etcd.
    let etcd = Authority::make(&folder, "etcd-ca", "etcd", 3650)?;
    etcd.issue_files(
        &folder,
        "etcd",
        "etcd",
        &[],
        &["127.0.0.1"],
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    etcd.issue_files(
        &folder,
        "apiserver-etcd",
        "kube-apiserver",
        &[],
        &[],
        ExtendedKeyUsagePurpose::ClientAuth,
    )?;
    let accounts = KeyPair::generate()?;
    write_secret(
        &folder.join("service-accounts.key"),
        &accounts.serialize_pem(),
    )?;
    fs::write(
        folder.join("service-accounts.pub"),
        accounts.public_key_pem(),
    )?;
    Ok(())
}

fn make_gateway(cluster: &Cluster) -> Result<()> {
    let folder = cluster.gateway_pki();
    let ca = Authority::make(&folder, "ca", "Granary local cluster", 820)?;
    let wildcard = format!("*.{BASE_DOMAIN}");
    ca.issue_files(
        &folder,
        "tls",
        &wildcard,
        &[],
        &[&wildcard, BASE_DOMAIN],
        ExtendedKeyUsagePurpose::ServerAuth,
    )
}

/// A certificate authority. Its key is used here and never written: nobody can
/// issue more certificates in its name, which matters where people trust it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// How long it is valid, and so what it issues.
    days: u64,
}

impl Authority {
    fn make(folder: &Path, file: &str, name: &str, days: u64) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_validity(&mut params, days);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        fs::write(folder.join(format!("{file}.crt")), &pem)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            days,
        })
    }

    /// A certificate and its key, both PEM.
    fn issue(
        &self,
        name: &str,
        groups: &[&str],
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.days);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn issue_files(
        &self,
        folder: &Path,
        file: &str,
        name: &str,
        groups: &[&str],
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<()> {
        let (certificate, key) = self.issue(name, groups, names, purpose)?;
        fs::write(folder.join(format!("{file}.crt")), certificate)?;
        write_secret(&folder.join(format!("{file}.key")), &key)
    }
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    // A clock that is a little behind must not refuse a fresh certificate.
    params.not_before = (now - Duration::from_mins(5)).into();
    params.not_after = (now + Duration::from_hours(days * 24)).into();
}

fn write_secret(path: &Path, content: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    Ok(())
}

fn write_kubeconfig(
    cluster: &Cluster,
    client: &str,
    ca: &str,
    certificate: &str,
    key: &str,
) -> Result<()> {
    let name = &cluster.name;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": api_server(),
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": client, "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": client}}],
        "current-context": name,
    });
    let path = cluster.pki().join(format!("{client}.kubeconfig"));
    write_secret(&path, "")?;
    write_if_changed(&path, &serde_json::to_string_pretty(&kubeconfig)?).map(drop)
}
