package manykeys

import (
	"context"
	"log/slog"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/workflows"
)

// stubs is a Temporal with emergencies as they are, over rotations that only play: what such a rotation leaves in Temporal,
// and when, is the test's to say.
type stubs struct {
	testing.TB
	*testenv.Temporal
	ctx    context.Context
	keys   []rotation.Key
	worker worker.Worker
}

// newStubs has keys of these names; play is what the workflow does that stands for the rotation of each.
func newStubs(t testing.TB, play func(workflow.Context, workflows.Input) error, names ...string) *stubs {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	h := &stubs{TB: t, ctx: ctx, Temporal: testenv.StartTemporal(t, testenv.TemporalOptions{})}
	for _, name := range names {
		h.keys = append(h.keys, rotation.Key{Name: name, Provider: "played"})
	}
	standIn(t, h.Client, "played", func(ctx workflow.Context, in workflows.Input) error {
		err := workflow.SetUpdateHandler(ctx, string(rotation.RaiseEmergency), func(workflow.Context, rotation.DecisionMessage) error { return nil })
		if err != nil {
			return err
		}
		return play(ctx, in)
	})
	h.work()
	t.Cleanup(func() { h.worker.Stop() })
	return h
}

// launcher is a worker's launcher with these keys and nothing else.
func launcher(c sdkclient.Client, keys []rotation.Key) *activities.Launcher {
	return &activities.Launcher{
		Environment: &activities.Environment{
			Install: "scene1", Providers: map[string]provider.Provider{}, Stores: map[string]store.Store{},
			Allow: func(rotation.Key) error { return nil }, Keys: func() []rotation.Key { return keys },
			Now: time.Now, Audit: slog.New(slog.DiscardHandler),
		},
		Starter: client.New(c), Index: &activities.Index{},
	}
}

// work starts a worker for the emergencies.
func (h *stubs) work(interceptors ...interceptor.WorkerInterceptor) {
	h.Helper()
	h.worker = worker.New(h.Client, workflows.TaskQueue, worker.Options{Interceptors: append(interceptors, &activities.Interceptor{})})
	workflows.RegisterLaunch(h.worker)
	if err := activities.RegisterLaunch(h.worker, launcher(h.Client, h.keys)); err != nil {
		h.Fatal(err)
	}
	if err := h.worker.Start(); err != nil {
		h.Fatal(err)
	}
}

// start raises an emergency over all keys.
func (h *stubs) start(concurrency int) {
	h.Helper()
	in := workflows.EmergencyInput{ID: "em1", Concurrency: concurrency, Message: rotation.DecisionMessage{By: "test", Why: "leaked"}}
	for _, k := range h.keys {
		in.Keys = append(in.Keys, k.Name)
	}
	if err := client.New(h.Client).StartEmergency(h.ctx, in); err != nil {
		h.Fatal(err)
	}
}

// progress is how the emergency stands.
func (h *stubs) progress() workflows.EmergencyProgress {
	h.Helper()
	f, _, err := client.New(h.Client).EmergencyProgress(h.ctx, "em1")
	if err != nil {
		h.Fatal(err)
	}
	return f
}

// until waits for something that is to come.
func (h *stubs) until(what string, has func() bool) {
	h.Helper()
	for !has() {
		select {
		case <-h.ctx.Done():
			h.Fatalf("in vain: %s; %+v", what, h.progress())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// row is how a key stands.
func (h *stubs) row(key string) workflows.KeyProgress {
	h.Helper()
	for _, r := range h.progress().Keys {
		if r.Key == key {
			return r
		}
	}
	h.Fatalf("no row of %s", key)
	return workflows.KeyProgress{}
}

// served leaves in Temporal what a rotation leaves that has served its emergencies.
func served(ctx workflow.Context, in workflows.Input) error {
	now := workflow.Now(ctx)
	res := rotation.Result{Key: in.Key.Name, Phase: rotation.Completed, Outcome: "Replaced.", StartedAt: now, EndedAt: now.Add(time.Second), PublishedAt: now, RevokedAt: now}
	for _, d := range in.Emergencies {
		d.Kind = rotation.RaiseEmergency
		res.Decisions = append(res.Decisions, d)
	}
	return workflow.UpsertMemo(ctx, map[string]any{workflows.ResultMemo: res})
}

// waits waits for a person, which is the signal "go".
func waits(ctx workflow.Context) error {
	if err := workflow.UpsertTypedSearchAttributes(ctx, workflows.PhaseAttribute.ValueSet(string(rotation.AwaitingKey))); err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	return nil
}
