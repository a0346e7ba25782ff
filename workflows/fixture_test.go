package workflows_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/sdktest"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/workflows"
)

// fixture runs one rotation with real adapters against a simulated cloud, on Temporal's skipping clock.
type fixture struct {
	*testing.T
	*scenario.Scenario
	name string
	env  *testsuite.TestWorkflowEnvironment
	acts *activities.Steps
	// notifier notifies the channels of the scenario.
	notifier *activities.Notifier
	key      rotation.Key
	in       workflows.Input
	rules    simcloud.Rules
	// oldID is the key that is in the stores before the rotation.
	oldID string

	mu      sync.Mutex
	started []string
	on      map[string][]func()
	// updates counts the updates that were sent.
	updates int
}

type setup struct {
	openai bool
	// begin is the clock at the start; the real one where it is zero.
	begin  time.Time
	stores []string
	opts   scenario.Options
}

// bothStores is a Google key that is in a store read by alias and in one read as latest.
func bothStores() setup { return setup{stores: []string{scenario.Alias, scenario.Latest}} }

func manualKey() setup { return setup{openai: true, stores: []string{scenario.Alias}} }

func (s setup) policy(lines ...string) setup {
	s.opts.Policy = append(slices.Clone(s.opts.Policy), lines...)
	return s
}

// quick is a policy without soak, in which nothing has to be waited for but grace.
const quick = "soak: 0s"

func newFixture(t *testing.T, s setup) *fixture {
	t.Helper()
	r := &fixture{T: t, name: "ci", on: map[string][]func(){}}
	if s.openai {
		r.name = "gpt"
	}
	// Certificates are dated by the real clock; Google refuses those from the future.
	if s.begin.IsZero() {
		s.begin = time.Now().UTC().Truncate(time.Second)
	}
	r.newEnv(s.begin)
	s.opts.Now = r.now
	var err error
	if r.Scenario, err = scenario.Start(s.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	if s.openai {
		r.oldID, err = r.OpenAIKey(r.name, s.stores...)
	} else {
		r.oldID, err = r.Google(r.name, s.stores...)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.rules = scenario.Rules(r.name, s.stores...)
	cfg, err := config.Parse("rekey.yaml", []byte(r.YAML()))
	if err != nil {
		t.Fatal(err)
	}
	r.key = cfg.Keys[0]
	opened, err := adapters.Open(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.acts = &activities.Steps{Environment: opened.Environment, Rotations: neighbours{}}
	r.notifier = &activities.Notifier{Environment: opened.Environment, Channels: opened.Channels, UI: opened.UI}
	r.acts.Now = r.now
	r.in = workflows.Input{Key: r.key, Reason: rotation.Manual, By: "test"}
	r.register()
	return r
}

// now is the clock of the present run.
func (r *fixture) now() time.Time { return r.env.Now() }

// newEnv makes the environment of a run that begins at a moment.
func (r *fixture) newEnv(begin time.Time) {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet)
	r.env = suite.NewTestWorkflowEnvironment()
	r.env.SetTestTimeout(time.Minute)
	r.env.SetStartTime(begin)
	r.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.ID(r.name)})
}

// register makes workflow and activities known to the environment.
func (r *fixture) register() {
	r.env.SetWorkerOptions(worker.Options{
		WorkflowPanicPolicy: worker.FailWorkflow, Interceptors: append(sdktest.Interceptors(r.env), &activities.Interceptor{}),
	})
	workflows.RegisterRotation(r.env)
	if err := activities.RegisterRotation(r.env, r.acts, r.notifier); err != nil {
		r.Fatal(err)
	}
	r.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		r.mu.Lock()
		name := info.ActivityType.Name
		r.started = append(r.started, name)
		var now func()
		if waiting := r.on[name]; len(waiting) > 0 {
			now, r.on[name] = waiting[0], waiting[1:]
		}
		r.mu.Unlock()
		if now != nil {
			now()
		}
	})
}

// whenStarted does something while an activity of that name runs for the first time (next call: the second, …).
func (r *fixture) whenStarted(activity string, f func()) { r.on[activity] = append(r.on[activity], f) }

// after does something when the clock of the workflow has come that far.
func (r *fixture) after(d time.Duration, f func()) { r.env.RegisterDelayedCallback(f, d) }

func (r *fixture) signal(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	if m.By == "" {
		m.By, m.Why = "operator", "the test says so"
	}
	r.env.SignalWorkflow(string(kind), m)
}

// status asks the rotation about itself.
func (r *fixture) status() rotation.Status {
	r.Helper()
	v, err := r.env.QueryWorkflow(workflows.StatusQuery)
	if err != nil {
		r.Fatal(err)
	}
	var s rotation.Status
	if err := v.Get(&s); err != nil {
		r.Fatal(err)
	}
	return s
}

// run runs the rotation to its end, and checks what must hold whatever happens.
func (r *fixture) run() rotation.Result {
	r.Helper()
	r.env.ExecuteWorkflow(workflows.RotateKey, r.in)
	if !r.env.IsWorkflowCompleted() {
		r.Fatalf("the rotation did not end; it is in %+v", r.status())
	}
	if err := r.env.GetWorkflowError(); err != nil {
		var panicked *temporal.PanicError
		if errors.As(err, &panicked) {
			r.Log(panicked.StackTrace())
		}
		r.Fatalf("the rotation failed: %v", err)
	}
	var res rotation.Result
	if err := r.env.GetWorkflowResult(&res); err != nil {
		r.Fatal(err)
	}
	r.invariants()
	return res
}

func (r *fixture) invariants() {
	r.Helper()
	for _, broken := range r.Cloud.Check(r.rules) {
		r.Error(broken)
	}
	if orphans := r.Cloud.Orphans(); len(orphans) > 0 {
		r.Errorf("orphans: %v", orphans)
	}
}

// published is the key that applications read, which must be the same in every store.
func (r *fixture) published() string {
	r.Helper()
	ids := map[string]bool{}
	for path, id := range r.Cloud.PublishedKeys() {
		if !strings.HasSuffix(path, "-rekey-pending") {
			ids[id] = true
		}
	}
	if len(ids) != 1 {
		r.Fatalf("applications read different keys: %v", r.Cloud.PublishedKeys())
	}
	for id := range ids {
		return id
	}
	return ""
}

func (r *fixture) live(id string) bool { _, ok := r.Cloud.LiveKeys()[id]; return ok }

// replaced checks that a new key stands everywhere and the old one is gone.
func (r *fixture) replaced(res rotation.Result) {
	r.Helper()
	if res.Phase != rotation.Completed {
		r.Errorf("the rotation ended as %s: %s %v", res.Phase, res.Outcome, res.FollowUps)
	}
	if r.published() == r.oldID {
		r.Error("applications still read the old key")
	}
	if r.live(r.oldID) {
		r.Error("the old key still exists")
	}
}

// unchanged checks that the old key stands everywhere and works, and that no other one is left.
func (r *fixture) unchanged(res rotation.Result) {
	r.Helper()
	if res.Phase != rotation.RolledBack {
		r.Errorf("the rotation ended as %s: %s", res.Phase, res.Outcome)
	}
	if got := r.published(); got != r.oldID {
		r.Errorf("applications read %s, want the old key %s", got, r.oldID)
	}
	if !r.live(r.oldID) {
		r.Error("the old key is gone")
	}
}

// supply does what `rekey supply` does, with a key made in the console.
func (r *fixture) supply() string {
	id, value := r.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "new")
	s := r.status()
	version, _, err := r.acts.StageSupplied(context.Background(), r.key, s.Rotation, value)
	if err != nil {
		r.Errorf("the key could not be staged: %v", err)
	}
	r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "operator", Version: version})
	return id
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
