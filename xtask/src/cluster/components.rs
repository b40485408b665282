//! What the cluster is built from.

use super::versions::{CILIUM, KUBERNETES};

/// One program, built from a package of one of the modules below `tests/cluster`.
pub struct Component {
    /// The program's name.
    pub output: &'static str,
    /// The folder of its Go module.
    pub module: &'static str,
    /// The Go package.
    pub package: &'static str,
    /// Build tags.
    pub tags: &'static str,
    /// Linker flags that set versions.
    pub variables: String,
    /// Folders of modules that are needed at run time: module, folder in it, name here.
    pub assets: &'static [(&'static str, &'static str, &'static str)],
    /// The module whose sources get lines added, and the lines.
    pub patches: Option<(&'static str, &'static [Patch])>,
}

/// A line added to a source file while it is built.
pub struct Patch {
    /// The file, in the module.
    pub file: &'static str,
    /// What stands before the added line.
    pub after: &'static str,
    /// The added line.
    pub line: &'static str,
}

const TRAEFIK_PATCHES: [Patch; 2] = [
    // Traefik writes the status of routes before it serves them, through a client that
    // makes 5 requests a second and cannot be told otherwise: ten tenants at once would
    // wait for that alone.
    Patch {
        file: "pkg/provider/kubernetes/gateway/client.go",
        after: "func createClientFromConfig(c *rest.Config) (*clientWrapper, error) {\n",
        line: "\tc.QPS, c.Burst = 1000, 2000\n",
    },
    // Where a Gateway has two listeners, Traefik writes each BackendTLSPolicy's status for
    // the one, then for the other in its place, sees the change, and starts again, for
    // ever. So the status names the Gateway, not the listener.
    Patch {
        file: "pkg/provider/kubernetes/gateway/httproute.go",
        after: "\t\t\t// Multiple BackendTLSPolicies can match the same service port, meaning that there is a conflict.\n",
        line: "\t\t\tpolicyAncestorStatus.AncestorRef.SectionName = nil\n",
    },
];

/// The components, those that take longest first.
pub fn components() -> Vec<Component> {
    let plain = |output, module, package| Component {
        output,
        module,
        package,
        tags: "",
        variables: String::new(),
        assets: &[],
        patches: None,
    };
    let base = "k8s.io/component-base/version";
    let cilium = format!("-X github.com/cilium/cilium/pkg/version.ciliumVersion={CILIUM}");
    vec![
        Component {
            variables: format!(
                "-X {base}.gitVersion=v{KUBERNETES} -X {base}.gitMajor=1 -X {base}.gitMinor=36"
            ),
            ..plain("kubernetes", "kubernetes", ".")
        },
        Component {
            tags: "osusergo",
            variables: cilium.clone(),
            assets: &[
                ("github.com/cilium/cilium", "bpf", "bpf"),
                (
                    "github.com/cilium/cilium",
                    "pkg/k8s/apis/cilium.io/client/crds",
                    "crds",
                ),
            ],
            ..plain("cilium-agent", "cilium", "github.com/cilium/cilium/daemon")
        },
        Component {
            assets: &[("sigs.k8s.io/gateway-api", "config/crd/standard", "crds")],
            patches: Some(("github.com/traefik/traefik/v3", &TRAEFIK_PATCHES)),
            ..plain(
                "traefik",
                "traefik",
                "github.com/traefik/traefik/v3/cmd/traefik",
            )
        },
        Component {
            tags: "osusergo,ipam_provider_operator",
            variables: cilium.clone(),
            ..plain(
                "cilium-operator-generic",
                "cilium",
                "github.com/cilium/cilium/operator",
            )
        },
        plain("coredns", "coredns", "github.com/coredns/coredns"),
        plain("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
        Component {
            tags: "osusergo",
            variables: cilium.clone(),
            ..plain(
                "cilium-dbg",
                "cilium",
                "github.com/cilium/cilium/cilium-dbg",
            )
        },
        Component {
            tags: "osusergo",
            variables: cilium,
            ..plain(
                "cilium-cni",
                "cilium",
                "github.com/cilium/cilium/plugins/cilium-cni",
            )
        },
        plain("volumes", "volumes", "."),
    ]
}
