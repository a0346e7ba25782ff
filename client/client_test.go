package client_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

var (
	_ activities.Starter   = &client.Client{}
	_ activities.Rotations = &client.Client{}
)

// deaf loses answers: the request is carried out, and whoever asked hears nothing. Each counter is how many are still to
// be lost.
type deaf struct {
	sdkclient.Client
	starts, updates, describes atomic.Int32
}

func (d *deaf) ExecuteWorkflow(ctx context.Context, o sdkclient.StartWorkflowOptions, w any, args ...any) (sdkclient.WorkflowRun, error) {
	run, err := d.Client.ExecuteWorkflow(ctx, o, w, args...)
	if d.starts.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return run, err
}

func (d *deaf) UpdateWorkflow(ctx context.Context, o sdkclient.UpdateWorkflowOptions) (sdkclient.WorkflowUpdateHandle, error) {
	h, err := d.Client.UpdateWorkflow(ctx, o)
	if d.updates.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return h, err
}

func (d *deaf) DescribeWorkflowExecution(ctx context.Context, id, run string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if d.describes.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return d.Client.DescribeWorkflowExecution(ctx, id, run)
}

// limited is far more time than any test here needs.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// nobodys is a key of a provider that no worker works for.
func nobodys(name string) rotation.Key { return rotation.Key{Name: name, Provider: "nobody"} }

func mustStart(t *testing.T, c *client.Client, k rotation.Key) sdkclient.WorkflowRun {
	t.Helper()
	run, err := c.Start(limited(t), client.Request{Key: k, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// until watches a rotation as far as a phase.
func until(t *testing.T, c *client.Client, key string, p rotation.Phase) rotation.Status {
	t.Helper()
	for step, err := range c.Watch(limited(t), key) {
		if err != nil {
			t.Fatal(err)
		}
		if step.Phase == p && step.Status != nil {
			return *step.Status
		}
	}
	t.Fatalf("the rotation of %s was never seen in %s", key, p)
	return rotation.Status{}
}

func TestWhatIsNotThereIsSaidAsAnErrorOfItsOwn(t *testing.T) {
	t.Parallel()
	c, ctx := client.New(temporal), limited(t)
	for name, c := range map[string]struct {
		want error
		ask  func() error
	}{
		"Status":            {client.ErrNotFound, func() error { _, err := c.Status(ctx, "nothing"); return err }},
		"Result":            {client.ErrNotFound, func() error { _, _, err := c.Result(ctx, "nothing"); return err }},
		"Wait":              {client.ErrNotFound, func() error { _, err := c.Wait(ctx, "nothing"); return err }},
		"EmergencyProgress": {client.ErrNotFound, func() error { _, _, err := c.EmergencyProgress(ctx, "nothing"); return err }},
		"WaitEmergency":     {client.ErrNotFound, func() error { _, err := c.WaitEmergency(ctx, "nothing"); return err }},
		"Decide": {client.ErrNotRunning, func() error {
			_, err := c.Decide(ctx, "nothing", rotation.RollBack, rotation.DecisionMessage{By: "test", Why: "test"})
			return err
		}},
		"Watch": {client.ErrNotFound, func() (last error) {
			for _, err := range c.Watch(ctx, "nothing") {
				last = err
			}
			return last
		}},
	} {
		if err := c.ask(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := c.Latest(ctx, "nothing"); err != nil || s.Known {
		t.Errorf("Latest: %+v, %v", s, err)
	}
	if _, runs, err := c.Running(ctx, "nothing"); err != nil || runs {
		t.Errorf("Running: %v, %v", runs, err)
	}
	if latest, own, err := c.FindByToken(ctx, "nothing", "token"); err != nil || latest != nil || own != nil {
		t.Errorf("FindByToken: %v, %v, %v", latest, own, err)
	}
}

func TestARotationThatIsRunningIsNotStartedAgain(t *testing.T) {
	t.Parallel()
	c, k := client.New(temporal), nobodys("twice")
	mustStart(t, c, k)
	if _, err := c.StartIfDue(limited(t), k, "test", "test"); !errors.Is(err, client.ErrRunning) {
		t.Errorf("StartIfDue: %v", err)
	}
	if started, err := c.StartManual(limited(t), k, "test", "test"); err != nil || started {
		t.Errorf("StartManual: %v, %v", started, err)
	}
	if since, runs, err := c.Running(limited(t), k.Name); err != nil || !runs || time.Since(since) > time.Minute {
		t.Errorf("Running: %s, %v, %v", since, runs, err)
	}
}

func TestWhereNoWorkerAnswersItIsSaid(t *testing.T) {
	t.Parallel()
	c := client.New(temporal)
	mustStart(t, c, nobodys("unattended"))
	if _, err := c.Status(limited(t), "unattended"); !errors.Is(err, client.ErrNoWorker) {
		t.Errorf("Status: %v", err)
	}
	if _, ended, err := c.Result(limited(t), "unattended"); err != nil || ended {
		t.Errorf("Result: %v, %v", ended, err)
	}
}

func TestWhatWasTerminatedHasNoResultAndSaysSo(t *testing.T) {
	t.Parallel()
	c, ctx := client.New(temporal), limited(t)
	run := mustStart(t, c, nobodys("terminated"))
	if err := temporal.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, "terminated"); !errors.Is(err, client.ErrTerminated) {
		t.Errorf("Wait: %v", err)
	}
	res, ended, err := c.Result(ctx, "terminated")
	if err != nil || !ended || res.Phase != "terminated" || res.Outcome == "" {
		t.Errorf("Result: %+v, %v, %v", res, ended, err)
	}
	var steps []client.Step
	for step, err := range c.Watch(ctx, "terminated") {
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if len(steps) != 1 || steps[0].Phase != "terminated" || steps[0].Result == nil {
		t.Errorf("Watch: %+v", steps)
	}
}

func TestAStartWhoseAnswerIsLostIsStartedOnce(t *testing.T) {
	t.Parallel()
	d := &deaf{Client: temporal}
	d.starts.Store(1)
	run, err := client.New(d).Start(limited(t), client.Request{Key: keys["lost-start"], By: "test", Token: "lost"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.New(temporal).Wait(limited(t), "lost-start")
	if err != nil || res.Phase != rotation.Completed {
		t.Fatalf("%+v, %v", res, err)
	}
	info, err := temporal.DescribeWorkflowExecution(limited(t), run.GetID(), "")
	if err != nil || info.GetWorkflowExecutionInfo().GetExecution().GetRunId() != run.GetRunID() {
		t.Errorf("it was started as %s, and the latest run is %v (%v)", run.GetRunID(), info.GetWorkflowExecutionInfo().GetExecution(), err)
	}
	if _, own, err := client.New(temporal).FindByToken(limited(t), "lost-start", "lost"); err != nil || own == nil || own.Result == nil {
		t.Errorf("FindByToken: %+v, %v", own, err)
	}
	// The same for what is no rotation.
	d.starts.Store(1)
	if taken, err := client.New(d).StartTrigger(limited(t), workflows.TriggerInput{Source: "ci", Delivery: "1", Keys: []string{"nothing"}}); err != nil || !taken {
		t.Errorf("StartTrigger: %v, %v", taken, err)
	}
	if taken, err := client.New(d).StartTrigger(limited(t), workflows.TriggerInput{Source: "ci", Delivery: "1", Keys: []string{"nothing"}}); err != nil || taken {
		t.Errorf("StartTrigger, again: %v, %v", taken, err)
	}
}

func TestADecisionIsTakenOnceOrRefusedWithAReason(t *testing.T) {
	t.Parallel()
	d := &deaf{Client: temporal}
	c, ctx := client.New(d), limited(t)
	mustStart(t, c, keys["openai-decide"])
	if s := until(t, c, "openai-decide", rotation.AwaitingKey); s.Deadline.IsZero() {
		t.Errorf("no deadline: %+v", s)
	}
	_, err := c.Decide(ctx, "openai-decide", rotation.Approve, rotation.DecisionMessage{By: "test"})
	if no, ok := errors.AsType[*rotation.RejectedDecision](err); !ok || no.Message == "" {
		t.Errorf("an approval that nobody asked for: %v", err)
	}
	d.updates.Store(1)
	if _, err := c.Decide(ctx, "openai-decide", rotation.AddNote, rotation.DecisionMessage{By: "test", Why: "asked Kim"}); err != nil {
		t.Errorf("a note whose answer was lost: %v", err)
	}
	// The last answer of a rotation is lost with it: it has ended when it is asked again.
	d.updates.Store(1)
	if _, err := c.Decide(ctx, "openai-decide", rotation.RollBack, rotation.DecisionMessage{By: "test", Why: "test"}); err != nil {
		t.Errorf("a roll-back whose answer was lost: %v", err)
	}
	res, err := c.Wait(ctx, "openai-decide")
	if err != nil || res.Phase != rotation.RolledBack || len(res.Decisions) != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAWatchOutlivesAnswersThatAreLost(t *testing.T) {
	t.Parallel()
	d := &deaf{Client: temporal}
	c := client.New(d)
	mustStart(t, c, keys["openai-watch"])
	var phases []rotation.Phase
	for step, err := range c.Watch(limited(t), "openai-watch") {
		if err != nil {
			t.Fatal(err)
		}
		phases = append(phases, step.Phase)
		d.describes.Store(2)
		if step.Phase == rotation.AwaitingKey {
			if _, err := client.New(temporal).Decide(limited(t), "openai-watch", rotation.RollBack, rotation.DecisionMessage{By: "test", Why: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		if step.Result != nil && step.Result.Phase != rotation.RolledBack {
			t.Errorf("%+v", step.Result)
		}
	}
	if n := len(phases); n < 3 || phases[0] != rotation.Prepare || phases[n-1] != rotation.RolledBack {
		t.Errorf("%v", phases)
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := client.New(temporal)
	mustStart(t, c, nobodys("left-alone"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n := 0
	for _, err := range c.Watch(ctx, "left-alone") {
		if n++; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if n != 1 {
		t.Errorf("it ended after %d steps", n)
	}
}

// standIn stands in for the rotation: it is in grace until somebody says go, and ends with the number that it was given.
func standIn(ctx workflow.Context, in workflows.Input) (rotation.Result, error) {
	trail := []rotation.TrailEntry{{Phase: rotation.Grace, At: workflow.Now(ctx)}}
	err := workflow.SetQueryHandler(ctx, workflows.StatusQuery, func() (rotation.Status, error) {
		return rotation.Status{Key: in.Key.Name, Phase: rotation.Grace, Trail: trail}, nil
	})
	if err != nil {
		return rotation.Result{}, err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	now := workflow.Now(ctx)
	res := rotation.Result{Key: in.Key.Name, Phase: rotation.Completed, Outcome: in.Why, EndedAt: now.Add(time.Millisecond), Trail: append(trail, rotation.TrailEntry{Phase: rotation.Completed, At: now})}
	return res, workflow.UpsertMemo(ctx, map[string]any{workflows.ResultMemo: res})
}

func TestAWatchKeepsToItsRotationWhenAnotherOneFollows(t *testing.T) {
	t.Parallel()
	c, k := client.New(temporal), rotation.Key{Name: "followed", Provider: "stand-in"}
	w := worker.New(temporal, workflows.ProviderTaskQueue("stand-in"), worker.Options{})
	w.RegisterWorkflowWithOptions(standIn, workflow.RegisterOptions{Name: workflows.RotateKeyType})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if _, err := c.Start(limited(t), client.Request{Key: k, Why: "first"}); err != nil {
		t.Fatal(err)
	}
	var phases []rotation.Phase
	outcome := ""
	for step, err := range c.Watch(limited(t), k.Name) {
		if err != nil {
			t.Fatal(err)
		}
		phases = append(phases, step.Phase)
		switch {
		case step.Result != nil:
			outcome = step.Result.Outcome
		default:
			// While nobody looks, it ends, and another one begins.
			if err := temporal.SignalWorkflow(limited(t), workflows.ID(k.Name), "", "go", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(limited(t), k.Name); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Start(limited(t), client.Request{Key: k, Why: "second"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if outcome != "first" || len(phases) != 2 {
		t.Errorf("%v, and then: %s", phases, outcome)
	}
}

func TestAnEmergencyOfOneKeyIsRaisedOnce(t *testing.T) {
	t.Parallel()
	c, ctx := client.New(temporal), limited(t)
	m := rotation.DecisionMessage{ID: "em-raised", By: "test", Why: "leaked"}
	for range 2 {
		if err := c.Raise(ctx, keys["raised"], m); err != nil {
			t.Fatal(err)
		}
	}
	res, err := c.Wait(ctx, "raised")
	if err != nil || res.Phase != rotation.Completed || res.Reason != rotation.Emergency || len(res.Decisions) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	s, err := c.Latest(ctx, "raised")
	if err != nil || s.Running || !s.Served("em-raised") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTheInboxShowsWhatWaitsForAPerson(t *testing.T) {
	t.Parallel()
	c, ctx := client.New(temporal), limited(t)
	mustStart(t, c, keys["openai-inbox"])
	until(t, c, "openai-inbox", rotation.AwaitingKey)
	for { // the list lags
		all, err := c.Inbox(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range all {
			if w.Key == "openai-inbox" && w.Phase == rotation.AwaitingKey && !w.Deadline.IsZero() {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}
