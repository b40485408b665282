// Command volumes gives the local cluster node-local dynamic volumes. It runs
// on the node as a plain process, because a volume is an ext4 file system in a
// sparse file, loop-mounted: so a volume really has the size that was asked
// for, survives its pod, and is gone with its claim.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what the StorageClass names, and what stands in each
// volume's annotation.
const provisionerName = "granary.dev/local"

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file`")
	folder := flag.String("folder", "", "`folder` that holds images and mounts")
	node := flag.String("node", "", "`name` of the node the volumes live on")
	klog.InitFlags(nil)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, volumes{folder: *folder, node: *node}); err != nil {
		fmt.Fprintf(os.Stderr, "volumes: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string, volumes volumes) error {
	if volumes.folder == "" || volumes.node == "" {
		return errors.New("-folder and -node are needed")
	}
	if err := volumes.mountAll(ctx); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	config.UserAgent = "volumes"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	controller.NewProvisionController(ctx, client, provisionerName, volumes,
		controller.LeaderElection(false),
		controller.Threadiness(8),
		controller.MetricsPort(0),
		// A failure (a mount still busy, say) is tried again soon, and never given up.
		controller.RateLimiter(workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 5*time.Second)),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
	).Run(ctx)
	return nil
}

// volumes makes and removes the volumes below one folder: NAME.img is the
// file system, NAME/ where it is mounted.
type volumes struct {
	folder string
	node   string
}

func (v volumes) image(name string) string { return filepath.Join(v.folder, name+".img") }
func (v volumes) mount(name string) string { return filepath.Join(v.folder, name) }

// data is what pods see: a folder inside the file system, so that it is missing
// while that is not mounted (after the machine was restarted, say), and a pod
// waits instead of starting on an empty folder.
func (v volumes) data(name string) string { return filepath.Join(v.mount(name), "data") }

// Provision makes one volume for a claim.
func (v volumes) Provision(ctx context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	name := options.PVName
	size := options.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	if err := v.make(ctx, name, size.Value()); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	mode := v1.PersistentVolumeFilesystem
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: size},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: v.data(name)}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{v.node},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes a volume and all that it held.
func (v volumes) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	name := volume.Name
	if v.mounted(name) {
		if err := command(ctx, "umount", v.mount(name)); err != nil {
			return err
		}
	}
	return errors.Join(removed(v.mount(name)), removed(v.image(name)))
}

// make is safe to call again after it was interrupted: a half-made image is
// made anew, a finished one carries its name only once it is whole.
func (v volumes) make(ctx context.Context, name string, size int64) error {
	if _, err := os.Stat(v.image(name)); errors.Is(err, os.ErrNotExist) {
		partial := v.image(name) + ".partial"
		if err := removed(partial); err != nil {
			return err
		}
		if err := os.WriteFile(partial, nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(partial, size); err != nil {
			return fmt.Errorf("reserving %d bytes: %w", size, err)
		}
		if err := command(ctx, "mkfs.ext4", "-q", "-F", "-m", "0",
			"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", partial); err != nil {
			return err
		}
		if err := os.Rename(partial, v.image(name)); err != nil {
			return err
		}
	}
	if err := v.mountOne(ctx, name); err != nil {
		return err
	}
	return os.MkdirAll(v.data(name), 0o755)
}

func (v volumes) mountOne(ctx context.Context, name string) error {
	if v.mounted(name) {
		return nil
	}
	if err := os.MkdirAll(v.mount(name), 0o755); err != nil {
		return err
	}
	return command(ctx, "mount", "-t", "ext4", "-o", "loop,noatime,nosuid,nodev", v.image(name), v.mount(name))
}

// mountAll brings the volumes back after the machine was restarted.
func (v volumes) mountAll(ctx context.Context) error {
	if err := os.MkdirAll(v.folder, 0o755); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(v.folder, "*.img"))
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := v.mountOne(ctx, strings.TrimSuffix(filepath.Base(image), ".img")); err != nil {
			return err
		}
	}
	return nil
}

// mounted says whether the volume's folder is on another device than its
// parent, that is, whether something is mounted there.
func (v volumes) mounted(name string) bool {
	var inside, outside syscall.Stat_t
	if syscall.Stat(v.mount(name), &inside) != nil || syscall.Stat(v.folder, &outside) != nil {
		return false
	}
	return inside.Dev != outside.Dev
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func command(ctx context.Context, name string, arguments ...string) error {
	output, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strconv.Quote(strings.Join(arguments, " ")), err, strings.TrimSpace(string(output)))
	}
	return nil
}
