package client_test

import (
	"context"
	"errors"
	"testing"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// blind is a Temporal that starts nothing because it runs already, and shows nobody what there is.
type blind struct {
	sdkclient.Client
	describe error
	lists    int
}

func (b *blind) ExecuteWorkflow(context.Context, sdkclient.StartWorkflowOptions, any, ...any) (sdkclient.WorkflowRun, error) {
	return nil, serviceerror.NewWorkflowExecutionAlreadyStarted("already started", "", "")
}

func (b *blind) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{}, b.describe
}

func (b *blind) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	b.lists++
	return nil, serviceerror.NewPermissionDenied("no list", "")
}

func TestThatItRunsAlreadyIsAnAnswerAlsoWhereNobodyCanLook(t *testing.T) {
	for sentence, describe := range map[string]error{"it can be described": nil, "it cannot": serviceerror.NewPermissionDenied("no look", "")} {
		t.Run(sentence, func(t *testing.T) {
			b := &blind{describe: describe}
			in := client.Request{Key: rotation.Key{Name: "key", Provider: "google"}, Reason: rotation.Manual}
			if _, err := client.New(b).Start(t.Context(), in); !errors.Is(err, client.ErrRunning) {
				t.Errorf("Start: %v", err)
			}
			if taken, err := client.New(b).StartTrigger(t.Context(), workflows.TriggerInput{Source: "ci", Delivery: "1"}); taken || err != nil {
				t.Errorf("StartTrigger: %v, %v", taken, err)
			}
			if err := client.New(b).StartEmergency(t.Context(), workflows.EmergencyInput{ID: "em"}); err != nil {
				t.Errorf("StartEmergency: %v", err)
			}
			if b.lists > 0 {
				t.Errorf("it looked into the list %d times", b.lists)
			}
		})
	}
}
