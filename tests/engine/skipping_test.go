package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/sdktest"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// skipping runs rotations on Temporal's skipping clock, from run to run of the workflow.
type skipping struct {
	fixture
	in    workflows.Input
	env   atomic.Pointer[testsuite.TestWorkflowEnvironment]
	suite testsuite.WorkflowTestSuite
	begin time.Time
	// id is the workflow's.
	id string
	// ahead is how far the worker's clock is ahead of the server's.
	ahead   time.Duration
	moments []*moment
	// cut: the test ended the rotation where it stood.
	cut bool
	// histories are how many events each run has written, about.
	histories []int
	// crowded counts the activities since the clock moved on.
	crowded int
	moved   time.Time
}

// moment is what a test does at a time of the virtual clock.
type moment struct {
	after time.Duration
	do    func()
	done  bool
}

func newSkipping(t *testing.T, s setup) *skipping {
	t.Helper()
	// Certificates are dated by the real clock; Google refuses those from the future.
	r := &skipping{id: workflows.ID(s.name), begin: time.Now().UTC().Truncate(time.Second)}
	r.suite.SetLogger(testenv.Silent)
	r.newEnv(r.begin)
	r.fixture = newFixture(t, s, r.now, func() time.Time { return r.now().Add(r.ahead) })
	r.in = workflows.Input{Key: r.key, Reason: rotation.Manual, By: "test"}
	return r
}

// emergency makes the rotation one of an emergency from the start.
func (r *skipping) emergency(m rotation.DecisionMessage) {
	r.in.Reason, r.in.Emergencies = rotation.Emergency, []rotation.Decision{{Kind: rotation.RaiseEmergency, DecisionMessage: m}}
}

func (r *skipping) now() time.Time { return r.env.Load().Now() }

func (r *skipping) newEnv(now time.Time) *testsuite.TestWorkflowEnvironment {
	env := r.suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(20 * time.Second)
	env.SetStartTime(now)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: r.id})
	r.env.Store(env)
	return env
}

// at does something when the virtual clock has come that far, in whatever run of the workflow.
func (r *skipping) at(after time.Duration, do func()) {
	m := &moment{after: after, do: do}
	if r.moments = append(r.moments, m); len(r.histories) > 0 {
		r.await(m)
	}
}

// await lets a moment come in the present run.
func (r *skipping) await(m *moment) {
	r.env.Load().RegisterDelayedCallback(func() { m.done = true; m.do() }, r.begin.Add(m.after).Sub(r.now()))
}

// every does something n times.
func (r *skipping) every(interval time.Duration, n int, after time.Duration, do func(i int)) {
	var next func(i int)
	next = func(i int) {
		if do(i); i+1 < n {
			r.at(after+time.Duration(i+1)*interval, func() { next(i + 1) })
		}
	}
	r.at(after, func() { next(0) })
}

func (r *skipping) signal(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	if m.By == "" {
		m.By, m.Why = "operator", "the test says so"
	}
	r.send(kind, m)
}

func (r *skipping) send(kind rotation.DecisionKind, payload any) {
	r.env.Load().SignalWorkflow(string(kind), payload)
}

// takes sends an update that must be taken.
func (r *skipping) takes(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	r.env.Load().UpdateWorkflow(string(kind), m.ID, &answer{r}, m)
}

// answer fails the test where an update is not taken.
type answer struct{ r *skipping }

func (answer) Accept()            {}
func (a answer) Reject(err error) { a.r.Errorf("an update was refused: %v", err) }
func (a answer) Complete(_ any, err error) {
	if err != nil {
		a.r.Errorf("an update failed: %v", err)
	}
}

func (r *skipping) status() (s rotation.Status) {
	r.Helper()
	v, err := r.env.Load().QueryWorkflow(workflows.StatusQuery)
	if err == nil {
		err = v.Get(&s)
	}
	if err != nil {
		r.Errorf("the rotation does not tell how it stands: %v", err)
	}
	return s
}

// task is what a workflow task adds to a history, suggested the length from which on Temporal suggests to continue in
// another run, by default.
const (
	task      = 3
	suggested = 4096
)

// wrote counts events of the present run, and suggests to continue as Temporal does. Only the workflow calls it.
func (r *skipping) wrote(events int) {
	n := &r.histories[len(r.histories)-1]
	*n += events
	r.env.Load().SetCurrentHistoryLength(*n)
	r.env.Load().SetContinueAsNewSuggested(*n > suggested)
}

// longest is the length of the longest history.
func (r *skipping) longest() int {
	n := 0
	for _, h := range r.histories {
		n = max(n, h)
	}
	return n
}

// run runs the rotation, and those that follow it in the same workflow, to the end. It must come within the limit.
func (r *skipping) run(limit time.Duration) (res rotation.Result) {
	r.Helper()
	defer func() {
		if hangs := recover(); hangs != nil {
			r.Fatalf("the rotation hangs: %.300v", hangs)
		}
	}()
	r.at(limit, func() {
		r.Errorf("the rotation has not ended after %s:\n%s", limit, r.status().Details)
		r.end()
	})
	for range 100 {
		if again := r.once(&res); again == nil {
			break
		} else if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &r.in); err != nil {
			r.Fatal(err)
		}
		r.newEnv(r.now())
		r.env.Load().SetContinuedExecutionRunID("the run before")
	}
	if r.cut {
		for _, broken := range r.Cloud.Check(r.rules) {
			r.Error(broken)
		}
		if r.Failed() {
			r.FailNow()
		}
		return res
	}
	r.invariants()
	for _, m := range r.moments {
		if !m.done && m.after < limit {
			r.Errorf("the rotation ended before %s: %s", m.after, res.Outcome)
		}
	}
	return res
}

// once runs one run of the workflow. It returns how it goes on, if it does.
func (r *skipping) once(res *rotation.Result) *workflow.ContinueAsNewError {
	r.Helper()
	env := r.env.Load()
	r.histories = append(r.histories, 2+task)
	r.crowded, r.moved = 0, time.Time{}
	env.SetWorkerOptions(worker.Options{
		Interceptors: append([]interceptor.WorkerInterceptor{&watcher{r: r}}, append(sdktest.Interceptors(env), &activities.Interceptor{})...), DeadlockDetectionTimeout: 3 * time.Second,
	})
	workflows.RegisterRotation(env)
	if err := r.Setup.RegisterRotation(env, r.rotations); err != nil {
		r.Fatal(err)
	}
	env.SetOnTimerScheduledListener(func(string, time.Duration) { r.wrote(2 + task) })
	for _, m := range r.moments {
		if !m.done {
			r.await(m)
		}
	}
	env.ExecuteWorkflow(workflows.RotateKey, r.in)
	err := env.GetWorkflowError()
	if again, ok := errors.AsType[*workflow.ContinueAsNewError](err); ok {
		return again
	}
	var app *temporal.ApplicationError
	switch {
	case errors.As(err, &app) && app.Type() == ended:
		return nil // and said why
	case err != nil:
		r.Fatalf("the rotation failed: %.400v", err)
	}
	if err := env.GetWorkflowResult(res); err != nil {
		r.Fatal(err)
	}
	return nil
}

// ended is the signal and the error with which a test ends a rotation that it has seen enough of.
const ended = "the test has ended"

// end ends the rotation where it stands.
func (r *skipping) end() {
	r.cut = true
	r.env.Load().SignalWorkflow(ended, nil)
}

// watcher counts what a rotation does, lets a test end it, and fails one that turns without time passing.
type watcher struct {
	interceptor.WorkerInterceptorBase
	r *skipping
}

func (w *watcher) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &watched{WorkflowInboundInterceptorBase: interceptor.WorkflowInboundInterceptorBase{Next: next}, r: w.r}
}

type watched struct {
	interceptor.WorkflowInboundInterceptorBase
	r *skipping
}

func (w *watched) Init(out interceptor.WorkflowOutboundInterceptor) error {
	return w.Next.Init(&counting{WorkflowOutboundInterceptorBase: interceptor.WorkflowOutboundInterceptorBase{Next: out}, r: w.r})
}

func (w *watched) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (out any, err error) {
	done := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		out, err = w.Next.ExecuteWorkflow(ctx, in)
		done = true
	})
	end := workflow.GetSignalChannel(ctx, ended)
	if waited := workflow.Await(ctx, func() bool { return done || end.Len() > 0 }); !done && waited == nil {
		return nil, temporal.NewNonRetryableApplicationError(ended, ended, nil)
	}
	// The workflow itself does not end when it is cancelled.
	free, _ := workflow.NewDisconnectedContext(ctx)
	if waited := workflow.Await(free, func() bool { return done || end.Len() > 0 }); !done && waited == nil {
		return nil, temporal.NewNonRetryableApplicationError(ended, ended, nil)
	}
	return out, err
}

func (w *watched) HandleSignal(ctx workflow.Context, in *interceptor.HandleSignalInput) error {
	w.r.wrote(1 + task)
	return w.Next.HandleSignal(ctx, in)
}

type counting struct {
	interceptor.WorkflowOutboundInterceptorBase
	r *skipping
}

// most is how many activities a rotation may need in a minute.
const most = 200

func (c *counting) ExecuteActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	c.r.wrote(3 + task)
	c.r.crowded++
	if now := workflow.Now(ctx); now.Sub(c.r.moved) > time.Minute {
		c.r.moved, c.r.crowded = now, 0
	}
	if c.r.crowded > most {
		panic(fmt.Sprintf("the rotation turns without time passing: %d activities in a minute, the last is %s", most, activityType))
	}
	return c.Next.ExecuteActivity(ctx, activityType, args...)
}

func (c *counting) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	c.r.wrote(1)
	return c.Next.UpsertTypedSearchAttributes(ctx, updates...)
}

// supply does what `rekey supply` does, with a key made in the console.
func (r *skipping) supply() (id string) {
	r.Helper()
	id, value := r.OpenAI.CreateKey(r.key.Account, "new")
	version, _, err := r.Setup.StageSupplied(context.Background(), r.key, r.status().Rotation, value)
	if err != nil {
		r.Errorf("the key could not be staged: %v", err)
	}
	r.signal(rotation.KeySupplied, rotation.DecisionMessage{Version: version})
	return id
}

// words are what the team was told so far.
func (r *skipping) words() string {
	var all []string
	for _, m := range r.Post.Messages() {
		if m.Service == simcloud.SlackService {
			all = append(all, m.Text)
		}
	}
	return strings.Join(all, "\n\n")
}

// wantTold checks that a person can see that the rotation does not get on: it has a deadline, and the team was told.
func (r *skipping) wantTold() {
	r.Helper()
	s := r.status()
	if s.Deadline.IsZero() {
		r.Errorf("nobody sees that it does not get on: there is no deadline\n%s", s.Details)
	}
	if len(s.Deliveries) == 0 || s.Deliveries[0].Channel != scenario.Team || r.words() == "" {
		r.Errorf("nobody was told: %+v %q", s.Deliveries, r.words())
	}
	if strings.Contains(s.Details, "No action needed") {
		r.Errorf("the details say that nothing is to be done:\n%s", s.Details)
	}
}
