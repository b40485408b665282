//! A silo's certificates.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "silo");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server called `localhost`.
    pub fn server(&self) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
            .distinguished_name
            .push(DnType::CommonName, "database");
        self.sign(&params)
    }

    /// For a client with this common name.
    pub fn client(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Writes the files into `folder` the way kubelet does for a Secret volume: a new folder, then one rename of the link
/// that all files are reached through. Owner root, readable by the pod's group.
pub fn mount(folder: &Path, leaf: &Leaf, authority: &str) {
    let serial = fs::read_dir(folder).unwrap().count();
    let data = folder.join(format!("..data-{serial}"));
    fs::create_dir(&data).unwrap();
    for (name, content) in [
        ("tls.crt", leaf.certificate.as_str()),
        ("tls.key", &leaf.key),
        ("ca.crt", authority),
    ] {
        let file = data.join(name);
        fs::write(&file, content).unwrap();
        super::pod::give_to_group(&file);
        let link = folder.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let draft = folder.join("..data_tmp");
    symlink(data.file_name().unwrap(), &draft).unwrap();
    fs::rename(draft, folder.join("..data")).unwrap();
}
