package manykeys

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// watcher notes which rotation each step is of, and holds the first one up until it is told to go on.
type watcher struct {
	interceptor.WorkerInterceptorBase
	mu    sync.Mutex
	steps []string
	open  chan struct{}
}

func (w *watcher) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &watching{interceptor.ActivityInboundInterceptorBase{Next: next}, w}
}

type watching struct {
	interceptor.ActivityInboundInterceptorBase
	w *watcher
}

func (x *watching) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if key, ok := workflows.KeyOfID(activity.GetInfo(ctx).WorkflowExecution.ID); ok {
		x.w.mu.Lock()
		x.w.steps = append(x.w.steps, key)
		x.w.mu.Unlock()
		<-x.w.open
	}
	return x.Next.ExecuteActivity(ctx, in)
}

func (w *watcher) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.steps)
}

// until waits for something to become true.
func (w *env) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.Fatalf("%s: not within a minute", what)
}

// queued reports whether a step of the key's rotation waits for a worker.
func (w *env) queued(key string) bool {
	d, err := w.Client.DescribeWorkflowExecution(context.Background(), workflows.ID(key), "")
	return err == nil && slices.ContainsFunc(activityStates(d.GetPendingActivities()), func(s enumspb.PendingActivityState) bool {
		return s == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED
	})
}

func activityStates[T interface {
	GetState() enumspb.PendingActivityState
}](all []T) (states []enumspb.PendingActivityState) {
	for _, a := range all {
		states = append(states, a.GetState())
	}
	return states
}

func TestTheStepsOfAnEmergencyComeBeforeABacklogOfScheduledOnes(t *testing.T) {
	const backlog = 30
	watch := &watcher{open: make(chan struct{})}
	w := newEnv(t, backlog+1, []string{"concurrency: 1"}, watch)
	leaked := w.keys[backlog]
	for _, k := range w.keys[:backlog] {
		w.start(k, rotation.Scheduled)
	}
	w.until("one step runs and all others wait", func() bool {
		n := 0
		for _, k := range w.keys[:backlog] {
			if w.queued(k.Name) {
				n++
			}
		}
		return n == backlog-1
	})
	live := client.New(w.Client)
	if err := live.Raise(t.Context(), leaked, rotation.DecisionMessage{ID: "em1", By: "test", Why: "leaked"}); err != nil {
		t.Fatal(err)
	}
	w.until("the emergency waits too", func() bool { return w.queued(leaked.Name) })
	before := len(watch.seen())
	close(watch.open)
	w.ended(leaked)
	steps := watch.seen()[before:]
	last := len(steps) - 1
	for last >= 0 && steps[last] != leaked.Name {
		last--
	}
	steps = steps[:last+1]
	mine := 0
	for _, s := range steps {
		if s == leaked.Name {
			mine++
		}
	}
	if len(steps) == 0 || steps[0] != leaked.Name {
		t.Errorf("the first step after the one under way is not the emergency's: %s", strings.Join(steps, " "))
	}
	// While Temporal decides which step of the emergency is next, the worker does not stand still.
	if others := len(steps) - mine; others > 2*mine {
		t.Errorf("%d scheduled steps began before the last of the emergency's %d", others, mine)
	}
	t.Logf("%d steps of the emergency, %d scheduled ones between them, of a backlog of %d", mine, len(steps)-mine, backlog)
}
