package manykeys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func TestScheduleAndPersonAndTwoEmergenciesInOneInstantAreOneRotationAtATime(t *testing.T) {
	t.Parallel()
	const keys = 8
	turns := &turnstile{inside: map[string]int{}}
	w := newEnv(t, keys, nil, turns)
	var all sync.WaitGroup
	for i, k := range w.keys {
		starts := []func(){
			func() {
				_, err := w.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{ID: workflows.DispatchID(k.Name), TaskQueue: workflows.TaskQueue},
					workflows.Dispatch, workflows.DispatchInput{Key: k, Install: "scene1"})
				if err != nil {
					t.Error(err)
				}
			},
			func() { w.start(k, rotation.Manual) },
			func() {
				m := rotation.DecisionMessage{ID: fmt.Sprintf("hook-%d", i), By: "webhook", Why: "found in a repository"}
				if err := (client.New(w.Client)).Raise(context.Background(), k, m); err != nil {
					t.Error(err)
				}
			},
			func() {
				f := w.emergency(fmt.Sprintf("person-%d", i), 1, k)
				if !f.Complete() {
					t.Errorf("%+v", f)
				}
			},
		}
		rand.Shuffle(len(starts), func(a, b int) { starts[a], starts[b] = starts[b], starts[a] })
		for _, start := range starts {
			all.Go(start)
		}
	}
	all.Wait()
	live := w.Cloud.LiveKeys()
	for _, k := range w.keys {
		w.ended(k)
		if _, works := live[w.old[k.Name]]; works {
			t.Errorf("what leaked of %s still works", k.Name)
		}
		for _, broken := range w.Cloud.Check(scenario.Rules(k.Name, scenario.Alias)) {
			t.Error(broken)
		}
		w.fewAtOnce(k)
		w.servedBoth(k)
	}
	if turns.steps == 0 || len(turns.broken) > 0 {
		t.Errorf("%d steps; two at once of %v", turns.steps, turns.broken)
	}
	if len(w.Cloud.LiveKeys()) != keys || len(w.Cloud.Orphans()) > 0 {
		t.Errorf("live: %v, orphans: %v", w.Cloud.LiveKeys(), w.Cloud.Orphans())
	}
}

// turnstile sees when two steps of one key are under way at once, which no single rotation does.
type turnstile struct {
	interceptor.WorkerInterceptorBase
	mu     sync.Mutex
	inside map[string]int
	steps  int
	broken []string
}

func (x *turnstile) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &passing{interceptor.ActivityInboundInterceptorBase{Next: next}, x}
}

type passing struct {
	interceptor.ActivityInboundInterceptorBase
	x *turnstile
}

func (p *passing) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if key, ok := workflows.KeyOfID(activity.GetInfo(ctx).WorkflowExecution.ID); ok {
		p.x.enter(key, 1)
		defer p.x.enter(key, -1)
	}
	return p.Next.ExecuteActivity(ctx, in)
}

func (x *turnstile) enter(key string, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.steps++
	if x.inside[key] += n; x.inside[key] > 1 {
		x.broken = append(x.broken, key)
	}
}

// fewAtOnce checks from the journal that one key is left, and that there were never more at once than the old one, the
// new one, and one for each of the two emergencies that may have cut a rotation short.
func (w *env) fewAtOnce(k rotation.Key) {
	w.Helper()
	live, most := 0, 0
	for _, e := range w.Cloud.Journal() {
		if e.Target != k.Account {
			continue
		}
		switch e.Kind {
		case simcloud.KeyCreated:
			live++
		case simcloud.KeyDeleted:
			live--
		}
		most = max(most, live)
	}
	if most < 2 || most > 4 || live != 1 {
		w.Errorf("%d keys of %s were live at once, %d in the end", most, k.Name, live)
	}
}

// servedBoth checks that each emergency stands with a rotation that ended, and that no value that was made before it
// works any more.
func (w *env) servedBoth(k rotation.Key) {
	w.Helper()
	ctx := context.Background()
	live := w.Cloud.LiveKeys()
	var served []string
	list, err := w.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = %q", workflows.ID(k.Name))})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		var res rotation.Result
		if err := client.New(w.Client).WaitRun(ctx, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), &res); err != nil {
			w.Fatal(err)
		}
		for _, d := range res.Decisions {
			if d.Kind != rotation.RaiseEmergency {
				continue
			}
			served = append(served, d.By)
			for _, e := range w.Cloud.Journal() {
				if _, works := live[e.KeyID]; works && e.Kind == simcloud.KeyCreated && e.Target == k.Account && e.At.Before(d.At) {
					w.Errorf("%s: a key that was made before the emergency of %s still works", k.Name, d.By)
				}
			}
		}
	}
	slices.Sort(served)
	if got := slices.Compact(served); !slices.Equal(got, []string{"test", "webhook"}) {
		w.Errorf("%s: emergencies of %v were served", k.Name, got)
	}
}
