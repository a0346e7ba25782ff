package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// live runs rotations on a real Temporal server, with a worker for activities, and one for workflows that can be stopped.
type live struct {
	fixture
	*testenv.Temporal
	// thinker decides, doer runs activities.
	thinker, doer worker.Worker

	mu   sync.Mutex
	held map[string]*held
}

// held is an activity whose answer is kept back.
type held struct {
	answered, release chan struct{}
}

func newLive(t *testing.T, s setup) *live {
	t.Helper()
	l := &live{held: map[string]*held{}}
	l.fixture = newFixture(t, s, time.Now, nil)
	l.Temporal = testenv.StartTemporal(t, testenv.TemporalOptions{})
	l.do()
	t.Cleanup(func() { l.doer.Stop() })
	t.Cleanup(l.stopThinking)
	l.think()
	return l
}

func (l *live) queue() string { return workflows.ProviderTaskQueue(l.key.Provider) }

// do starts a worker for activities.
func (l *live) do() {
	l.Helper()
	l.doer = worker.New(l.Client, l.queue(), worker.Options{
		DisableWorkflowWorker: true, DisableRegistrationAliasing: true,
		Interceptors: []interceptor.WorkerInterceptor{&holding{l: l}, &activities.Interceptor{}},
	})
	if err := l.Setup.RegisterRotation(l.doer, neighbours{}); err != nil {
		l.Fatal(err)
	}
	if err := l.doer.Start(); err != nil {
		l.Fatal(err)
	}
}

// restart stops the worker for activities, and starts one with another rekey.yaml.
func (l *live) restart(edit func(string) string) {
	l.Helper()
	l.doer.Stop()
	if err := l.Configure(edit); err != nil {
		l.Fatal(err)
	}
	l.key = l.Key(l.key.Name)
	l.do()
}

// think starts a worker for workflows.
func (l *live) think() {
	l.Helper()
	l.thinker = worker.New(l.Client, l.queue(), worker.Options{
		LocalActivityWorkerOnly: true, DisableRegistrationAliasing: true,
		WorkerStopTimeout: 10 * time.Second, // Stop returns when nothing polls any more
	})
	workflows.RegisterRotation(l.thinker)
	if err := l.thinker.Start(); err != nil {
		l.Fatal(err)
	}
}

func (l *live) stopThinking() {
	if l.thinker != nil {
		l.thinker.Stop()
		l.thinker = nil
	}
}

// hold keeps back the answer of the next activity of that name.
func (l *live) hold(name string) *held {
	h := &held{answered: make(chan struct{}), release: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = h
	return h
}

type holding struct {
	interceptor.WorkerInterceptorBase
	l *live
}

func (h *holding) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &holder{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, l: h.l}
}

type holder struct {
	interceptor.ActivityInboundInterceptorBase
	l *live
}

func (h *holder) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	out, err := h.Next.ExecuteActivity(ctx, in)
	name := activity.GetInfo(ctx).ActivityType.Name
	h.l.mu.Lock()
	held := h.l.held[name]
	delete(h.l.held, name)
	h.l.mu.Unlock()
	if held != nil {
		close(held.answered)
		select {
		case <-held.release:
		case <-ctx.Done():
		}
	}
	return out, err
}

// together lets the answer of an activity and a signal come to the workflow in one task: no worker is there for them
// until both are in the history. begin does what leads to the activity.
func (l *live) together(name string, begin func() client.WorkflowRun, kind rotation.DecisionKind, message func() rotation.DecisionMessage) client.WorkflowRun {
	l.Helper()
	h := l.hold(name)
	run := begin()
	select {
	case <-h.answered:
	case <-time.After(20 * time.Second):
		l.Fatalf("%s did not run:\n%s", name, l.details())
	}
	m := message()
	l.stopThinking()
	close(h.release)
	answered := 0
	l.until("the answer of "+name, func() bool {
		var last string
		last, answered = lastAnswer(l.history(run))
		return last == name
	})
	l.signal(kind, m)
	// A poll that the server did not see end may have been given the task. Then it times out, and only then the signal is
	// written. A task for the worker that stopped may be scheduled again. All of that is one task to the next worker.
	l.until("the signal", func() bool {
		for _, e := range l.history(run)[answered:] {
			switch e.GetEventType() {
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
				l.Fatal("the signal came in a task of its own")
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
				return true
			}
		}
		return false
	})
	l.think()
	return run
}

// lastAnswer is the name of the activity that was answered last, and how many events there were then.
func lastAnswer(events []*historypb.HistoryEvent) (name string, after int) {
	for i, e := range slices.Backward(events) {
		if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
			// Events are numbered from one, without gaps.
			return events[a.GetScheduledEventId()-1].GetActivityTaskScheduledEventAttributes().GetActivityType().GetName(), i + 1
		}
	}
	return "", 0
}

func (l *live) history(run client.WorkflowRun) (events []*historypb.HistoryEvent) {
	l.Helper()
	iter := l.Client.GetWorkflowHistory(context.Background(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			l.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// until waits for something that happens soon.
func (l *live) until(what string, happened func() bool) {
	l.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if happened() {
			return
		}
	}
	l.Fatalf("it takes too long: %s\n%s", what, l.details())
}

func (l *live) waitFor(p rotation.Phase) {
	l.Helper()
	l.until("to come to "+string(p), func() bool { s, err := l.status(); return err == nil && s.Phase == p })
}

func (l *live) start(reason rotation.Reason) client.WorkflowRun {
	l.Helper()
	run, err := l.Client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: workflows.ID(l.key.Name), TaskQueue: l.queue(), TypedSearchAttributes: workflows.StartAttributes(l.key, reason),
	}, workflows.RotateKey, workflows.Input{Key: l.key, Reason: reason, By: "test"})
	if err != nil {
		l.Fatal(err)
	}
	return run
}

func (l *live) signal(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	l.Helper()
	if m.By == "" {
		m.By, m.Why = "operator", "the test says so"
	}
	if err := l.Client.SignalWorkflow(context.Background(), workflows.ID(l.key.Name), "", string(kind), m); err != nil {
		l.Fatal(err)
	}
}

// terminate ends the rotation from outside.
func (l *live) terminate() {
	l.Helper()
	if err := l.Client.TerminateWorkflow(context.Background(), workflows.ID(l.key.Name), "", "the test says so"); err != nil {
		l.Fatal(err)
	}
}

// reset takes the rotation back to before its first step.
func (l *live) reset(run client.WorkflowRun) client.WorkflowRun {
	l.Helper()
	var first int64
	for _, e := range l.history(run) {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			first = e.GetEventId()
			break
		}
	}
	again, err := l.Client.ResetWorkflowExecution(context.Background(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: l.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason: "the test says so", WorkflowTaskFinishEventId: first, RequestId: uuid.NewString(),
	})
	if err != nil {
		l.Fatal(err)
	}
	return l.Client.GetWorkflow(context.Background(), run.GetID(), again.GetRunId())
}

func (l *live) status() (s rotation.Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, err := l.Client.QueryWorkflow(ctx, workflows.ID(l.key.Name), "", workflows.StatusQuery)
	if err != nil {
		return s, err
	}
	return s, v.Get(&s)
}

func (l *live) details() string {
	s, err := l.status()
	return fmt.Sprintf("%s\n%v", s.Details, err)
}

// ends waits for the rotation, and those that follow it in the same workflow, to end.
func (l *live) ends(run client.WorkflowRun) (res rotation.Result) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := run.Get(ctx, &res); err != nil {
		l.Fatalf("the rotation did not end well: %v\n%s", err, l.details())
	}
	l.invariants()
	return res
}

// quick is a policy in which nothing is waited for but grace, which lasts until the test ends it.
var quick = []string{"soak: 0s", "quiet: 0s"}

// on is a setup for the real clock, on which lags are short.
func on(s setup) setup {
	s.opts.Policy = append(slices.Clone(quick), s.opts.Policy...)
	s.opts.Propagation, s.opts.RevocationLag = "10s", "10s"
	return s
}

// A2.
func TestAnEmergencySignalThatComesTogetherWithTheAnswerOfPrepareIsServed(t *testing.T) {
	t.Parallel()
	emergency := func(m rotation.DecisionMessage) func() rotation.DecisionMessage {
		return func() rotation.DecisionMessage { return m }
	}
	t.Run("where nothing was due", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey()))
		l.rules.MayDie = []string{l.oldID}
		run := l.together("Prepare", func() client.WorkflowRun { return l.start(rotation.Scheduled) }, rotation.RaiseEmergency, emergency(everything))
		l.gone(l.ends(run), l.oldID)
	})
	t.Run("where it rotates, and what leaked is to go first", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey()))
		l.rules.MayDie = []string{l.oldID}
		forgotten, _ := l.forgotten()
		m := everything
		m.RevokeFirst = true
		run := l.together("Prepare", func() client.WorkflowRun { return l.start(rotation.Manual) }, rotation.RaiseEmergency, emergency(m))
		l.gone(l.ends(run), l.oldID, forgotten)
		order := l.order(func(e simcloud.Event) bool {
			return e.KeyID == l.oldID && (e.Kind == simcloud.KeyDisabled || e.Kind == simcloud.KeyDeleted) ||
				e.Kind == simcloud.KeyCreated && e.KeyID != l.oldID && e.KeyID != forgotten
		})
		if len(order) == 0 || order[0].KeyID != l.oldID {
			t.Errorf("what leaked did not go before there was a new key: %v", order)
		}
	})
	t.Run("where it finishes what another one left", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey()))
		l.start(rotation.Manual)
		l.waitFor(rotation.Grace)
		l.terminate()
		leaked := l.made()
		l.rules.MayDie = leaked
		run := l.together("Prepare", func() client.WorkflowRun { return l.start(rotation.Scheduled) }, rotation.RaiseEmergency, emergency(everything))
		l.gone(l.ends(run), leaked...)
	})
}

// C4.
func TestAKeyThatIsSuppliedWhileAnotherOneWasCheckedIsTheOneThatCounts(t *testing.T) {
	t.Parallel()
	l := newLive(t, on(manualKey("grace: 1s")))
	version := func() rotation.DecisionMessage {
		_, v := l.OpenAI.CreateKey(l.key.Account, "new")
		number, _, err := l.Setup.StageSupplied(context.Background(), l.key, "", v)
		if err != nil {
			t.Fatal(err)
		}
		return rotation.DecisionMessage{By: "operator", Version: number}
	}
	begin := func() client.WorkflowRun {
		run := l.start(rotation.Manual)
		l.waitFor(rotation.AwaitingKey)
		l.signal(rotation.KeySupplied, version())
		return run
	}
	run := l.together("Adopt", begin, rotation.KeySupplied, version)
	l.waitFor(rotation.AwaitingRevocation)
	if made := l.made(); l.published() != made[2] {
		t.Errorf("applications read %s, want the key that was supplied last: %v", l.published(), made)
	}
	if err := l.OpenAI.DeleteKey(l.oldID); err != nil {
		t.Error(err)
	}
	l.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	l.gone(l.ends(run), l.oldID)
}

// B4.
func TestARotationThatMintsNothingNeedsNoRoomForAKey(t *testing.T) {
	t.Parallel()
	t.Run("the next one after one that was terminated", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey()))
		l.crowd()
		l.start(rotation.Manual)
		l.waitFor(rotation.Grace)
		l.terminate()
		run := l.start(rotation.Scheduled)
		l.finish(run)
		l.gone(l.ends(run), l.oldID)
	})
	t.Run("the same one after a reset", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey()))
		l.crowd()
		run := l.start(rotation.Manual)
		l.waitFor(rotation.Grace)
		run = l.reset(run)
		l.finish(run)
		l.gone(l.ends(run), l.oldID)
	})
	t.Run("what an earlier one left goes, also when the key is due", func(t *testing.T) {
		t.Parallel()
		l := newLive(t, on(googleKey("grace: 1s", "period: 2s")))
		l.crowd()
		l.start(rotation.Manual)
		l.waitFor(rotation.Grace)
		l.terminate()
		time.Sleep(2 * time.Second) // the key's period
		// At the latest the second beat has room.
		for range 2 {
			if res := l.ends(l.start(rotation.Scheduled)); res.Phase != rotation.Completed {
				t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
			}
		}
		if l.live(l.oldID) || len(l.made()) < 11 {
			t.Errorf("the old key is live: %t; keys were made: %d", l.live(l.oldID), len(l.made()))
		}
	})
}

// finish ends the grace period of a rotation, once it has begun.
func (l *live) finish(run client.WorkflowRun) {
	l.Helper()
	var ended bool
	l.until("to come to grace, or to the end", func() bool {
		d, err := l.Client.DescribeWorkflowExecution(context.Background(), run.GetID(), run.GetRunID())
		if err == nil && d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			ended = true
			return true
		}
		s, err := l.status()
		return err == nil && s.Phase == rotation.Grace
	})
	if !ended {
		l.signal(rotation.FinishGrace, rotation.DecisionMessage{})
	}
}

// C8.
func TestARotationThatFinishesBringsTheKeyToAStoreThatWasAddedMeanwhile(t *testing.T) {
	t.Parallel()
	s := on(googleKey())
	s.stores = []string{scenario.Alias}
	l := newLive(t, s)
	l.start(rotation.Manual)
	l.waitFor(rotation.Grace)
	l.terminate()
	l.addPlace()
	l.restart(elsewhere)
	run := l.start(rotation.Scheduled)
	l.finish(run)
	l.everywhere(l.ends(run))
}
