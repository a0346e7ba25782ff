package testenv

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// patience is how long a test waits for what must come. After a restart of the server the pollers of a worker take most of
// a minute to come back, and longer on a busy machine.
const patience = 3 * time.Minute

// pause is for how long a test does not look meanwhile: a moment at first, and longer when it has waited for some time. Each
// look is a query, which costs the worker as much as a step.
func pause(since time.Time) {
	time.Sleep(min(max(time.Since(since)/10, 10*time.Millisecond), 100*time.Millisecond))
}

// Await waits until something has happened.
func (e *Env) Await(what string, happened func() bool) {
	e.Helper()
	for begin := time.Now(); time.Since(begin) < patience; pause(begin) {
		if happened() {
			return
		}
	}
	e.Fatalf("in vain: %s", what)
}

// Rotate starts the rotation of a key, or gives the one that is under way.
func (e *Env) Rotate(key string, reason rotation.Reason) sdkclient.WorkflowRun {
	e.Helper()
	k := e.Key(key)
	run, err := e.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{
		ID: workflows.ID(key), TaskQueue: workflows.ProviderTaskQueue(k.Provider), TypedSearchAttributes: workflows.StartAttributes(k, reason),
	}, workflows.RotateKey, workflows.Input{Key: k, Reason: reason, By: "test"})
	if err != nil {
		e.Fatal(err)
	}
	return run
}

// Status is how the latest rotation of a key stands, by its own account.
func (e *Env) Status(key string) (s rotation.Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := e.Client.QueryWorkflow(ctx, workflows.ID(key), "", workflows.StatusQuery)
	if err != nil {
		return s, err
	}
	return s, v.Get(&s)
}

// Details are what the latest rotation of a key tells operators, for messages of tests.
func (e *Env) Details(key string) string {
	s, err := e.Status(key)
	return fmt.Sprintf("%s\n%v", s.Details, err)
}

// AwaitStatus waits until the rotation of a key stands as wanted.
func (e *Env) AwaitStatus(key, what string, wanted func(rotation.Status) bool) (s rotation.Status) {
	e.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < patience; pause(begin) {
		if s, err = e.Status(key); err == nil && wanted(s) {
			return s
		}
	}
	e.Fatalf("the rotation of %s never comes to this: %s. It is in %s: %s\n%v", key, what, s.Phase, s.Details, err)
	return s
}

// AwaitPhase waits until the rotation of a key is in a phase.
func (e *Env) AwaitPhase(key string, p rotation.Phase) rotation.Status {
	e.Helper()
	return e.AwaitStatus(key, "phase "+string(p), func(s rotation.Status) bool { return s.Phase == p })
}

// Decide sends a decision as an Update, which must be taken.
func (e *Env) Decide(key string, kind rotation.DecisionKind, m rotation.DecisionMessage) {
	e.Helper()
	if err := e.TryDecide(key, kind, m); err != nil {
		e.Fatalf("%s: %v", kind, err)
	}
}

// TryDecide sends a decision as an Update.
func (e *Env) TryDecide(key string, kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h, err := e.Client.UpdateWorkflow(ctx, sdkclient.UpdateWorkflowOptions{
		WorkflowID: workflows.ID(key), UpdateID: m.ID, UpdateName: string(kind), WaitForStage: sdkclient.WorkflowUpdateStageCompleted, Args: []any{m},
	})
	if err == nil {
		err = h.Get(ctx, nil)
	}
	return err
}

// Terminate ends the rotation of a key from outside.
func (e *Env) Terminate(key string) {
	e.Helper()
	if err := e.Client.TerminateWorkflow(context.Background(), workflows.ID(key), "", "the test says so"); err != nil {
		e.Fatal(err)
	}
}

// Result waits for the end of a rotation (run empty: the latest), and of those that follow it in the same workflow.
func (e *Env) Result(key, run string) (res rotation.Result) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.New(e.Client).WaitRun(ctx, workflows.ID(key), run, &res); err != nil {
		e.Fatalf("the rotation of %s did not end well: %v\n%s", key, err, e.Details(key))
	}
	return res
}

// Invariants checks what must hold whatever happened: the rules, and that every key of the cloud is accounted for.
func (e *Env) Invariants(rules simcloud.Rules) {
	e.Helper()
	for _, broken := range e.Cloud.Check(rules) {
		e.Error(broken)
	}
	if orphans := e.Cloud.Orphans(); len(orphans) > 0 {
		e.Errorf("orphans: %v", orphans)
	}
}

// Events are the history of a run.
func (x *Temporal) Events(id, run string) (events []*historypb.HistoryEvent, err error) {
	iter := x.Client.GetWorkflowHistory(context.Background(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// Replayed reads the history of a run (empty: the latest), checks that it replays, and puts it into the corpus of
// tests/replay if it has a name there.
func (x *Temporal) Replayed(id, run, name string) (*historypb.History, error) {
	h, err := replaytest.Check(context.Background(), x.Client, id, run)
	if err == nil && name != "" {
		err = replaytest.Keep(h, name)
	}
	return h, err
}
