package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/rotations"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scene"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func TestScheduleAndPersonAndTwoEmergenciesInOneInstantAreOneRotationAtATime(t *testing.T) {
	const keys = 8
	w := newTown(t, keys, nil)
	var all sync.WaitGroup
	for i, k := range w.keys {
		starts := []func(){
			func() {
				_, err := w.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: workflows.DispatchID(k.Name), TaskQueue: workflows.TaskQueue},
					workflows.Dispatch, workflows.DispatchInput{Key: k, Install: "scene1"})
				if err != nil {
					t.Error(err)
				}
			},
			func() { w.start(k, rotation.Manual) },
			func() {
				m := rotation.Message{ID: fmt.Sprintf("hook-%d", i), By: "webhook", Why: "found in a repository"}
				if err := (rotations.Live{Client: w.client}).Raise(context.Background(), k, m); err != nil {
					t.Error(err)
				}
			},
			func() {
				f := w.emergency(fmt.Sprintf("fleet-%d", i), 1, k)
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
		for _, broken := range w.Cloud.Check(scene.Rules(k.Name, scene.Alias)) {
			t.Error(broken)
		}
		w.oneAtATime(k)
		w.servedBoth(k)
	}
	if len(w.Cloud.LiveKeys()) != keys || len(w.Cloud.Orphans()) > 0 {
		t.Errorf("live: %v, orphans: %v", w.Cloud.LiveKeys(), w.Cloud.Orphans())
	}
}

// oneAtATime checks from the journal that never more than two keys of an account were live: the old and the new one of
// one rotation.
func (w *town) oneAtATime(k rotation.Key) {
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
	if most != 2 || live != 1 {
		w.Errorf("%d keys of %s were live at once, %d in the end", most, k.Name, live)
	}
}

// servedBoth checks that each emergency stands with a rotation that ended, and that no value that was made before it
// works any more.
func (w *town) servedBoth(k rotation.Key) {
	w.Helper()
	ctx := context.Background()
	live := w.Cloud.LiveKeys()
	var served []string
	list, err := w.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = %q", workflows.ID(k.Name))})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		var res rotation.Result
		if err := w.client.GetWorkflow(ctx, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()).Get(ctx, &res); err != nil {
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
