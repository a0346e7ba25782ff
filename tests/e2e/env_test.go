// Package e2e tests rekey end to end: the real Temporal server, worker processes that are killed, simulated clouds.
package e2e

import (
	"os"
	"testing"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// The state of the shared server is in a file, so that the search for secrets can read it. The tests mostly wait for
// processes to be found dead: more of them at once than there are cores.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.MainOptions{Parallel: 10, File: true})) }

// env is the test environment around one key, with a worker process that is started again whenever it dies.
type env struct {
	*testenv.Env
	// name is the key's.
	name  string
	rules simcloud.Rules
	oldID string
	// made are the keys that a person made, also those that came into no store.
	made []secret.Value
	// scenario is what the history is called in the corpus; empty: it does not go there.
	scenario string
}

// fast is a policy in which nothing takes longer than it must.
var fast = testenv.Fast()

// newEnv has the Google key "ci" in two stores. Its worker kills itself once at each moment of kill.
func newEnv(t *testing.T, o scenario.Options, kill ...string) *env {
	t.Helper()
	return start(t, fixture{name: "ci", add: (*scenario.Scenario).Google, scenario: o, kill: kill})
}

// fixture is what an env is made of.
type fixture struct {
	name     string
	add      func(*scenario.Scenario, string, ...string) (string, error)
	scenario scenario.Options
	temporal testenv.TemporalOptions
	kill     []string
}

func start(t *testing.T, f fixture) *env {
	t.Helper()
	o := &f.scenario
	if o.Policy == nil {
		o.Policy = fast
	}
	for field, standard := range map[*string]string{&o.RequestTimeout: "1s", &o.Propagation: "20s", &o.RevocationLag: "20s"} {
		if *field == "" {
			*field = standard
		}
	}
	w := &env{name: f.name, rules: scenario.Rules(f.name, scenario.Alias, scenario.Latest)}
	w.Env = testenv.Start(t, testenv.Options{TemporalOptions: f.temporal, SimOptions: testenv.SimOptions{Scenario: *o, Keys: func(s *scenario.Scenario) (err error) {
		w.oldID, err = f.add(s, f.name, scenario.Alias, scenario.Latest)
		return err
	}}})
	w.StartWorkerProcess(f.kill...)
	return w
}

func (w *env) key() rotation.Key { return w.Key(w.name) }

func (w *env) id() string { return workflows.ID(w.name) }

func (w *env) start(reason rotation.Reason) sdkclient.WorkflowRun {
	w.Helper()
	return w.Rotate(w.name, reason)
}

// end waits for the rotation to end and checks the invariants.
func (w *env) end(run sdkclient.WorkflowRun) rotation.Result {
	w.Helper()
	res := w.Result(w.name, run.GetRunID())
	w.Invariants(w.rules)
	w.replayed()
	return res
}

// replaced checks that one new key is left, and stands everywhere.
func (w *env) replaced(res rotation.Result) {
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

func (w *env) status() (rotation.Status, error) { return w.Status(w.name) }

func (w *env) waitFor(p rotation.Phase) {
	w.Helper()
	w.AwaitPhase(w.name, p)
}

// eventually waits until the rotation's status is as wanted.
func (w *env) eventually(what string, wanted func(rotation.Status) bool) {
	w.Helper()
	w.AwaitStatus(w.name, what, wanted)
}

func (w *env) decide(kind rotation.DecisionKind) {
	w.Helper()
	w.tell(kind, rotation.DecisionMessage{By: "e2e", Why: "the test says so"})
}

// tell sends a decision as an Update, which must be taken.
func (w *env) tell(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	w.Helper()
	w.Decide(w.name, kind, m)
}

func (w *env) tryTell(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	return w.TryDecide(w.name, kind, m)
}
