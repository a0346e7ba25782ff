package manykeys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// executedThenTimeout makes a part of the database's answers a lie: what was asked for is done, and the server hears of a
// timeout.
func executedThenTimeout(method string, rate float64) devserver.Fault {
	return devserver.Fault{Method: method, Kind: "ExecuteAndTimeout", Rate: rate, Seed: 7}
}

// liar is a client of a Temporal whose database lies.
func liar(t *testing.T, faults ...devserver.Fault) sdkclient.Client {
	t.Helper()
	return testenv.StartTemporal(t, testenv.TemporalOptions{Own: &devserver.Options{Faults: faults}}).Client
}

// standIn works on the task queue of a provider with a workflow in the place of RotateKey.
func standIn(t testing.TB, c sdkclient.Client, provider string, w any) {
	t.Helper()
	all := worker.New(c, workflows.ProviderTaskQueue(provider), worker.Options{})
	all.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: "RotateKey"})
	if err := all.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(all.Stop)
}

// runsOf are the runs of each key's workflow, once the list has at least as many as are wanted.
func runsOf(t *testing.T, c sdkclient.Client, want int) map[string][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		all, total := map[string][]string{}, 0
		r, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = 'RotateKey'", PageSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range r.GetExecutions() {
			e := info.GetExecution()
			all[e.GetWorkflowId()] = append(all[e.GetWorkflowId()], e.GetRunId())
			total++
		}
		if total >= want {
			return all
		}
		select { // the list lags
		case <-ctx.Done():
			t.Fatalf("the list has %d of %d runs", total, want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func numbered(i int) rotation.Key {
	return rotation.Key{Name: fmt.Sprintf("key-%d", i), Provider: "google"}
}

func TestEveryAnswerToAStartIsTrueAndNothingIsStartedTwice(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		starts int
		// rotate stands in for the rotation; without one no worker is there.
		rotate any
	}{
		"rotations that run":         {starts: 200},
		"rotations that end at once": {starts: 40, rotate: func(workflow.Context, workflows.Input) error { return nil }},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			temporal := liar(t, executedThenTimeout("CreateWorkflowExecution", 0.5))
			if c.rotate != nil {
				standIn(t, temporal, "google", c.rotate)
			}
			var all sync.WaitGroup
			started := make([]string, c.starts)
			for i := range c.starts {
				all.Go(func() {
					run, err := client.New(temporal).Start(t.Context(), client.Request{Key: numbered(i), Reason: rotation.Manual})
					if err != nil {
						t.Errorf("%s: %v", numbered(i).Name, err)
						return
					}
					started[i] = run.GetRunID()
				})
			}
			all.Wait()
			if c.rotate == nil {
				for i := range 10 {
					if _, err := client.New(temporal).Start(t.Context(), client.Request{Key: numbered(i), Reason: rotation.Manual}); !errors.Is(err, client.ErrRunning) {
						t.Errorf("%s, which runs, was started again: %v", numbered(i).Name, err)
					}
				}
			}
			runs := runsOf(t, temporal, c.starts)
			for i, id := range started {
				if got := runs[workflows.ID(numbered(i).Name)]; len(got) != 1 || got[0] != id {
					t.Errorf("%s: it is said that %s was started, and Temporal has %v", numbered(i).Name, id, got)
				}
			}
		})
	}
}

func TestAStartThatNobodyLooksAfterIsAnsweredWithALie(t *testing.T) {
	t.Parallel()
	// Or the tests here would prove nothing.
	temporal := liar(t, executedThenTimeout("CreateWorkflowExecution", 0.5))
	lies := 0
	for i := range 20 {
		in := workflows.Input{Key: numbered(i), Reason: rotation.Manual}
		if _, err := temporal.ExecuteWorkflow(t.Context(), sdkclient.StartWorkflowOptions{ID: workflows.ID(in.Key.Name), TaskQueue: workflows.ProviderTaskQueue(in.Key.Provider)}, workflows.RotateKey, in); err != nil {
			lies++
		}
	}
	if runs := runsOf(t, temporal, 20); lies == 0 || len(runs) != 20 {
		t.Errorf("%d of 20 starts were said to have failed, and %d run", lies, len(runs))
	}
}

func TestEveryAnswerToADecisionIsTrue(t *testing.T) {
	t.Parallel()
	temporal := liar(t, executedThenTimeout("UpdateWorkflowExecution", 0.05))
	var taken sync.Map
	standIn(t, temporal, "google", func(ctx workflow.Context, in workflows.Input) error {
		err := workflow.SetUpdateHandler(ctx, string(rotation.AddNote), func(_ workflow.Context, m rotation.DecisionMessage) (rotation.Status, error) {
			taken.Store(in.Key.Name+m.ID, true)
			return rotation.Status{Key: in.Key.Name, Phase: rotation.Grace}, nil
		})
		if err != nil {
			return err
		}
		return workflow.Await(ctx, func() bool { return false })
	})
	const keys, notes = 3, 4
	var all sync.WaitGroup
	for i := range keys {
		if _, err := client.New(temporal).Start(t.Context(), client.Request{Key: numbered(i), Reason: rotation.Manual}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for n := range notes {
				m := rotation.DecisionMessage{ID: fmt.Sprintf("note-%d", n), By: "ada", Why: "asked Kim"}
				s, err := client.New(temporal).Decide(t.Context(), numbered(i).Name, rotation.AddNote, m)
				switch {
				case errors.Is(err, client.ErrUnknown): // which is true, whatever came of it
					taken.Store(numbered(i).Name+m.ID, true)
				case err != nil || s.Key != numbered(i).Name:
					t.Errorf("%s, %s: %+v, %v", numbered(i).Name, m.ID, s, err)
				}
			}
		})
	}
	all.Wait()
	for i := range keys {
		for n := range notes {
			if _, ok := taken.Load(fmt.Sprintf("%snote-%d", numbered(i).Name, n)); !ok {
				t.Errorf("note %d for %s was said to be taken, and was not", n, numbered(i).Name)
			}
		}
	}
}

func TestAnEmergencyOverADatabaseThatLiesReplacesEachKeyOnce(t *testing.T) {
	t.Parallel()
	const keys = 8
	w := newEnvOn(t, keys, nil, &devserver.Options{Faults: []devserver.Fault{executedThenTimeout("CreateWorkflowExecution", 0.5)}})
	f := w.emergency("lying", keys, w.keys...)
	if got := f.Counts()[workflows.Done]; got != keys {
		t.Errorf("%d of %d keys are done: %+v", got, keys, f)
	}
	made := map[string]int{}
	for _, e := range w.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated {
			made[e.Target]++
		}
	}
	for _, k := range w.keys {
		if n := made[k.Account]; n != 2 { // the one that it began with, and the one in its place
			t.Errorf("%s: %d keys were made", k.Name, n-1)
		}
	}
}
