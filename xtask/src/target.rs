//! The cluster that the demo and the tests use, with Granary installed in it: the
//! local one, or one that is there already.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cluster::{self, Cluster, Ports, build, image, pki, up};
use crate::command::{cargo, run, run_visibly};
use crate::images;
use crate::paths;
use crate::prerequisites::{self, FOR_IMAGES};
use crate::progress::Progress;

/// Granary's own namespace.
const NAMESPACE: &str = "granary-system";

/// Which cluster.
#[derive(Debug, Clone, Args)]
#[group(id = "target")]
pub struct Choice {
    #[command(flatten)]
    local: cluster::Choice,
    /// Use the cluster of this kubeconfig context instead of a local one
    #[arg(long, requires_all = ["values", "gateway", "gateway_ca"])]
    context: Option<String>,
    /// With --context: values for the chart: images by digest that the cluster can pull, baseDomain, gateway
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
    /// With --context: where this machine reaches the gateway's HTTPS listener
    #[arg(long, value_name = "HOST:PORT")]
    gateway: Option<String>,
    /// With --context: the CA that signed the gateway's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    gateway_ca: Option<PathBuf>,
    /// How Granary's programs are compiled
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// How Granary's programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Small and fast.
    Release,
}

/// A cluster in which Granary runs.
pub struct Target {
    /// The kubeconfig to use; without, kubectl's own rules hold.
    pub kubeconfig: Option<PathBuf>,
    /// The context to use; without, the current one.
    pub context: Option<String>,
    /// Where this machine reaches the gateway's HTTPS listener, `host:port`.
    pub gateway: String,
    /// The CA that signed the gateway's certificate.
    pub gateway_ca: PathBuf,
    /// The `granary` program for this machine.
    pub granary: PathBuf,
    /// Whether the local cluster was started by this very command.
    pub started: bool,
}

impl Choice {
    /// The local cluster that would be used, if no other one was named.
    pub fn local_cluster(&self) -> Result<Option<Cluster>> {
        if self.context.is_some() {
            Ok(None)
        } else {
            self.local.cluster().map(Some)
        }
    }

    /// The command that takes the local cluster down, if no other one was named.
    pub fn down_command(&self) -> Option<String> {
        self.context.is_none().then(|| self.local.down_command())
    }

    /// Brings the cluster up, builds and loads the images, installs the chart: what is
    /// independent runs side by side.
    pub fn install(&self, progress: &Progress) -> Result<Target> {
        match &self.context {
            Some(context) => self.install_elsewhere(context, progress),
            None => self.install_locally(progress),
        }
    }

    fn install_locally(&self, progress: &Progress) -> Result<Target> {
        let cluster = self.local.cluster()?;
        let ports = self.local.ports();
        let started = !cluster.kubeconfig().exists();
        prerequisites::require_root()?;
        prerequisites::ensure_packages(FOR_IMAGES, progress)?;
        let profile = match self.profile {
            Profile::Dev => images::Profile::Dev,
            Profile::Release => images::Profile::Release,
        };
        let cache = paths::cache()?;
        let (up, images) = thread::scope(|scope| {
            let images = scope.spawn(|| images::build_all(&cache, profile, progress));
            let up = up::up(&cluster, ports, progress);
            (up, images.join())
        });
        up?;
        let images = images.map_err(|_| anyhow!("building the images panicked"))??;
        progress.step("Granary's images loaded", || {
            images
                .iter()
                .try_for_each(|image| image::load_image(&cluster, &image.archive).map(drop))
        })?;
        let target = Target {
            kubeconfig: Some(cluster.kubeconfig()),
            context: None,
            gateway: format!("127.0.0.1:{}", ports.https),
            gateway_ca: cluster.gateway_ca(),
            granary: self.granary()?,
            started,
        };
        let reference = |name: &str| {
            let image = images
                .iter()
                .find(|image| image.name == format!("localhost/{name}"));
            image
                .map(|image| format!("{}@{}", image.name, image.digest))
                .with_context(|| format!("no image {name} was built"))
        };
        let values = local_values(&cluster, ports, &reference)?;
        let file = cluster.path("configuration/values.json");
        fs::write(&file, serde_json::to_string_pretty(&values)?)?;
        progress.step("Granary installed by its chart", || {
            target.apply(&gateway_secret(&cluster)?)?;
            target.helm_install(&file)
        })?;
        Ok(target)
    }

    fn install_elsewhere(&self, context: &str, progress: &Progress) -> Result<Target> {
        let (Some(values), Some(gateway), Some(gateway_ca)) =
            (&self.values, &self.gateway, &self.gateway_ca)
        else {
            bail!("--context needs --values, --gateway and --gateway-ca");
        };
        build::build_only(&["kubernetes", "helm"], progress)?;
        progress.step("granary compiled", || {
            let mut arguments = vec!["build", "--quiet", "--workspace", "--bins"];
            if self.profile == Profile::Release {
                arguments.push("--release");
            }
            run_visibly(cargo().args(&arguments))
        })?;
        let target = Target {
            kubeconfig: None,
            context: Some(context.to_owned()),
            gateway: gateway.clone(),
            gateway_ca: gateway_ca.clone(),
            granary: self.granary()?,
            started: false,
        };
        progress.step("Granary installed by its chart", || {
            target.helm_install(values)
        })?;
        Ok(target)
    }

    /// Cargo puts all programs of a profile into one folder; this one is in `debug`.
    fn granary(&self) -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        let folder = own
            .parent()
            .and_then(Path::parent)
            .context("this program lies in no target folder")?;
        Ok(folder
            .join(if self.profile == Profile::Release {
                "release"
            } else {
                "debug"
            })
            .join("granary"))
    }
}

impl Target {
    /// `kubectl` for this cluster.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new(build::links()?.join("kubectl"));
        command.args(self.selection("--context"));
        Ok(command)
    }

    /// `granary` for this cluster.
    pub fn granary(&self) -> Command {
        let mut command = Command::new(&self.granary);
        command.args(self.selection("--context"));
        command
    }

    fn selection(&self, context: &str) -> Vec<String> {
        let kubeconfig = self
            .kubeconfig
            .iter()
            .flat_map(|file| ["--kubeconfig".to_owned(), file.display().to_string()]);
        let context = self
            .context
            .iter()
            .flat_map(|name| [context.to_owned(), name.clone()]);
        kubeconfig.chain(context).collect()
    }

    /// Applies objects given as JSON.
    pub fn apply(&self, objects: &serde_json::Value) -> Result<()> {
        let mut child = self
            .kubectl()?
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(objects.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "kubectl apply failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    fn helm_install(&self, values: &Path) -> Result<()> {
        let mut helm = Command::new(build::links()?.join("helm"));
        helm.args(self.selection("--kube-context"))
            .args(["upgrade", "--install", "granary"])
            .arg(paths::repository().join("charts/granary"))
            .args([
                "--namespace",
                NAMESPACE,
                "--create-namespace",
                "--wait",
                "--timeout",
                "3m",
                "--values",
            ])
            .arg(values);
        run(&mut helm).map(drop).map_err(|error| {
            let say = |arguments: &[&str]| {
                self.kubectl()
                    .and_then(|mut kubectl| run(kubectl.args(["-n", NAMESPACE]).args(arguments)))
                    .unwrap_or_default()
            };
            let pods = say(&["get", "pods", "-o", "wide"]);
            let logs = [
                "deployment/granary-operator",
                "deployment/granary-keyserver",
                "statefulset/granary-registry",
            ]
            .map(|part| format!("{part}:\n{}", say(&["logs", part, "--tail=15"])))
            .join("\n");
            error.context(format!("the chart did not install:\n{pods}\n{logs}"))
        })
    }
}

/// The chart's values on the local cluster.
fn local_values(
    cluster: &Cluster,
    ports: Ports,
    image: &dyn Fn(&str) -> Result<String>,
) -> Result<serde_json::Value> {
    Ok(json!({
        "baseDomain": pki::BASE_DOMAIN,
        "externalPort": ports.https,
        "images": {
            "operator": image("granary")?,
            "postgres": image("granary-postgres")?,
            "app": image("tenant-template")?,
        },
        "gateway": {
            "className": "traefik",
            "caBundle": fs::read_to_string(cluster.gateway_ca())?,
        },
    }))
}

/// Granary's namespace, and in it the certificate for all tenants' names.
fn gateway_secret(cluster: &Cluster) -> Result<serde_json::Value> {
    let file = |name: &str| {
        fs::read(cluster.gateway_pki().join(name)).map(|content| STANDARD.encode(content))
    };
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "granary-wildcard-tls", "namespace": NAMESPACE},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": file("tls.crt")?, "tls.key": file("tls.key")?},
        },
    ]}))
}
