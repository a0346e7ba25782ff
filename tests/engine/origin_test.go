package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func TestAMadeUpStateIsRefusedHoweverItIsStarted(t *testing.T) {
	t.Parallel()
	for sentence, cron := range map[string]string{"as it is": "", "by a cron schedule, whose second run goes on from the first": "@every 1s"} {
		t.Run(sentence, func(t *testing.T) {
			l := newLive(t, googleKey())
			ctx := context.Background()
			in := workflows.Input{Key: l.key, Reason: rotation.Manual, Resume: &workflows.State{
				At: rotation.State{Step: rotation.StepDelete, Commitment: rotation.ForwardOnly},
			}}
			run, err := l.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.ID(l.key.Name), TaskQueue: l.queue(), CronSchedule: cron}, workflows.RotateKey, in)
			if err != nil {
				t.Fatal(err)
			}
			if cron == "" {
				if err := run.Get(ctx, nil); err == nil || !strings.Contains(err.Error(), "cannot be started in the middle") {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			refusals := map[string]bool{}
			l.until("the second run of the cron schedule is refused", func() bool {
				d, err := l.Client.DescribeWorkflowExecution(ctx, run.GetID(), "")
				if err != nil {
					t.Fatal(err)
				}
				id := d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
				for _, e := range l.history(l.Client.GetWorkflow(ctx, run.GetID(), id)) {
					if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED {
						if text := e.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage(); !strings.Contains(text, "not started by a cron schedule") {
							t.Fatalf("a run failed with %q", text)
						}
						refusals[id] = true
					}
					if e.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
						t.Fatal("it did something")
					}
				}
				return len(refusals) > 0 && id != run.GetRunID()
			})
			l.terminate()
			for _, e := range l.Cloud.Journal() {
				if e.Kind == simcloud.KeyDeleted || e.Kind == simcloud.KeyDisabled {
					t.Errorf("%s %s", e.Kind, e.KeyID)
				}
			}
		})
	}
}

func TestARunThatTemporalRetriesIsRefused(t *testing.T) {
	t.Parallel()
	l := newLive(t, googleKey())
	ctx := context.Background()
	l.stopThinking() // nobody takes the first run before it times out
	in := workflows.Input{Key: l.key, Reason: rotation.Manual, Resume: &workflows.State{
		At: rotation.State{Step: rotation.StepDelete, Commitment: rotation.ForwardOnly},
	}}
	run, err := l.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.ID(l.key.Name), TaskQueue: l.queue(), WorkflowRunTimeout: 2 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1},
	}, workflows.RotateKey, in)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	l.until("the second run has begun", func() bool {
		d, err := l.Client.DescribeWorkflowExecution(ctx, run.GetID(), "")
		if err != nil {
			t.Fatal(err)
		}
		id = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
		return id != run.GetRunID()
	})
	l.think()
	err = l.Client.GetWorkflow(ctx, run.GetID(), id).Get(ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "not started with a retry policy") {
		t.Errorf("it ended with %v", err)
	}
	for _, e := range l.history(l.Client.GetWorkflow(ctx, run.GetID(), id)) {
		if e.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
			t.Error("it did something")
		}
	}
}
