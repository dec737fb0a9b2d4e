package check

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func TestDockerfile(t *testing.T) {
	file, err := parser.Parse(bytes.NewReader(read(t, "docker", "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range file.Warnings {
		t.Error(w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) { t.Errorf("%s: %s", rule, message) }})
	stages, _, err := instructions.Parse(file.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		t.Errorf("it is from %s", last.BaseName)
	}
	var user string
	var entry, args, health []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		case *instructions.CmdCommand:
			args = c.CmdLine
		case *instructions.HealthCheckCommand:
			health = c.Health.Test
		case *instructions.RunCommand:
			t.Errorf("%v: there is no shell", c)
		}
	}
	if user != "65532:65532" { // by number, or Kubernetes cannot tell that it is not root
		t.Errorf("its user is %q", user)
	}
	if len(entry) != 1 || entry[0] != "/mcpool" {
		t.Errorf("its entrypoint is %q", entry)
	}
	d := deployment{args: args, health: healthOf(t, health)}
	d.check(t)
	d.serve(t, map[string]int{"127.0.0.1:7432": 200})
}

// healthOf returns the arguments of the program that ask for its health.
func healthOf(t *testing.T, test []string) []string {
	t.Helper()
	if len(test) < 3 || test[0] != "CMD" || test[1] != "/mcpool" { // there is no shell
		t.Fatalf("its health is asked by %q", test)
	}
	return test[2:]
}

func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "docker", "compose.yaml")},
		cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context()) // checks it against the schema
	if err != nil {
		t.Fatal(err)
	}
	s, err := project.GetService("mcpool")
	if err != nil {
		t.Fatal(err)
	}
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" {
		t.Error("it can do more than it needs")
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			t.Errorf("port %s is published at %q, without TLS", p.Published, p.HostIP)
		}
	}
	if s.HealthCheck == nil {
		t.Fatal("it has no health check")
	}
	d := deployment{args: s.Command, environment: map[string]string{}, files: map[string]string{}, health: healthOf(t, s.HealthCheck.Test)}
	for name, value := range s.Environment {
		d.environment[name] = *value
	}
	for _, c := range s.Configs {
		d.files[c.Target] = string(read(t, "docker", filepath.Base(project.Configs[c.Source].File)))
	}
	for _, secret := range s.Secrets {
		d.files["/run/secrets/"+secret.Source] = sessionKey
	}
	d.key, d.files["/run/secrets/keys"] = newKey(t)
	d.check(t)
	d.serve(t, map[string]int{"127.0.0.1:7432": 200, "mcpool:7432": 200, "elsewhere.example": 403})
}
