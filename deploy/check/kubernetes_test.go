package check

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// manifests are those of a kind in a folder and the ones below.
type manifests map[string]any

// load reads manifests, and refuses keys that their kinds do not have.
func load(t *testing.T) manifests {
	t.Helper()
	found := manifests{}
	err := filepath.Walk(filepath.Join(deploy, "kubernetes"), func(file string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var what meta.TypeMeta
		if err := yaml.Unmarshal(text, &what); err != nil {
			return err
		}
		kinds := map[meta.TypeMeta]any{
			{APIVersion: "apps/v1", Kind: "Deployment"}:                 new(apps.Deployment),
			{APIVersion: "v1", Kind: "Service"}:                         new(core.Service),
			{APIVersion: "v1", Kind: "ConfigMap"}:                       new(core.ConfigMap),
			{APIVersion: "v1", Kind: "Secret"}:                          new(core.Secret),
			{APIVersion: "v1", Kind: "Pod"}:                             new(core.Pod),
			{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}: new(networking.NetworkPolicy),
			{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:      new(policy.PodDisruptionBudget),
		}
		into, known := kinds[what]
		if !known {
			t.Errorf("%s: %v is of no known kind", file, what)
			return nil
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		found[what.Kind] = into
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func get[T any](t *testing.T, m manifests, kind string) *T {
	t.Helper()
	one, ok := m[kind].(*T)
	if !ok {
		t.Fatalf("there is no %s", kind)
	}
	return one
}

// deploymentOf is how a container starts the program, with the files of the
// volumes of its pod.
func deploymentOf(t *testing.T, m manifests, pod core.PodSpec, c core.Container) deployment {
	t.Helper()
	d := deployment{environment: map[string]string{}, files: map[string]string{}}
	fields := map[string]string{"status.podIP": "10.1.2.3", "metadata.namespace": "tools", "metadata.name": "mcpool-5d4f8b7c9-x2x4z"}
	var expand []string
	for _, e := range c.Env {
		if e.ValueFrom != nil {
			e.Value = fields[e.ValueFrom.FieldRef.FieldPath]
		}
		expand = append(expand, "$("+e.Name+")", e.Value)
		if strings.HasPrefix(e.Name, "MCP_POOL_") {
			d.environment[e.Name] = e.Value
		}
	}
	for _, arg := range c.Args {
		arg = strings.NewReplacer(expand...).Replace(arg)
		if strings.Contains(arg, "$(") {
			t.Errorf("%s: there is no such variable", arg)
		}
		d.args = append(d.args, arg)
	}
	for _, mount := range c.VolumeMounts {
		has := map[string]string{}
		found := false
		for _, v := range pod.Volumes {
			if v.Name != mount.Name {
				continue
			}
			found = true
			switch {
			case v.ConfigMap != nil:
				conf := get[core.ConfigMap](t, m, "ConfigMap")
				if has = conf.Data; conf.Name != v.ConfigMap.Name {
					t.Errorf("volume %s is of ConfigMap %s, which is not here", v.Name, v.ConfigMap.Name)
				}
			case v.Secret != nil:
				secret := get[core.Secret](t, m, "Secret")
				if has = secret.StringData; secret.Name != v.Secret.SecretName {
					t.Errorf("volume %s is of Secret %s, which is not here", v.Name, v.Secret.SecretName)
				}
			}
		}
		if !found {
			t.Errorf("there is no volume %s", mount.Name)
		}
		for name, text := range has {
			d.files[path.Join(mount.MountPath, name)] = text
		}
	}
	return d
}

// confined reports what a container may do that it does not need.
func confined(t *testing.T, pod core.PodSpec, c core.Container) {
	t.Helper()
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
		s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
		t.Errorf("container %s is not confined", c.Name)
	}
	// This is what the restricted standard of pod security wants besides.
	if p := pod.SecurityContext; p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod of %s is not confined", c.Name)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pod has a token of the API server")
	}
}

func TestKubernetes(t *testing.T) {
	m := load(t)
	dep := get[apps.Deployment](t, m, "Deployment")
	pod := dep.Spec.Template
	c := pod.Spec.Containers[0]
	confined(t, pod.Spec, c)

	service := get[core.Service](t, m, "Service")
	network := get[networking.NetworkPolicy](t, m, "NetworkPolicy")
	budget := get[policy.PodDisruptionBudget](t, m, "PodDisruptionBudget")
	for who, selector := range map[string]*meta.LabelSelector{
		"Deployment":          dep.Spec.Selector,
		"Service":             {MatchLabels: service.Spec.Selector},
		"NetworkPolicy":       &network.Spec.PodSelector,
		"PodDisruptionBudget": budget.Spec.Selector,
		"spread":              pod.Spec.TopologySpreadConstraints[0].LabelSelector,
	} {
		chosen, err := meta.LabelSelectorAsSelector(selector)
		if err != nil || chosen.Empty() || !chosen.Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s does not choose the pods: %v, %v", who, chosen, err)
		}
	}
	port := c.Ports[0]
	for who, name := range map[string]string{
		"Service":       service.Spec.Ports[0].TargetPort.String(),
		"NetworkPolicy": network.Spec.Ingress[0].Ports[0].Port.String(),
		"startup":       c.StartupProbe.HTTPGet.Port.String(),
		"readiness":     c.ReadinessProbe.HTTPGet.Port.String(),
		"liveness":      c.LivenessProbe.HTTPGet.Port.String(),
	} {
		if name != port.Name {
			t.Errorf("%s: port %s, want %s", who, name, port.Name)
		}
	}
	if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.StartupProbe.HTTPGet.Path != "/healthz" {
		t.Error("the probes ask for something else")
	}

	d := deploymentOf(t, m, pod.Spec, c)
	d.check(t) // with the keys of the example
	d.key, d.files["/run/secrets/mcpool/keys"] = newKey(t)
	d.serve(t, map[string]int{
		"10.1.2.3:7432": 200, // the kubelet, and Prometheus
		"mcpool:7432":   200, "mcpool.tools:7432": 200, "mcpool.tools.svc:7432": 200, "mcpool.tools.svc.cluster.local:7432": 200,
		"127.0.0.1:7432":    200, // kubectl port-forward
		"elsewhere.example": 403,
	})
}

func TestSidecar(t *testing.T) {
	m := load(t)
	pod := get[core.Pod](t, m, "Pod").Spec
	c := pod.InitContainers[0]
	if c.RestartPolicy == nil || *c.RestartPolicy != core.ContainerRestartPolicyAlways {
		t.Error("the agent would wait for it to end")
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		confined(t, pod, c)
	}
	deploymentOf(t, m, pod, c).check(t)
}
