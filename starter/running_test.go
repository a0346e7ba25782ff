package main

import (
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/workflows"
)

// Keys that keep apart compare when their rotations began. One that was continued as new began with its first run.
func TestARotationIsUnderWaySinceItsFirstRun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := newScheduleFixture(t, "since1")
	live := client.New(r.Client)
	if since, running, err := live.Running(ctx, "since"); err != nil || running {
		t.Errorf("before any rotation: %s, %v, %v", since, running, err)
	}
	twice := func(ctx workflow.Context, run int) error {
		workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
		if run == 1 {
			return workflow.NewContinueAsNewError(ctx, "twice", 2)
		}
		return nil
	}
	w := worker.New(r.Client, "since", worker.Options{})
	w.RegisterWorkflowWithOptions(twice, workflow.RegisterOptions{Name: "twice"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	first, err := r.Client.ExecuteWorkflow(ctx, sdkclient.StartWorkflowOptions{ID: workflows.ID("since"), TaskQueue: "since"}, "twice", 1)
	if err != nil {
		t.Fatal(err)
	}
	began, running, err := live.Running(ctx, "since")
	if err != nil || !running || began.IsZero() {
		t.Fatalf("%s, %v, %v", began, running, err)
	}
	signal := func() {
		t.Helper()
		if err := r.Client.SignalWorkflow(ctx, workflows.ID("since"), "", "go", nil); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	for {
		d, err := r.Client.DescribeWorkflowExecution(ctx, workflows.ID("since"), first.GetRunID())
		if err != nil {
			t.Fatal(err)
		}
		if d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			break
		}
	}
	if since, running, err := live.Running(ctx, "since"); err != nil || !running || !since.Equal(began) {
		t.Errorf("the second run is under way (%v) since %s, the first since %s, %v", running, since, began, err)
	}
	signal()
	if err := client.New(r.Client).WaitRun(ctx, workflows.ID("since"), "", nil); err != nil {
		t.Fatal(err)
	}
	if since, running, err := live.Running(ctx, "since"); err != nil || running {
		t.Errorf("after its end: %s, %v, %v", since, running, err)
	}
}
