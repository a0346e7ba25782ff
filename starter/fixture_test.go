package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// fixture is everything that the command line talks to: a simulated cloud, Temporal, workers. The command itself runs
// in processes of its own.
type fixture struct {
	*testing.T
	*scenario.Scenario
	cfg     *config.Config
	acts    *engine.Setup
	client  sdkclient.Client
	file    string
	address string

	mu sync.Mutex
	// said is all that the processes wrote, on both outputs.
	said bytes.Buffer
}

// newFixture starts a fixture in which nothing takes longer than it must. add adds the keys.
func newFixture(t *testing.T, add func(*scenario.Scenario) error) *fixture {
	t.Helper()
	return newFixtureWith(t, func(*scenario.Options) {}, add)
}

// newFixtureWith starts a fixture whose options a test changes.
func newFixtureWith(t *testing.T, change func(*scenario.Options), add func(*scenario.Scenario) error) *fixture {
	t.Helper()
	dir, ctx := t.TempDir(), context.Background()
	s := &fixture{T: t, file: filepath.Join(dir, "rekey.yaml")}
	var err error
	o := scenario.Options{
		Dir: dir, RequestTimeout: "2s", Propagation: "1s", RevocationLag: "1s", KeyBits: 1024,
		Policy: []string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 5s"},
	}
	change(&o)
	if s.Scenario, err = scenario.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Scenario.Stop)
	if err := add(s.Scenario); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, []byte(s.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.cfg, err = config.Load(s.file); err != nil {
		t.Fatal(err)
	}
	if s.acts, err = adapters.Open(ctx, s.cfg, nil); err != nil {
		t.Fatal(err)
	}
	server, err := devserver.Start(ctx, devserver.Options{SearchAttributes: workflows.SearchAttributes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	s.address = server.HostPort()
	if s.client, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: s.address, Namespace: server.Namespace(), Logger: silent}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	w, err := engine.Start(ctx, s.client, server.Namespace(), s.acts, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return s
}

// command is the command line in a process of its own, against this fixture. It is not started yet.
func (s *fixture) command(address, stdin string, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	cmd = exec.Command(os.Args[0])
	// This test binary is the command line if it is called so.
	cmd.Args = append([]string{"rekey", "--config", s.file, "--address", address, "--namespace", sdkclient.DefaultNamespace}, args...)
	cmd.Env = append(os.Environ(), "TEMPORAL_CONFIG_FILE="+s.file+".none")
	cmd.Stdin, out = strings.NewReader(stdin), &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// rekey runs the command line and checks the exit code. It gives what was printed, on both outputs.
func (s *fixture) rekey(want int, stdin string, args ...string) string {
	s.Helper()
	cmd, out := s.command(s.address, stdin, args...)
	err := cmd.Run()
	s.keep(out.Bytes())
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		s.Fatal(err)
	}
	if code != want {
		s.Errorf("rekey %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, out)
	}
	return out.String()
}

func (s *fixture) keep(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said.Write(text)
}

// waitFor waits until the rotation of a key is in a phase.
func (s *fixture) waitFor(key string, p rotation.Phase) rotation.Status {
	s.Helper()
	var last rotation.Status
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if st, err := client.New(s.client).Status(context.Background(), key); err == nil {
			if last = st; st.Phase == p {
				return st
			}
		}
	}
	s.Fatalf("the rotation of %s does not come to %s: %s", key, p, last.Details)
	return last
}

// searched searches what was printed for values, byte by byte and in every encoding (I5).
func searched(t *testing.T, said []byte, values ...secret.Value) {
	t.Helper()
	if !slices.ContainsFunc(values, secretsearch.Searches) {
		t.Fatal("no values to search for: the search proves nothing")
	}
	for _, fingerprint := range secretsearch.New(values...).In(said) {
		t.Errorf("the secret %s was printed, or a part of it", fingerprint)
	}
}

// named checks that an output names a key as it may, by its fingerprint: it went through where a secret could have.
func named(t *testing.T, said string, v secret.Value) {
	t.Helper()
	if !strings.Contains(said, v.Fingerprint()) {
		t.Errorf("what was printed does not even name the key %s: the search proves little\n%s", v.Fingerprint(), said)
	}
}

// values are all that ever stood in this fixture's stores or was made in the console.
func (s *fixture) values() []secret.Value { return append(s.SM.Seen(), s.OpenAI.Made()...) }

// ended waits for the rotation's result.
func (s *fixture) ended(key string) rotation.Result {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var res rotation.Result
	if err := client.New(s.client).WaitRun(ctx, workflows.ID(key), "", &res); err != nil {
		s.Fatal(err)
	}
	return res
}
