package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// town is a simulated cloud with one key, a namespace, and a worker process that is started again whenever it dies.
type town struct {
	*testing.T
	*scenario.Scenario
	// name is the key's.
	name      string
	cfg       *config.Config
	client    sdkclient.Client
	namespace string
	dir       string
	rules     simcloud.Rules
	oldID     string
	env       []string
	// made are the keys that a person made, also those that came into no store.
	made []secret.Value

	// hold keeps the next worker process from starting.
	hold sync.Mutex

	mu     sync.Mutex
	logs   bytes.Buffer
	worker *exec.Cmd
	deaths int
	ending bool
	gone   chan struct{}
}

// fast is a policy in which nothing takes longer than it must.
var fast = []string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 3s"}

var towns atomic.Int64

// newTown starts a scene with the Google key "ci" in two stores. env goes to the worker.
func newTown(t *testing.T, o scenario.Options, env ...string) *town {
	t.Helper()
	return newTownOn(t, server, o, env...)
}

func newTownOn(t *testing.T, server *devserver.Server, o scenario.Options, env ...string) *town {
	t.Helper()
	return build(t, server, "ci", (*scenario.Scenario).Google, o, env...)
}

// build starts a town around a key that add adds to the scene.
func build(t *testing.T, server *devserver.Server, name string, add func(*scenario.Scenario, string, ...string) (string, error), o scenario.Options, env ...string) *town {
	t.Helper()
	w := &town{T: t, name: name, namespace: fmt.Sprintf("town-%d", towns.Add(1)), dir: t.TempDir(), gone: make(chan struct{})}
	if o.Policy == nil {
		o.Policy = fast
	}
	if o.RequestTimeout == "" {
		o.RequestTimeout = "1s"
	}
	if o.Propagation == "" {
		o.Propagation = "20s"
	}
	if o.RevocationLag == "" {
		o.RevocationLag = "20s"
	}
	var err error
	if w.Scenario, err = scenario.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Scenario.Stop)
	if w.oldID, err = add(w.Scenario, name, scenario.Alias, scenario.Latest); err != nil {
		t.Fatal(err)
	}
	w.rules = scenario.Rules(name, scenario.Alias, scenario.Latest)
	file := filepath.Join(w.dir, "rekey.yaml")
	if err := os.WriteFile(file, []byte(w.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.cfg, err = config.Load(file); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := server.AddNamespace(ctx, w.namespace, workflows.SearchAttributes()); err != nil {
		t.Fatal(err)
	}
	if w.client, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: server.HostPort(), Namespace: w.namespace, Identity: "e2e", Logger: silent}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	w.env = append([]string{
		envConfig + "=" + file, envAddress + "=" + server.HostPort(), envNamespace + "=" + w.namespace, envKilled + "=" + filepath.Join(w.dir, "killed"),
	}, env...)
	go w.keepWorking()
	t.Cleanup(w.stopWorking)
	return w
}

// keepWorking runs worker processes, one after the other.
func (w *town) keepWorking() {
	defer close(w.gone)
	for {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), w.env...)
		cmd.Stdout, cmd.Stderr = &locked{w: w}, &locked{w: w}
		w.hold.Lock()
		w.hold.Unlock() //nolint:staticcheck // whoever holds it lets go of it when the worker may start
		w.mu.Lock()
		if w.ending {
			w.mu.Unlock()
			return
		}
		err := cmd.Start()
		w.worker = cmd
		w.mu.Unlock()
		if err != nil {
			w.Errorf("the worker does not start: %v", err)
			return
		}
		err = cmd.Wait()
		w.mu.Lock()
		ending := w.ending
		w.deaths++
		w.mu.Unlock()
		if ending {
			return
		}
		if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
			w.Errorf("the worker ended by itself: %v\n%s", err, w.log())
			return
		}
	}
}

func (w *town) stopWorking() {
	w.mu.Lock()
	w.ending = true
	if w.worker != nil {
		_ = w.worker.Process.Kill()
	}
	w.mu.Unlock()
	<-w.gone
}

// kill ends the worker as a power cut would; another one is started.
func (w *town) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.worker.Process.Kill()
}

type locked struct{ w *town }

func (l *locked) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.logs.Write(p)
}

func (w *town) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logs.String()
}

func (w *town) key() rotation.Key { k, _ := w.cfg.Key(w.name); return k }

func (w *town) id() string { return workflows.ID(w.name) }

func (w *town) start(reason rotation.Reason) sdkclient.WorkflowRun {
	w.Helper()
	run, err := w.client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{
		ID: w.id(), TaskQueue: workflows.ProviderTaskQueue(w.key().Provider), TypedSearchAttributes: workflows.StartAttributes(w.key(), reason),
	}, workflows.RotateKey, workflows.Input{Key: w.key(), Reason: reason, By: "e2e"})
	if err != nil {
		w.Fatal(err)
	}
	return run
}

// end waits for the rotation to end and checks the invariants.
func (w *town) end(run sdkclient.WorkflowRun) rotation.Result {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	var res rotation.Result
	if err := client.Wait(ctx, w.client, run.GetID(), run.GetRunID(), &res); err != nil {
		w.Fatalf("the rotation did not end well: %v\n%s", err, w.details())
	}
	w.invariants()
	w.replayed()
	return res
}

func (w *town) invariants() {
	w.Helper()
	for _, broken := range w.Cloud.Check(w.rules) {
		w.Error(broken)
	}
	if orphans := w.Cloud.Orphans(); len(orphans) > 0 {
		w.Errorf("orphans: %v", orphans)
	}
}

// replaced checks that one new key is left, and stands everywhere.
func (w *town) replaced(res rotation.Result) {
	w.Helper()
	if res.Phase != rotation.Completed {
		w.Errorf("the rotation ended as %s: %s", res.Phase, res.Outcome)
	}
	published := w.Cloud.PublishedKeys()
	live := w.Cloud.LiveKeys()
	a, b := published[scenario.Path(scenario.Alias, w.name)], published[scenario.Path(scenario.Latest, w.name)]
	if _, ok := live[a]; a != b || a == w.oldID || !ok || len(live) != 1 {
		w.Errorf("stores: %s and %s; keys: %v; old: %s", a, b, live, w.oldID)
	}
}

func (w *town) status() (rotation.Status, error) {
	var s rotation.Status
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := w.client.QueryWorkflow(ctx, w.id(), "", workflows.StatusQuery)
	if err != nil {
		return s, err
	}
	return s, v.Get(&s)
}

func (w *town) details() string {
	s, err := w.status()
	return fmt.Sprintf("%s\n%v", s.Details, err)
}

// waitFor waits until the rotation is in a phase. After a restart of the server the pollers of a worker take most of a
// minute to come back, and longer on a busy machine.
func (w *town) waitFor(p rotation.Phase) {
	w.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err := w.status(); err == nil && s.Phase == p {
			return
		}
	}
	w.Fatalf("the rotation does not come to %s: %s", p, w.details())
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
