package e2e

import (
	"context"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// resetTo resets the rotation to just before it scheduled an activity for the first time.
func (w *env) resetTo(runID, activity string) {
	w.Helper()
	ctx := context.Background()
	iter := w.Client.GetWorkflowHistory(ctx, w.id(), runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	var at int64
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			w.Fatal(err)
		}
		if e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity {
			at = e.GetActivityTaskScheduledEventAttributes().GetWorkflowTaskCompletedEventId()
			break
		}
	}
	if at == 0 {
		w.Fatalf("the history has no %s", activity)
	}
	if _, err := w.Client.ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: w.Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: w.id(), RunId: runID},
		Reason: "the test says so", WorkflowTaskFinishEventId: at, RequestId: uuid.NewString(),
	}); err != nil {
		w.Fatal(err)
	}
}
