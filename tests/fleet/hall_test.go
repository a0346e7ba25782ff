package fleet

import (
	"context"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// hall is a Temporal in memory with emergencies as they are, over rotations that only play: what such a rotation leaves in
// Temporal, and when, is the test's to say.
type hall struct {
	testing.TB
	ctx    context.Context
	client sdkclient.Client
	keys   []rotation.Key
	worker worker.Worker
}

// newHall has keys of these names; play is what the workflow does that stands for the rotation of each.
func newHall(t testing.TB, play func(workflow.Context, workflows.Input) error, names ...string) *hall {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	server, err := devserver.Start(ctx, devserver.Options{SearchAttributes: workflows.SearchAttributes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	h := &hall{TB: t, ctx: ctx}
	if h.client, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: server.HostPort(), Logger: silent}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.Close)
	for _, name := range names {
		h.keys = append(h.keys, rotation.Key{Name: name, Provider: "played"})
	}
	players := worker.New(h.client, workflows.ProviderTaskQueue("played"), worker.Options{})
	players.RegisterWorkflowWithOptions(func(ctx workflow.Context, in workflows.Input) error {
		err := workflow.SetUpdateHandler(ctx, string(rotation.RaiseEmergency), func(workflow.Context, rotation.DecisionMessage) error { return nil })
		if err != nil {
			return err
		}
		return play(ctx, in)
	}, workflow.RegisterOptions{Name: "RotateKey"})
	if err := players.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(players.Stop)
	h.work()
	t.Cleanup(func() { h.worker.Stop() })
	return h
}

// work starts a worker for the emergencies.
func (h *hall) work(interceptors ...interceptor.WorkerInterceptor) {
	h.Helper()
	acts := &activities.Activities{Starter: client.Client{Temporal: h.client}, Keys: func() []rotation.Key { return h.keys }}
	h.worker = worker.New(h.client, workflows.TaskQueue, worker.Options{Interceptors: append(interceptors, &activities.Interceptor{})})
	workflows.RegisterLaunch(h.worker)
	acts.RegisterLaunch(h.worker)
	if err := h.worker.Start(); err != nil {
		h.Fatal(err)
	}
}

// start raises an emergency over all keys.
func (h *hall) start(concurrency int) {
	h.Helper()
	in := workflows.EmergencyInput{ID: "em1", Concurrency: concurrency, Message: rotation.DecisionMessage{By: "test", Why: "leaked"}}
	for _, k := range h.keys {
		in.Keys = append(in.Keys, k.Name)
	}
	if err := client.StartEmergency(h.ctx, h.client, in); err != nil {
		h.Fatal(err)
	}
}

// progress is how the emergency stands.
func (h *hall) progress() workflows.EmergencyProgress {
	h.Helper()
	f, _, err := client.EmergencyProgress(h.ctx, h.client, "em1")
	if err != nil {
		h.Fatal(err)
	}
	return f
}

// until waits for something that is to come.
func (h *hall) until(what string, has func() bool) {
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
func (h *hall) row(key string) workflows.KeyProgress {
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
